// Mutexes where there is a policy: they go to the most urgent of those who wait, and whoever has one inherits their urgency.
//
// (L. Sha, R. Rajkumar, J. P. Lehoczky, "Priority Inheritance Protocols: An Approach to Real-Time Synchronization", IEEE Trans.
// Computers 39(9), 1990: the basic protocol, transitive.)
#pragma once

#include "weft/detail/park.hpp"

namespace weft {
class mutex;
}

namespace weft::sched {

class order;
class policy_node;

/// Only whoever holds the processor uses it.
///
/// Invariants, for each mutex that threads wait for, whenever no function of this class runs:
///   1. Its queue is in order of urgency; equals in the order in which they came.
///   2. Its first waiter, and nobody else in the queue, lends to whoever has it: the holder, or if there is none the thread that
///      was woken to take it. One whose wait ended by its deadline or a cancellation may lend in its place until it runs.
///   3. What counts for a thread is the most urgent of itself and those who lend to it.
class inheritance {
 public:
  explicit inheritance(order& of) noexcept : order_(of) {}

  /// The calling thread, which does not hold `m`, waits until it has it. As mutex::lock_slow. @throws std::bad_alloc
  bool lock(mutex& m, detail::cancellation mode, time_point deadline);
  /// The calling thread, which holds `m`, gives it up.
  void unlock(mutex& m) noexcept;
  /// The urgency of `n` has changed: so may its place in a queue, and the urgency of those to whom it lends.
  void changed(policy_node& n) noexcept;
  /// `n` is to become a new thread's.
  void forget(policy_node& n) noexcept;

 private:
  void wait_once(mutex& m, detail::waiter& w, bool was_chosen, time_point deadline, detail::cancellation mode);
  void insert(mutex& m, detail::waiter& w, bool before_equals) noexcept;
  policy_node* lend_anew(mutex& m) noexcept;
  static void end_loan(policy_node& lender) noexcept;
  static bool end_loan_for(mutex& m, policy_node& from) noexcept;
  void reckon(policy_node& n) noexcept;
  void end_promise(policy_node& to) noexcept;
  [[nodiscard]] policy_node* who_has(const mutex& m) const noexcept;

  order& order_;
  policy_node* promised_ = nullptr;  // those who were woken to take a mutex and have not run yet
};

}  // namespace weft::sched
