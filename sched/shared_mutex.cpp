// The lock that readers share. As with `mutex`, who is woken was only chosen: it takes the lock when it runs, and goes back to
// the front of the queue if a try_lock came first.
#include "weft/shared_mutex.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

namespace {

// What a waiter's `slot` points to when it waits to share the lock; of one that wants it alone the slot is null.
char reader_mark;

bool is_reader(const detail::waiter& w) noexcept { return w.slot == &reader_mark; }

}  // namespace

const detail::thread_record* detail::only_holder(const shared_mutex& of) noexcept {
  const std::uintptr_t writer = of.writer_ & ~shared_mutex::promised;
  if (writer != 0) return reinterpret_cast<const thread_record*>(writer);
  return of.readers_ == 1 ? reinterpret_cast<const thread_record*>(of.sum_) : nullptr;
}

// Reached when the lock is held or promised, or off a weft thread. False when the deadline came first.
bool shared_mutex::lock_slow(time_point deadline) {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("shared_mutex::lock", [=, this] { return lock_slow(deadline); });
  if (take_free()) return true;
  check(*self);
  detail::waiter w;
  await(w, deadline);
  while (w.reason == detail::wake_reason::granted && (writer_ != promised || readers_ != 0)) {
    writer_ &= ~promised;
    wait_again(w, deadline);
  }
  if (w.reason != detail::wake_reason::granted) return give_up(w) && take_free();
  writer_ = word(detail::current_thread());
  return true;
}

bool shared_mutex::lock_shared_slow(time_point deadline) {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) {
    return detail::with_processor("shared_mutex::lock_shared", [=, this] { return lock_shared_slow(deadline); });
  }
  if (share_free()) return true;
  check(*self);
  detail::waiter w;
  w.slot = &reader_mark;
  await(w, deadline);
  while (w.reason == detail::wake_reason::granted) {
    --chosen_readers_;
    if (writer_ == 0) {
      add_reader(*detail::current_thread());
      return true;
    }
    wait_again(w, deadline);
  }
  return give_up(w) && share_free();
}

// Says what a caller that has to wait would wait for in vain.
void shared_mutex::check(const detail::thread_record& self) const {
  const detail::thread_record* const holder = detail::only_holder(*this);
  if (holder == nullptr) return;  // those who wait are looked at by whoever joins them
  if (holder == &self) {
    detail::throw_error(std::errc::resource_deadlock_would_occur,
                        "shared_mutex::lock: the calling thread holds this lock already and would wait for itself");
  }
  if (holder->home != self.home) [[unlikely]] sched::used_by_two_schedulers("shared_mutex");
}

void shared_mutex::await(detail::waiter& w, time_point deadline) {
  w.what = "shared_mutex";
  w.object = this;
  detail::park(waiters_, w, deadline);
}

// The caller was chosen, and a try_lock came first: somebody holds the lock, and will choose again.
void shared_mutex::wait_again(detail::waiter& w, time_point deadline) {
  try {
    sched::this_scheduler().wait_again(waiters_, w, deadline, detail::cancellation::allowed);
  } catch (...) {
    choose();
    throw;
  }
}

// The wait ended without the lock: those behind may be able to go now. True when the caller's time came, which is no reason to
// leave a lock that became free since.
bool shared_mutex::give_up(const detail::waiter& w) {
  choose();
  if (w.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
  return true;
}

void shared_mutex::unlock_slow() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("shared_mutex::unlock", [this] { unlock(); });
  if ((writer_ & ~promised) != word(self)) {
    detail::throw_error(std::errc::operation_not_permitted,
                        "shared_mutex::unlock: the calling thread does not hold this lock alone");
  }
  writer_ &= promised;
  choose();
}

void shared_mutex::unlock_shared_slow() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("shared_mutex::unlock_shared", [this] { unlock_shared(); });
  if (!may_leave(*self)) {
    detail::throw_error(std::errc::operation_not_permitted,
                        "shared_mutex::unlock_shared: the calling thread does not share this lock (or others left it too often)");
  }
  remove_reader(*self);
  choose();
}

// Wakes those whose turn it is, if it is anybody's: the writer in front, when nobody holds the lock or was chosen; or all readers
// in front. A chosen writer that has not run yet is `writer_` too.
void shared_mutex::choose() noexcept {
  const detail::waiter* first = waiters_.front();
  if (first == nullptr || writer_ != 0) return;
  if (!is_reader(*first)) {
    if (readers_ != 0 || chosen_readers_ != 0) return;
    writer_ = promised;
    detail::grant(*waiters_.pop_front());
    return;
  }
  for (; first != nullptr && is_reader(*first); first = waiters_.front()) {
    ++chosen_readers_;
    detail::grant(*waiters_.pop_front());
  }
}

// A time that has come means try_lock: no wait, no turn for others, no cancellation.
bool shared_timed_mutex::lock_by(time_point deadline) {
  return deadline <= detail::now("shared_timed_mutex::try_lock_until") ? try_lock() : lock_slow(deadline);
}
bool shared_timed_mutex::lock_shared_by(time_point deadline) {
  return deadline <= detail::now("shared_timed_mutex::try_lock_shared_until") ? try_lock_shared() : lock_shared_slow(deadline);
}

void shared_mutex::destroyed_locked() noexcept {
  sched::fatal("weft: a shared_mutex was destroyed while a thread holds it; unlock it first, or let it outlive its users");
}

}  // namespace weft
