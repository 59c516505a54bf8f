// Conditions under any lock. A lock of the program's own may wait, or let others run, while it is released and while it is taken:
// so releasing and waiting are two steps, with a place in the queue across both.
#include "weft/condition_variable_any.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft {
namespace detail {

condition_place::condition_place(condition_variable_any& of, stop_watch* watch) : of_(of), watch_(watch) {
  what = "condition_variable";
  object = &of;
  enter();
}

void condition_place::enter() {
  thread = current_thread();
  if (thread == nullptr) return with_processor("condition_variable_any::wait", [this] { enter(); });
  const waiter* const first = of_.waiters_.front();
  if (first != nullptr && first->thread->home != thread->home) sched::used_by_two_schedulers("condition_variable_any");
  of_.waiters_.push_back(*this);
  if (watch_ != nullptr) watch_->tell(this);
}

cv_status condition_place::wait(time_point deadline) {
  used_ = true;
  if (current_thread() != nullptr) return wait_in_place(deadline);
  return with_processor("condition_variable_any::wait", [=, this] { return wait_in_place(deadline); });
}

cv_status condition_place::wait_in_place(time_point deadline) {
  sched::scheduler& s = sched::this_scheduler();
  const bool refused = s.refuses_wait(cancellation::allowed);
  const bool over = queue == nullptr || (watch_ != nullptr && watch_->stopped());
  if (over || refused) {
    leave();
    if (!over) throw_cancelled();
    return cv_status::no_timeout;
  }
  try {
    s.set_deadline(*this, deadline);
  } catch (...) {
    leave();
    throw;
  }
  shielded = s.unwinding();
  s.park(*this, sched::thread_state::parked);
  leave();
  if (reason == wake_reason::cancelled) throw_cancelled();
  return reason == wake_reason::timed_out ? cv_status::timeout : cv_status::no_timeout;
}

void condition_place::end_if_parked() noexcept {
  if (thread->waits_on == this) grant(*this);
}

// Whoever notifies has taken the place out of the queue.
void condition_place::notify(notified how) noexcept {
  if (thread->home != current_thread()->home) sched::used_by_two_schedulers("condition_variable_any");
  notified_ = how;
  end_if_parked();
}

// At once out of the queue: a notification that comes later is for somebody who still waits.
void condition_place::stop() noexcept {
  if (queue == nullptr) return;  // its wait has ended otherwise
  leave();
  end_if_parked();
}

void condition_place::leave() noexcept {
  if (queue != nullptr) queue->remove(*this);
  if (watch_ != nullptr) watch_->tell(nullptr);
}

// The lock was not released, so this thread has not waited: what it was notified of is another's.
void condition_place::abandon() {
  if (current_thread() == nullptr) return with_processor("condition_variable_any::wait", [this] { abandon(); });
  leave();
  if (notified_ == notified::one) of_.notify_one();
}

}  // namespace detail

void condition_variable_any::notify_one() noexcept {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    if (detail::on_weft_thread()) return detail::with_processor("condition_variable_any::notify_one", [this] { notify_one(); });
    if (!waiters_.empty()) detail::end_off_weft("condition_variable_any::notify_one");
    return;
  }
  using place = detail::condition_place;
  if (detail::waiter* const w = waiters_.pop_front()) static_cast<place*>(w)->notify(place::notified::one);
}

void condition_variable_any::notify_all() noexcept {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    if (detail::on_weft_thread()) return detail::with_processor("condition_variable_any::notify_all", [this] { notify_all(); });
    if (!waiters_.empty()) detail::end_off_weft("condition_variable_any::notify_all");
    return;
  }
  using place = detail::condition_place;
  while (detail::waiter* const w = waiters_.pop_front()) static_cast<place*>(w)->notify(place::notified::all);
}

void condition_variable_any::destroyed_in_use() noexcept {
  sched::fatal("weft: a condition_variable_any was destroyed while threads wait on it; wake and join them first");
}

}  // namespace weft
