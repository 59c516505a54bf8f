// One thread's record and its state machine.
//
// The record is one cache line, because a million of them are kept and a switch touches two. What a thread needs only while
// it has a stack lies in `thread_extension` at the top of that stack, in the page its frames use anyway.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "sched/context.hpp"
#include "sched/stack.hpp"
#include "weft/detail/park.hpp"
#include "weft/detail/start.hpp"
#include "weft/detail/thread_exit.hpp"
#include "weft/error.hpp"

namespace weft::detail {
class cancel_frame;
class stop_outlet;
struct local_values;
}

namespace weft::sched {

enum class thread_state : std::uint8_t {
  vacant,     // the record belongs to no thread
  created,    // in the ready queue, never ran, has no stack
  ready,      // in the ready queue
  running,    // holds the processor: at most one thread of a scheduler
  parked,     // waits for another thread or for a time
  in_kernel,  // waits for an operation the kernel carries out
  away,       // in a region of blocking(), or waiting in its own code, on a kernel thread that does not hold the processor
  finished,   // its function has returned; a handle may still want to join it
};

[[nodiscard]] const char* name(thread_state) noexcept;

// From where a thread may come into each state, as bits. Everything not written here is a broken invariant.
[[nodiscard]] constexpr unsigned legal_predecessors(thread_state to) noexcept {
  constexpr auto bit = [](thread_state s) { return 1U << static_cast<unsigned>(s); };
  switch (to) {
    case thread_state::vacant: return bit(thread_state::finished);
    case thread_state::created: return bit(thread_state::vacant);
    case thread_state::ready:
      return bit(thread_state::running) | bit(thread_state::parked) | bit(thread_state::in_kernel) | bit(thread_state::away);
    case thread_state::running: return bit(thread_state::created) | bit(thread_state::ready);
    case thread_state::parked: return bit(thread_state::running);
    case thread_state::in_kernel: return bit(thread_state::running);
    case thread_state::away: return bit(thread_state::running);
    case thread_state::finished: return bit(thread_state::running);
  }
  return 0;
}

// The exception state of a thread as the C++ runtime keeps it per kernel thread (Itanium C++ ABI: caught exceptions,
// a linked list, and the number of uncaught ones). Without it a `throw;` would rethrow another thread's exception.
struct exception_state {
  void* caught = nullptr;
  unsigned uncaught = 0;
};

inline constexpr std::uint8_t flag_detached = 1;
inline constexpr std::uint8_t flag_cancel = 2;          // its waits are to end with `cancelled`: see cancel.cpp
inline constexpr std::uint8_t flag_floating_point = 4;  // keep its FP control words apart
inline constexpr std::uint8_t flag_pinned = 8;          // in a region, with the processor for one operation: see region.cpp
inline constexpr std::uint8_t flag_outside = 16;        // its own code runs outside, open to upcalls: see outside.cpp
inline constexpr std::uint8_t flag_sliced = 32;         // … ticks among them
inline constexpr std::uint8_t flag_asked = 64;          // it was asked to end
inline constexpr std::uint8_t flags_of_care = flag_floating_point | flag_pinned;  // no plain switch from or to it

struct carrier;

// What a thread has only while it has a stack: between its first run and its end, at the top of the stack.
struct thread_extension {
  stack_slot* slot = nullptr;
  context_notes notes;
  floating_point_control fp;
  bool own_words = false;  // as flag_floating_point, for the thread itself while it is away: flags are the holder's then
  detail::start_block* start = nullptr;  // until its function was moved out
  std::uintptr_t runs = 0;               // what thread_main calls: the outermost function of its own code
  carrier* pinned_to = nullptr;          // whose kernel thread it waits on for the processor; null: it comes back for good
  std::atomic<std::uint32_t> away_on{0};  // number of the activation on whose kernel thread it is away; 0: none yet
  upcall::cause away_for = upcall::cause::region;
  unsigned no_preempt = 0;  // ticks are to leave it alone
  detail::cancel_frame* stretch = nullptr;  // the innermost scope or shield that it is in
  detail::thread_exit_call* exit_calls = nullptr;  // newest first; only the thread itself looks at them
  detail::local_values* locals = nullptr;          // likewise
  char name[32] = {};
};

}  // namespace weft::sched

namespace weft::detail {

struct alignas(64) thread_record {
  void* context = nullptr;        // saved stack pointer while it does not run; null before its first run
  thread_record* next = nullptr;  // in the ready queue, or among the vacant records; of a waiting thread parked_memory's mark
  void* caught = nullptr;         // exception_state while it does not run,
  unsigned uncaught = 0;          // flat, to keep this record one line
  int error = 0;                  // errno while it does not run
  union {
    start_block* start = nullptr;        // state created
    sched::thread_extension* extension;  // states ready, running, parked, in_kernel, away
  };
  waiter* waits_on = nullptr;     // states parked, in_kernel
  wait_queue joiners;
  std::uint32_t number = 0;
  sched::thread_state state = sched::thread_state::vacant;
  std::uint8_t flags = 0;
  std::uint16_t home = 0;  // which scheduler's, among the last 65,536 of the process

  [[nodiscard]] bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }

  // Inlined always: with a constant state the check is two instructions.
  [[gnu::always_inline]] inline void set_state(sched::thread_state to) noexcept {
    WEFT_CHECK((sched::legal_predecessors(to) >> static_cast<unsigned>(state)) & 1U);
    state = to;
  }
  /// The name given in its attributes; "" when none.
  [[nodiscard]] const char* name() const noexcept;
};
static_assert(sizeof(thread_record) == 64);

}  // namespace weft::detail

namespace weft::sched {
using detail::thread_record;
using detail::waiter;
}  // namespace weft::sched
