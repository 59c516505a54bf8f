// What a scheduler keeps for one activation: a kernel thread that can carry its processor.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "sched/context_identity.hpp"
#include "sched/report.hpp"
#include "sched/thread_record.hpp"
#include "weft/detail/abi.hpp"
#include "weft/detail/preemption.hpp"

namespace weft::sched {

class scheduler;
struct carrier;

/// The face of a kernel thread while it does not hold the processor: no thread is current. See abi.hpp.
struct carrier_face : detail::scheduler_face {
  carrier* of = nullptr;
  scheduler* outside_of = nullptr;  // instead: the face of this scheduler's threads in their own code (outside.cpp)
};

/// One activation. Everything here is touched by its own kernel thread only, but for `summons`, and for `place` and `outside`,
/// which others read.
struct carrier {
  carrier(scheduler& of, std::uint32_t number);
  ~carrier();
  carrier(const carrier&) = delete;
  carrier& operator=(const carrier&) = delete;
  /// First thing on its kernel thread.
  void begin();

  /// Why a thread left for this activation's own stack, for the loop that runs there.
  enum class departure : std::uint8_t {
    none,
    comes_back,  // its region has ended and the processor was taken meanwhile: it goes to the inbox
    to_carry,    // its region is to run on another kernel thread: one that stands by is called
    comes_in,    // its region has ended here, with the processor: it goes on under the processor's identity
  };

  std::uint32_t number;
  int kernel_thread = 0;  // the kernel's number for it
  scheduler* const home;
  thread_record record;  // stands for the kernel thread's own stack; never in a queue
  thread_extension extension;
  carrier_face off;
  identity own;  // of this kernel thread while it does not hold the processor
  context_notes own_notes;    // what the tools keep for that on this kernel thread's stack; `extension` has the processor's
  bool has_shared = false;    // it has the processor's identity
  bool was_displaced = false;  // the tools keep for its own what they kept for the processor's
  floating_point_control fp;  // the words of its own stack
  departure why = departure::none;
  thread_record* leaving = nullptr;              // the thread that left
  std::atomic<int> place{-1};              // where it sleeps while the processor may be taken; read by who takes it
  std::atomic<std::uint32_t> summons{0};         // the processor was given to this kernel thread, whose thread waits for it
  // The thread in whose own code this kernel thread is; its own signal handlers look at it.
  std::atomic<thread_record*> outside{nullptr};
  std::atomic<thread_record*> tick_due{nullptr};  // whom a tick found where no thread can be interrupted
  std::unique_ptr<upcall::ticker> ticks;     // made and destroyed on its own kernel thread
  std::uint64_t signals_before = 0;          // the mask to restore once its thread was taken off it,
  bool signals_held = false;                 // if it was
  upcall::whereabouts found;                 // of the thread that is about to be taken off another activation
  std::optional<signal_stack> own_signal_stack;  // for the report of a stack overflow
};

}  // namespace weft::sched
