// What a scheduler with a policy keeps of each thread, right behind the thread's record. Without a policy there is none.
#pragma once

#include <boost/intrusive/set_hook.hpp>

#include "sched/thread_record.hpp"
#include "weft/policy.hpp"

namespace weft {
class mutex;
}

namespace weft::sched {

/// Only whoever holds the processor touches it.
class policy_node : public ready_thread {
 public:
  policy_node() noexcept = default;

  [[nodiscard]] static policy_node& of(thread_record& t) noexcept;
  [[nodiscard]] static policy_node& of(ready_thread& t) noexcept { return static_cast<policy_node&>(t); }
  [[nodiscard]] thread_record& record() noexcept;
  [[nodiscard]] const thread_record& record() const noexcept { return const_cast<policy_node*>(this)->record(); }

  /// Sets everything as a new thread has it, but for the places in lists of `inheritance`, which forgets it first.
  void begin(int priority, time_point deadline) noexcept;
  [[nodiscard]] int own_priority() const noexcept { return own_priority_; }
  [[nodiscard]] time_point own_deadline() const noexcept { return own_deadline_; }
  void set_own(int priority, time_point deadline) noexcept {
    own_priority_ = static_cast<std::int16_t>(priority);
    own_deadline_ = deadline;
  }
  /// As if nobody lent it anything.
  void be_itself() noexcept { be_as(own_priority_, own_deadline_); }
  void be_as(int priority, time_point deadline) noexcept {
    priority_ = static_cast<std::int16_t>(priority);
    deadline_ = deadline;
  }

  bool ready = false;  // the policy has it

  // For policies::deadline.
  boost::intrusive::set_member_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> in_tree;
  std::int64_t turn = 0;

  // For inheritance.
  mutex* waits_at = nullptr;         // a mutex in whose queue it is, or was until it runs again
  mutex* promised = nullptr;         // a mutex that it was woken to take
  policy_node* next_promised = nullptr;
  policy_node* lends_to = nullptr;   // whoever has the mutex `waits_at`, if this is the most urgent of those who wait for it
  policy_node* lenders = nullptr;    // to this one, linked by the next
  policy_node* next_lender = nullptr;
};

inline constexpr std::size_t room_for_node = (sizeof(policy_node) + 63) / 64 * 64;

inline policy_node& policy_node::of(thread_record& t) noexcept { return *reinterpret_cast<policy_node*>(&t + 1); }
inline thread_record& policy_node::record() noexcept { return *(reinterpret_cast<thread_record*>(this) - 1); }

}  // namespace weft::sched
