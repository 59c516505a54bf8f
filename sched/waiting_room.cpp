// How threads of every kind wait in one line.
//
// Who waits has a seat in the room's line. A kernel thread sleeps on a word in its seat. A weft thread parks in a queue of its
// own, so that its scheduler can end the wait for a deadline or a cancellation without the room's lock.
//
// Whoever ends waits takes seats out of the line under the lock and wakes their owners without it. It ends the waits of its own
// scheduler's threads at once. For another scheduler's thread it pushes a post that lies in the seat: no memory is needed, and
// the scheduler is woken once for a batch of posts. That thread cannot leave its seat before the post has arrived, and a kernel
// thread not before its word is set, whatever ended the wait: so a seat lives until the last one to know of it has let go.
//
// Nothing is waited for under the lock, and no weft thread has it outside the scheduler, where it may be preempted or taken off
// its kernel thread: so who waits for the lock waits for a kernel thread that runs.
#include "weft/detail/waiting_room.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>

#include "sched/room_wake.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft::detail {

[[nodiscard]] bool runs_a_scheduler() noexcept;  // park.cpp

bool in_interruptible_code() noexcept { return sched::scheduler_outside() != nullptr; }

// The seat of a weft thread is a plain waiter whose `slot` points to its room_wake.
struct waiting_room::kernel_seat : waiter {
  std::atomic<std::uint32_t> woken{0};
};

namespace {

using word = std::atomic<std::uint32_t>;
static_assert(sizeof(word) == sizeof(std::uint32_t) && word::is_always_lock_free, "the kernel is to sleep on it");

// Sleeps until `w` is not 0, or without a reason. @returns false when the time has come.
bool sleep_on(word& w, time_point deadline) noexcept {
  timespec until{};
  if (deadline != never) {
    const auto left = std::max(deadline.time_since_epoch(), duration::zero());  // the kernel refuses what is before the boot
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    until.tv_sec = static_cast<time_t>(seconds.count());
    until.tv_nsec = static_cast<long>(std::chrono::nanoseconds(left - seconds).count());
  }
  const int before = errno;
  const long result = ::syscall(SYS_futex, &w, FUTEX_WAIT_BITSET_PRIVATE, 0, deadline == never ? nullptr : &until, nullptr,
                                FUTEX_BITSET_MATCH_ANY);
  const bool late = result != 0 && errno == ETIMEDOUT;
  errno = before;
  return !late;
}

// Its owner may be gone as soon as the word is set; the kernel is then asked to wake whoever sleeps at that address, which is
// nobody, or somebody who looks again.
void wake_kernel_thread(word& w) noexcept {
  const int before = errno;
  w.store(1, std::memory_order_release);  // pairs with the acquire in wait_in_kernel: what was brought is seen
  static_cast<void>(::syscall(SYS_futex, &w, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0));
  errno = before;
}

const sched::inbox* home_of_caller() noexcept {
  return current_thread() == nullptr ? nullptr : sched::this_scheduler().mail().get();
}

}  // namespace

// ---- who waits ----

void waiting_room::wait(const request& r, verdict& how) {
  if (current_thread() != nullptr) return wait_in_thread(r, how);
  if (on_weft_thread()) return with_processor(r.call, [&] { wait_in_thread(r, how); });
  if (runs_a_scheduler()) throw_off_weft(r.call);  // in the middle of an upcall: the kernel thread is needed
  wait_in_kernel(r, how);
}

bool waiting_room::sit_down(waiter& seat, bool (*over)(void* of) noexcept, void* of, bool first) {
  const std::lock_guard hold(lock_);
  if (over(of)) return false;
  if (first) {
    waiters_.push_front(seat);
  } else {
    waiters_.push_back(seat);
  }
  return true;
}

bool waiting_room::stand_up(waiter& seat) {
  const std::lock_guard hold(lock_);
  if (seat.queue == nullptr) return false;
  waiters_.remove(seat);
  return true;
}

void waiting_room::wait_in_thread(const request& r, verdict& how) {
  sched::scheduler& s = sched::this_scheduler();
  waiter wait;
  wait.what = r.what;
  wait.object = r.object;
  wait_queue alone;
  room_wake wake(s, wait);
  waiter seat;
  seat.slot = &wake;
  how = {};
  if (!sit_down(seat, r.over, r.of, r.first)) return;
  // Of a wait that was not ended by those who choose.
  const auto leave = [&] {
    const bool was_chosen = !stand_up(seat);
    wake.await_post(alone);
    return was_chosen;
  };
  const open_wait open(r.by_one == wake.home ? nullptr : &s);
  try {
    how.reason = park(alone, wait, r.deadline, r.mode);
  } catch (...) {
    how.chosen = leave();
    throw;
  }
  how.chosen = how.reason == wake_reason::granted || leave();
}

void waiting_room::wait_in_kernel(const request& r, verdict& how) {
  kernel_seat self;
  how = {};
  if (!sit_down(self, r.over, r.of, r.first)) return;
  time_point deadline = r.deadline;
  while (self.woken.load(std::memory_order_acquire) == 0) {
    if (sleep_on(self.woken, deadline)) continue;
    deadline = never;  // either it leaves now, or whoever has chosen it is about to set the word
    if (!stand_up(self)) continue;
    how.reason = wake_reason::timed_out;
    return;
  }
  how.chosen = true;
}

// ---- who ends waits ----

// A thread elsewhere has one post for all rooms that it waits in, and it goes with whoever is the first to choose it.
void waiting_room::choose_first(chosen& into) noexcept {
  waiter* const seat = waiters_.pop_front();
  if (seat == nullptr) return;
  if (into.first_ == nullptr) into.here_ = home_of_caller();
  auto* const wake = static_cast<room_wake*>(seat->slot);
  const bool elsewhere = wake != nullptr && wake->home != into.here_;
  if (elsewhere && wake->posted.exchange(true, std::memory_order_relaxed)) return;
  seat->next = nullptr;
  (into.first_ == nullptr ? into.first_ : into.last_->next) = seat;
  into.last_ = seat;
}

void waiting_room::choose_all(chosen& into) noexcept {
  while (!waiters_.empty()) choose_first(into);
}

void waiting_room::wake(const chosen& those) noexcept {
  for (waiter* next = those.first_; next != nullptr;) {
    waiter& seat = *next;
    next = seat.next;  // the seat may be gone as soon as its owner can know
    auto* const wake = static_cast<room_wake*>(seat.slot);
    if (wake == nullptr) {
      wake_kernel_thread(static_cast<kernel_seat&>(seat).woken);
    } else if (wake->home != those.here_) {
      wake->home->push_wake(wake->post);
    } else if (waiter& wait = wake->wait; wait.queue != nullptr) {  // otherwise something else has ended the wait
      wait.queue->remove(wait);
      grant(wait);
    }
  }
}

}  // namespace weft::detail
