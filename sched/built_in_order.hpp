// Stands for the order that is built into the scheduler: threads run as they became ready.
#pragma once

#include "weft/policy.hpp"

namespace weft::sched {

/// The scheduler looks for this class and then does without a policy. Within another policy it is one like any other.
class built_in_order final : public policy {
 public:
  explicit built_in_order(bool runs_child_first) noexcept : child_first(runs_child_first) {}

  void put(ready_thread& t, came how) noexcept override {
    if (how == came::displaced) {
      list_.push_front(t);
    } else {
      list_.push_back(t);
    }
  }
  ready_thread* take() noexcept override { return list_.pop_front(); }
  void remove(ready_thread& t) noexcept override { list_.remove(t); }

  const bool child_first;

 private:
  ready_list list_;
};

}  // namespace weft::sched
