#include "weft/mutex.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

// Reached when the mutex is taken, or off a weft thread.
void mutex::lock_slow(detail::cancellation mode) {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::lock", [=, this] { lock_slow(mode); });
  if (owner_ == nullptr) {
    owner_ = self;
    return;
  }
  if (owner_ == self) {
    detail::throw_error(std::errc::resource_deadlock_would_occur, "mutex::lock: the calling thread holds this mutex already");
  }
  detail::waiter w;
  w.what = "mutex";
  w.object = this;
  w.slot = owner_;  // who held it when the wait began, for deadlock reports
  if (detail::park(waiters_, w, never, mode) == detail::wake_reason::cancelled) detail::throw_cancelled();
}

void mutex::unlock_slow() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("mutex::unlock", [this] { unlock(); });
  if (owner_ != self) {
    detail::throw_error(std::errc::operation_not_permitted, "mutex::unlock: the calling thread does not hold this mutex");
  }
  detail::waiter* const next = waiters_.pop_front();
  owner_ = next != nullptr ? next->thread : nullptr;
  if (next != nullptr) detail::grant(*next);
}

void mutex::destroyed_locked() noexcept {
  sched::fatal("weft: a mutex was destroyed while a thread holds it; unlock it first, or let it outlive its users");
}

}  // namespace weft
