#include "weft/condition_variable.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

void condition_variable::notify_one() noexcept {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    if (detail::on_weft_thread()) return detail::with_processor("condition_variable::notify_one", [this] { notify_one(); });
    if (!waiters_.empty()) detail::end_off_weft("condition_variable::notify_one");
    return;
  }
  if (detail::waiter* const w = waiters_.pop_front()) detail::grant(*w);
}

void condition_variable::notify_all() noexcept {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    if (detail::on_weft_thread()) return detail::with_processor("condition_variable::notify_all", [this] { notify_all(); });
    if (!waiters_.empty()) detail::end_off_weft("condition_variable::notify_all");
    return;
  }
  while (detail::waiter* const w = waiters_.pop_front()) detail::grant(*w);
}

cv_status condition_variable::wait_deadline(std::unique_lock<mutex>& lock, time_point deadline) {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("condition_variable::wait", [&] { return wait_deadline(lock, deadline); });
  }
  if (!lock.owns_lock()) {
    detail::throw_error(std::errc::operation_not_permitted, "condition_variable::wait: the lock given does not hold its mutex");
  }
  mutex& m = *lock.mutex();
  detail::waiter self;
  self.what = "condition_variable";
  self.object = this;
  m.unlock();  // nobody runs between this and the park, so no notification is lost
  detail::wake_reason reason{};
  try {
    reason = detail::park(waiters_, self, deadline);
  } catch (...) {
    static_cast<void>(m.lock_slow(detail::cancellation::shielded, never));
    throw;
  }
  static_cast<void>(m.lock_slow(detail::cancellation::shielded, never));
  if (reason == detail::wake_reason::cancelled) detail::throw_cancelled();
  return reason == detail::wake_reason::timed_out ? cv_status::timeout : cv_status::no_timeout;
}

void condition_variable::destroyed_in_use() noexcept {
  sched::fatal("weft: a condition_variable was destroyed while threads wait on it; wake and join them first");
}

}  // namespace weft
