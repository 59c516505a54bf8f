#include "weft/mutex.hpp"

#include "sched/order.hpp"
#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

// Reached when the mutex is taken or promised, or off a weft thread. False when the deadline came first.
bool mutex::lock_slow(detail::cancellation mode, time_point deadline) {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::lock", [=, this] { return lock_slow(mode, deadline); });
  if (take_free()) return true;
  if (held_by(*self)) {
    detail::throw_error(std::errc::resource_deadlock_would_occur, "mutex::lock: the calling thread holds this mutex already");
  }
  check_home(*self);
  if (sched::order* const by = sched::this_scheduler().ordered()) [[unlikely]] return by->mutexes.lock(*this, mode, deadline);
  detail::waiter w;
  w.what = "mutex";
  w.object = this;
  if (detail::park(waiters_, w, deadline, mode) != detail::wake_reason::granted || holder_ != promised) [[unlikely]] {
    return take_up(w, mode, deadline);
  }
  holder_ = word(detail::current_thread());
  return true;
}

// Those who wait are looked at by whoever joins them.
void mutex::check_home(const detail::thread_record& self) const noexcept {
  const auto* const holder = reinterpret_cast<const detail::thread_record*>(holder_ & ~promised);
  if (holder != nullptr && holder->home != self.home) [[unlikely]] sched::used_by_two_schedulers("mutex");
}

// The caller's wait ended otherwise than with the mutex in its hands. Where it was woken to take it and a try_lock came first,
// it waits again, before all others; there is no promise meanwhile, so that the next unlock makes one.
bool mutex::take_up(detail::waiter& w, detail::cancellation mode, time_point deadline) {
  while (w.reason == detail::wake_reason::granted && holder_ != promised) {
    holder_ &= ~promised;
    sched::this_scheduler().wait_again(waiters_, w, deadline, mode);
  }
  if (w.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
  if (w.reason == detail::wake_reason::timed_out) return take_free();  // it may have become free since the time came
  holder_ = word(detail::current_thread());
  return true;
}

void mutex::unlock_slow() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::unlock", [this] { unlock(); });
  if (!held_by(*self)) {
    detail::throw_error(std::errc::operation_not_permitted, "mutex::unlock: the calling thread does not hold this mutex");
  }
  if (sched::order* const by = sched::this_scheduler().ordered()) [[unlikely]] return by->mutexes.unlock(*this);
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

// A time that has come means try_lock: no wait, no turn for others, no cancellation.
bool timed_mutex::lock_by(time_point deadline) {
  return deadline <= detail::now("timed_mutex::try_lock_until") ? try_lock() : lock_slow(detail::cancellation::allowed, deadline);
}

void recursive_mutex::too_often() {
  detail::throw_error(std::errc::resource_unavailable_try_again,
                      "recursive_mutex::lock: the calling thread has locked this mutex a million times; unlock it as often");
}

}  // namespace weft
