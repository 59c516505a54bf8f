#include "weft/mutex.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

// Reached when the mutex is taken or promised, or off a weft thread.
void mutex::lock_slow(detail::cancellation mode) {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::lock", [=, this] { lock_slow(mode); });
  if (holder_ == 0) {
    holder_ = word(self);
    return;
  }
  if ((holder_ & ~promised) == word(self)) {
    detail::throw_error(std::errc::resource_deadlock_would_occur, "mutex::lock: the calling thread holds this mutex already");
  }
  check_home(*self);
  detail::waiter w;
  w.what = "mutex";
  w.object = this;
  if (detail::park(waiters_, w, never, mode) == detail::wake_reason::cancelled) detail::throw_cancelled();
  if (holder_ != promised) [[unlikely]] return take_up(w, mode);
  holder_ = word(detail::current_thread());
}

// Those who wait are looked at by whoever joins them.
void mutex::check_home(const detail::thread_record& self) const noexcept {
  const auto* const holder = reinterpret_cast<const detail::thread_record*>(holder_ & ~promised);
  if (holder != nullptr && holder->home != self.home) [[unlikely]] sched::used_by_two_schedulers("mutex");
}

// The caller was woken to take the mutex, and a try_lock came first: it waits again, before all others. There is no promise
// meanwhile, so that the next unlock makes one.
void mutex::take_up(detail::waiter& w, detail::cancellation mode) {
  sched::scheduler& s = sched::this_scheduler();
  while (holder_ != promised) {
    holder_ &= ~promised;
    if (s.refuses_wait(mode)) detail::throw_cancelled();
    w.shielded = mode == detail::cancellation::shielded || s.shielded();
    waiters_.push_front(w);
    s.park(w, sched::thread_state::parked);
    if (w.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
  }
  holder_ = word(s.current);
}

void mutex::unlock_slow() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::unlock", [this] { unlock(); });
  if ((holder_ & ~promised) != word(self)) {
    detail::throw_error(std::errc::operation_not_permitted, "mutex::unlock: the calling thread does not hold this mutex");
  }
  holder_ &= promised;
  if (holder_ == promised) return;  // the one who was woken for it is on the way still
  if (detail::waiter* const next = waiters_.pop_front()) {
    holder_ = promised;
    detail::grant(*next);
  }
}

void mutex::destroyed_locked() noexcept {
  sched::fatal("weft: a mutex was destroyed while a thread holds it; unlock it first, or let it outlive its users");
}

}  // namespace weft
