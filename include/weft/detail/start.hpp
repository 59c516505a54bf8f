// How a function gets into a new thread: moved into a start block, and from there onto the thread's own stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "weft/detail/abi.hpp"
#include "weft/upcall.hpp"

namespace weft {

/// When a new thread runs first.
enum class start : std::uint8_t {
  later,  ///< it joins the ready queue; the caller goes on (as std::thread, the default)
  now,    ///< it runs at once, and the caller goes on when it waits or ends: few stacks live at a time, memory stays warm
};

/// Priorities go from the one to the other; 0 is what a thread has that says nothing.
inline constexpr int least_priority = -32;
inline constexpr int most_priority = 31;

/// What a thread is made of. Every member has a default: `weft::thread t({.name = "reader"}, fn)`.
struct attributes {
  std::string_view name = {};       ///< for reports and traces; the first 31 bytes are kept
  std::size_t stack = 0;            ///< bytes of address space, guard included; 0: `options::stack`
  bool tiny = false;                ///< a 2–4 KiB stack without guard, `stack` says which. Overflow corrupts: measure first, and
                                    ///< link with `-z now`, or the first call of each library function needs 3 KiB more
  enum start start = start::later;
  bool time_slice = false;  ///< its own code may be preempted at any instruction (`options::time_slice`, docs/preemption.md)
  bool floating_point_control = false;  ///< keep rounding mode and FP exception masks of this thread apart (≈ 5 ns a switch)
  int priority = 0;             ///< for policies that look at it (weft/policy.hpp): the higher, the sooner the thread runs
  time_point deadline = never;  ///< the same: when the thread's work should be done
};

namespace detail {

inline constexpr attributes usual_attributes;

// A thread's function before its first run. Freed once the function was moved to the thread's stack.
struct start_block {
  using runner = void (*)(start_block&);
  runner run = nullptr;            // moves the function out, frees the block, calls the function
  runner discard = nullptr;        // frees block and function unused
  std::uint32_t bytes = 0;         // of the whole block
  bool floating_point = false;     // attributes::floating_point_control
  void* stack_class = nullptr;     // what kind of stack it is to get; the scheduler's
  void* stack = nullptr;           // the stack it got, for the moment between getting it and running on it
  char name[32] = {};
};

/// Memory for a start block: from the scheduler's free lists, no malloc when warm.
[[nodiscard]] void* allocate_start(std::size_t bytes);
void free_start(void* block, std::size_t bytes) noexcept;

template <class Call>
struct start_block_of : start_block {
  Call call;

  template <class... A>
  explicit start_block_of(A&&... a) : call(std::forward<A>(a)...) {
    run = &start_block_of::run_thread;
    discard = &start_block_of::discard_unused;
    bytes = sizeof(start_block_of);
  }

 private:
  // The names of these two are what backtraces show below a thread's function.
  static void run_thread(start_block& b) { static_cast<start_block_of&>(b).run_call(); }
  static void discard_unused(start_block& b) { static_cast<start_block_of&>(b).destroy(); }
  void destroy() noexcept {
    std::destroy_at(this);
    free_start(this, sizeof(start_block_of));
  }
  static void invoke(Call& c) {
    std::apply([](auto& fn, auto&... args) { std::invoke(std::move(fn), std::move(args)...); }, c);
  }
  void run_call() {
    if constexpr (std::is_nothrow_move_constructible_v<Call>) {
      Call own = std::move(call);
      destroy();
      invoke(own);
    } else {
      struct cleanup {
        start_block_of* block;
        ~cleanup() { block->destroy(); }
      } at_exit{this};
      invoke(call);
    }
  }
};

struct free_start_memory {
  std::size_t bytes;
  void operator()(void* p) const noexcept { free_start(p, bytes); }
};

template <class F, class... Args>
[[nodiscard]] start_block* make_start(F&& fn, Args&&... args) {
  using call = std::tuple<std::decay_t<F>, std::decay_t<Args>...>;
  using block = start_block_of<call>;
  static_assert(alignof(block) <= alignof(std::max_align_t), "weft: a thread's arguments may not be over-aligned");
  std::unique_ptr<void, free_start_memory> memory(allocate_start(sizeof(block)), {sizeof(block)});
  block* const made = ::new (memory.get()) block(std::forward<F>(fn), std::forward<Args>(args)...);
  static_cast<void>(memory.release());
  return made;
}

/// Makes a thread of `start` (which it owns from here on, also when it throws).
/// @throws std::system_error when a limit is reached (options::max_threads, memory): the text says which.
[[nodiscard]] thread_record* spawn(const attributes& how, start_block* start);

}  // namespace detail
}  // namespace weft
