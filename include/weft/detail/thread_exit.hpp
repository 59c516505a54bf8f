// What a thread does last of all: wakes those whom its end concerns, makes a result ready.
#pragma once

#include "weft/detail/abi.hpp"

namespace weft::detail {

/// One such thing. It is the caller's own, usually the base of what `run` needs and then frees.
struct thread_exit_call {
  /// Called by the ending thread, which may still call weft; no cancellation ends its waits any more.
  void (*run)(thread_exit_call&) noexcept = nullptr;
  thread_exit_call* next = nullptr;  // at_thread_exit's
};

/// Has the calling thread call `call.run(call)` once its function, the function's arguments and whatever else is bound to the
/// thread are gone, and before anybody who joins it goes on: at the end of the function as well as of a cancellation. The last
/// one asked for is called first; one that is asked for by another comes next.
/// Never fails on a weft thread, in a region too. Threads that do not use it pay one look at a pointer.
/// @throws std::system_error(operation_not_permitted) off a weft thread: nobody owns `call` then but the caller.
void at_thread_exit(thread_exit_call& call);

/// For the scheduler: destroys the thread's values of weft::local, and then calls them all.
void run_exit_calls(thread_record& self) noexcept;

}  // namespace weft::detail
