#include "weft/condition_variable.hpp"

#include <memory>
#include <utility>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/thread_exit.hpp"

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

namespace {

struct notification : detail::thread_exit_call {
  condition_variable& condition;
  std::unique_lock<mutex> lock;

  notification(condition_variable& c, std::unique_lock<mutex> l) : condition(c), lock(std::move(l)) { run = &notification::send; }

  // Both at once, for a thread in its own code too: nobody who sees the mutex free destroys the condition in between.
  static void send(thread_exit_call& self) noexcept {
    const std::unique_ptr<notification> me(&static_cast<notification&>(self));
    const auto unlock_and_notify = [&] {
      me->lock.unlock();
      me->condition.notify_all();
    };
    if (detail::current_thread() != nullptr) return unlock_and_notify();
    detail::with_processor("notify_all_at_thread_exit", unlock_and_notify);
  }
};

}  // namespace

void notify_all_at_thread_exit(condition_variable& condition, std::unique_lock<mutex> lock) {
  if (!detail::on_weft_thread()) detail::throw_off_weft("notify_all_at_thread_exit");
  if (!lock.owns_lock()) {
    detail::throw_error(std::errc::operation_not_permitted, "notify_all_at_thread_exit: the lock given does not hold its mutex");
  }
  detail::at_thread_exit(*new notification(condition, std::move(lock)));
}

}  // namespace weft
