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

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft::detail {

[[nodiscard]] bool runs_a_scheduler() noexcept;  // park.cpp

bool in_interruptible_code() noexcept { return sched::scheduler_outside() != nullptr; }

// The base is its place in the line.
struct waiting_room::seat : waiter {
  explicit seat(sched::inbox* of) noexcept : home(of) {}
  sched::inbox* const home;  // of a weft thread's scheduler
  seat* after = nullptr;     // among those who are woken together
};

struct waiting_room::thread_seat : seat {
  thread_seat(sched::scheduler& s, const request& r) noexcept : seat(s.mail().get()) {
    wait.what = r.what;
    wait.object = r.object;
    wake.wakes = &wait;
  }
  waiter wait;
  wait_queue alone;  // where `wait` is linked
  sched::inbox::post wake;
  bool posted = false;  // `wake` is on its way; under the lock
};

struct waiting_room::kernel_seat : seat {
  kernel_seat() noexcept : seat(nullptr) {}
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

// A wait that threads elsewhere may end.
class open_wait {
 public:
  explicit open_wait(sched::scheduler* of) noexcept : scheduler_(of) {
    if (scheduler_ != nullptr) scheduler_->begin_open_wait();
  }
  ~open_wait() {
    if (scheduler_ != nullptr) scheduler_->end_open_wait();
  }
  open_wait(const open_wait&) = delete;
  open_wait& operator=(const open_wait&) = delete;

 private:
  sched::scheduler* scheduler_;
};

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

// @returns false when there is nothing to wait for.
bool waiting_room::sit_down(const request& r, seat& self) {
  const std::lock_guard hold(lock_);
  if (r.over(r.of)) return false;
  if (r.first) {
    waiters_.push_front(self);
  } else {
    waiters_.push_back(self);
  }
  return true;
}

void waiting_room::wait_in_thread(const request& r, verdict& how) {
  sched::scheduler& s = sched::this_scheduler();
  thread_seat self(s, r);
  how = {};
  if (!sit_down(r, self)) return;
  const open_wait open(r.by_one == self.home ? nullptr : &s);
  try {
    how.reason = park(self.alone, self.wait, r.deadline, r.mode);
  } catch (...) {
    how.chosen = leave(self);
    throw;
  }
  how.chosen = how.reason == wake_reason::granted || leave(self);
}

// Of one whose wait was not ended by those who choose. @returns whether it had been chosen all the same.
bool waiting_room::leave(thread_seat& self) {
  bool was_chosen = true;
  {
    const std::lock_guard hold(lock_);
    if (self.queue != nullptr) {
      waiters_.remove(self);
      was_chosen = false;
    }
  }
  while (self.posted && !self.wake.arrived) static_cast<void>(park(self.alone, self.wait, never, cancellation::shielded));
  return was_chosen;
}

void waiting_room::wait_in_kernel(const request& r, verdict& how) {
  kernel_seat self;
  how = {};
  if (!sit_down(r, self)) return;
  time_point deadline = r.deadline;
  while (self.woken.load(std::memory_order_acquire) == 0) {
    if (sleep_on(self.woken, deadline)) continue;
    deadline = never;  // either it leaves now, or whoever has chosen it is about to set the word
    const std::lock_guard hold(lock_);
    if (self.queue == nullptr) continue;
    waiters_.remove(self);
    how.reason = wake_reason::timed_out;
    return;
  }
  how.chosen = true;
}

// ---- who ends waits ----

void waiting_room::choose_first(chosen& into) noexcept {
  waiter* const w = waiters_.pop_front();
  if (w == nullptr) return;
  seat& next = static_cast<seat&>(*w);
  if (into.first_ == nullptr) into.here_ = home_of_caller();
  if (next.home != nullptr) static_cast<thread_seat&>(next).posted = next.home != into.here_;
  (into.first_ == nullptr ? into.first_ : into.last_->after) = &next;
  into.last_ = &next;
}

void waiting_room::choose_all(chosen& into) noexcept {
  while (!waiters_.empty()) choose_first(into);
}

void waiting_room::wake(const chosen& those) noexcept {
  for (seat* next = those.first_; next != nullptr;) {
    seat& now = *next;
    next = now.after;  // the seat may be gone as soon as its owner can know
    if (now.home == nullptr) {
      wake_kernel_thread(static_cast<kernel_seat&>(now).woken);
      continue;
    }
    thread_seat& sits = static_cast<thread_seat&>(now);
    if (now.home != those.here_) {
      now.home->push_wake(sits.wake);
    } else if (sits.wait.queue != nullptr) {  // otherwise its time came, or it was asked to end
      sits.alone.remove(sits.wait);
      grant(sits.wait);
    }
  }
}

}  // namespace weft::detail
