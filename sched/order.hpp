// A scheduler's policy: how threads come into it and out of it. Only schedulers whose policy is not built in have one.
#pragma once

#include <cstddef>
#include <memory>

#include "sched/inheritance.hpp"
#include "sched/policy_node.hpp"
#include "weft/policy.hpp"

namespace weft::sched {

/// Only whoever holds the processor uses it.
class order {
 public:
  explicit order(std::unique_ptr<policy> by) noexcept : by_(std::move(by)), mutexes(*this) {}

  /// No thread is in it.
  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  void put(thread_record& t, policy::came how) noexcept;
  /// The next thread, or null.
  [[nodiscard]] thread_record* take() noexcept;
  [[nodiscard]] bool more_urgent(const policy_node& a, const policy_node& b) const noexcept { return by_->more_urgent(a, b); }

  /// Before the first `put` of a new thread. @throws std::system_error(invalid_argument) when its priority is out of range
  static void check(const attributes& how);
  void begin(thread_record& t, const attributes& how) noexcept;
  /// What the thread itself wants from here on.
  void set_own(thread_record& t, int priority, time_point deadline) noexcept;
  /// From here on the more urgent of the thread itself and `lender`, which may be null, counts. @returns whether that is new.
  bool be_like(policy_node& n, const policy_node* lender) noexcept;

 private:
  std::unique_ptr<policy> by_;
  std::size_t count_ = 0;

 public:
  inheritance mutexes;
};

}  // namespace weft::sched
