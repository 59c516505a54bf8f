// What parked threads used once, below their present depth, goes back to the kernel.
#pragma once

#include <chrono>
#include <cstddef>

#include "sched/record_pool.hpp"
#include "sched/stack.hpp"
#include "weft/upcall.hpp"

namespace weft::sched {

/// Finds the threads that have waited for a while, and has the pool shrink their stacks, each once per wait.
///
/// A round looks at every thread, a few at a time, while the processor idles. It marks those that wait, and shrinks those that
/// bear the mark of the round before: they have not run in between. The mark is in `thread_record::next`, which is nobody's
/// while a thread waits and is overwritten when it becomes ready, so parking and waking know nothing of all this. When a round
/// has found nothing to mark, there is no other before some thread has run.
class parked_memory {
 public:
  /// Does the next bit, if it is time for it. @returns when to call again, no later; `never`: when threads have run.
  ///
  /// To be called whenever the processor idles, by its holder, with the number of turns that its loop has taken. Costs a
  /// comparison when no thread has run since the last round, a look at the clock otherwise; a bit at most some 100 µs.
  time_point trim(record_pool& records, stack_pool& stacks, const upcall::source& clock, unsigned turn) noexcept;

 private:
  [[nodiscard]] bool due(const upcall::source& clock, unsigned turn, time_point& again) noexcept;
  [[nodiscard]] bool look(record_pool& records, stack_pool& stacks) noexcept;

  record_pool::place place_;   // how far this round has come
  std::size_t looked_at_ = 0;  // in this round
  time_point next_round_{};    // zero: no thread has run since the last one found nothing
  unsigned last_turn_ = 0;     // of the loop, when we were called last
  unsigned visits_ = 0;        // since the last round
  bool under_way_ = false;
  bool some_ran_ = false;     // since this round began
  bool marked_some_ = false;  // in this round
};

}  // namespace weft::sched
