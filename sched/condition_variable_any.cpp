// Conditions under any lock. A lock of the program's own may wait, or let others run, while it is released and while it is taken:
// so releasing and waiting are two steps, with a place in the queue across both.
//
// A stop is requested by whoever likes, in the middle of anything. A thread that holds our processor wakes the waiting one;
// everybody else, a thread of our own in a region too, leaves a post in the inbox, which was made in advance, and waits for
// nothing: our kernel thread may itself be waiting in ~stop_callback, with the processor, until that caller is through.
#include "weft/condition_variable_any.hpp"

#include <memory>
#include <utility>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"
#include "weft/thread.hpp"

namespace weft {
namespace detail {

// ---- stops ----

// What the waiting thread, the stop's caller and the post share. `place_` and `stopped_` are for the holder of the processor;
// what `request` uses stays as it is while the stop_callback exists.
class stop_relay {
 public:
  explicit stop_relay(sched::scheduler& home) : home_(home), mail_(home.mail()) { mail_->add_poster(); }
  ~stop_relay() = default;
  stop_relay(const stop_relay&) = delete;
  stop_relay& operator=(const stop_relay&) = delete;

  static std::shared_ptr<stop_relay> make(sched::scheduler& home) {
    auto made = std::make_shared<stop_relay>(home);
    try {
      made->post_ = std::make_unique<sched::inbox::post>(sched::inbox::post{nullptr, [made] { made->arrived(); }});
    } catch (...) {
      made->end();
      throw;
    }
    return made;
  }

  /// The wait is over. Breaks the circle of this and a post that was not needed.
  void end() noexcept {
    mail_->remove_own_poster();
    post_.reset();
  }

  /// From any kernel thread. The waiting thread lives, and with it its scheduler, so that the post is taken.
  void request() noexcept {
    if (current_thread() != nullptr && &sched::this_scheduler() == &home_) return stop();
    static_cast<void>(mail_->push(std::move(post_)));
  }

  void stand_at(condition_place* place) noexcept { place_ = place; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  void arrived() {
    if (current_thread() == nullptr) return with_processor("condition_variable_any::wait", [this] { stop(); });
    stop();
  }
  void stop() noexcept {
    stopped_ = true;
    if (place_ != nullptr) place_->stop();
  }

  sched::scheduler& home_;
  const std::shared_ptr<sched::inbox> mail_;
  std::unique_ptr<sched::inbox::post> post_;
  condition_place* place_ = nullptr;
  bool stopped_ = false;
};

void stop_watch::call::operator()() const noexcept { to->request(); }

stop_watch::stop_watch(const std::stop_token& token) {
  if (current_thread() == nullptr) {
    with_processor("condition_variable_any::wait", [this] { relay_ = stop_relay::make(sched::this_scheduler()); });
  } else {
    relay_ = stop_relay::make(sched::this_scheduler());
  }
  const no_preemption while_locked;  // the standard library's lock spins
  callback_.emplace(token, call{relay_.get()});
}

stop_watch::~stop_watch() {
  {
    const no_preemption while_locked;
    callback_.reset();
  }
  relay_->end();
}

// ---- places ----

condition_place::condition_place(condition_variable_any& of, const stop_watch* watch)
    : of_(of), relay_(watch == nullptr ? nullptr : watch->relay_.get()) {
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
  if (relay_ != nullptr) relay_->stand_at(this);
}

cv_status condition_place::wait(time_point deadline) {
  used_ = true;
  if (current_thread() != nullptr) return wait_in_place(deadline);
  return with_processor("condition_variable_any::wait", [=, this] { return wait_in_place(deadline); });
}

cv_status condition_place::wait_in_place(time_point deadline) {
  sched::scheduler& s = sched::this_scheduler();
  const bool refused = s.refuses_wait(cancellation::allowed);
  const bool over = queue == nullptr || (relay_ != nullptr && relay_->stopped());
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
  if (relay_ != nullptr) relay_->stand_at(nullptr);
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
