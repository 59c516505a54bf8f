// How a thread waits: the one mechanism below mutexes, channels, joins, sleeps and I/O alike.
//
// A waiting thread puts a `waiter` on its own stack, links it into the queue of what it waits for, and parks. Whoever makes
// the thing happen unlinks the waiter and makes its thread ready. A deadline or a cancellation does the same from the side.
// Invariant: a waiter is linked exactly while its thread is parked and nobody has decided to wake it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "weft/detail/abi.hpp"
#include "weft/error.hpp"
#include "weft/upcall.hpp"

namespace weft::detail {

class wait_queue;

/// Who ended a wait.
enum class wake_reason : std::uint8_t { granted, timed_out, cancelled };

/// One parked thread's place in the world. Lives on the thread's stack while it waits.
struct waiter {
  waiter* next = nullptr;      // circular, see wait_queue
  waiter* previous = nullptr;
  thread_record* thread = nullptr;
  wait_queue* queue = nullptr;             // where it is linked; null when not linked
  upcall::operation* operation = nullptr;  // what the kernel does for it, if anything
  const char* what = "";                   // for reports: "mutex", "channel receive", "read", …
  const void* object = nullptr;            // for reports: the mutex, channel, …; for descriptors their number
  void* slot = nullptr;                    // where a partner finds or leaves a value; in a join the number of the other
  std::uint32_t timer = 0;                 // its place in the timer queue; 0: no deadline
  wake_reason reason = wake_reason::granted;
  bool shielded = false;                   // a cancellation leaves this wait alone
  bool one_of_many = false;                // of a select: see weft/select.hpp
  bool ends_stretch = false;               // nobody waits with it: its time ends a weft::cancel_scope
};

/// The threads that wait for one thing, first come first served. One pointer: the first waiter, whose `previous` is the last.
class wait_queue {
 public:
  constexpr wait_queue() noexcept = default;
  wait_queue(const wait_queue&) = delete;
  wait_queue& operator=(const wait_queue&) = delete;

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] waiter* front() const noexcept { return first_; }

  void push_back(waiter& w) noexcept {
    w.queue = this;
    if (first_ == nullptr) {
      w.next = w.previous = &w;
      first_ = &w;
      return;
    }
    w.next = first_;
    w.previous = first_->previous;
    first_->previous->next = &w;
    first_->previous = &w;
  }

  void push_front(waiter& w) noexcept {
    push_back(w);
    first_ = &w;  // the circle is the same: only where it begins is not
  }

  /// Links `w` before `at`, which is linked here.
  void insert_before(waiter& at, waiter& w) noexcept {
    w.queue = this;
    w.next = &at;
    w.previous = at.previous;
    at.previous->next = &w;
    at.previous = &w;
    if (first_ == &at) first_ = &w;
  }

  /// Unlinks and returns the first waiter, or null.
  waiter* pop_front() noexcept {
    waiter* const w = first_;
    if (w != nullptr) remove(*w);
    return w;
  }

  void remove(waiter& w) noexcept {
    if (w.next == &w) {
      first_ = nullptr;
    } else {
      w.previous->next = w.next;
      w.next->previous = w.previous;
      if (first_ == &w) first_ = w.next;
    }
    w.queue = nullptr;
  }

 private:
  waiter* first_ = nullptr;
};

/// Whether a wait may be ended by a cancellation. Re-acquiring a lock or joining in a destructor may not.
enum class cancellation : std::uint8_t { allowed, shielded };

/// Links `self` into `queue` and gives the processor away until granted, cancelled or `deadline`; `self.reason` tells which.
/// `self.thread` is filled here. A deadline that has passed still lets other threads run once.
/// @throws std::system_error(operation_not_permitted) off a weft thread; std::bad_alloc when the deadline finds no memory.
void park_waiter(wait_queue& queue, waiter& self, time_point deadline, cancellation mode);

/// The same, and returns the reason.
inline wake_reason park(wait_queue& queue, waiter& self, time_point deadline = never,
                        cancellation mode = cancellation::allowed) {
  park_waiter(queue, self, deadline, mode);
  return self.reason;
}

/// Waits for the end of a thread; `self.reason` tells how the wait ended, `self.slot` which thread it was.
/// @throws as `park_waiter`, and
/// resource_deadlock_would_occur when a thread waits for its own end.
void await_end(thread_record& of, waiter& self, time_point deadline, cancellation mode);

/// Gives back the record of the thread that await_end() waited for with `self`. @returns false when the record is another
/// thread's by now: somebody else has joined.
[[nodiscard]] bool forget(thread_record& ended, const waiter& self) noexcept;

/// Ends the wait of an unlinked waiter: its thread becomes ready. If it is one of many, the others are unlinked.
void grant(waiter& w) noexcept;

/// Unlinks the first waiter of `queue` and makes its thread ready; false when nobody waits.
inline bool grant_first(wait_queue& queue) noexcept {
  waiter* const w = queue.pop_front();
  if (w == nullptr) return false;
  grant(*w);
  return true;
}

/// Waits until `deadline`. @returns cancelled, or timed_out when the time has come.
wake_reason sleep(time_point deadline);

/// Carries out one blocking request and returns its result (≥ 0 or a negative errno); -ETIMEDOUT when `deadline` passed
/// before it was complete, `was_cancelled` when the thread was asked to end and the request had no result. Memory of `request` is
/// free again at return.
std::int32_t perform_unless_cancelled(upcall::operation& request, time_point deadline);
inline constexpr std::int32_t was_cancelled = INT32_MIN;  // no errno

/// The same, for all who need not know.
/// @throws weft::cancelled when the thread was asked to end and the request had no result. From the caller's frame: see there.
[[gnu::always_inline]] inline std::int32_t perform(upcall::operation& request, time_point deadline = never) {
  const std::int32_t result = perform_unless_cancelled(request, deadline);
  if (result == was_cancelled) [[unlikely]] throw_cancelled();
  return result;
}

/// The time of the calling thread's scheduler. @throws std::system_error(operation_not_permitted) off a weft thread; `call` names
/// who asks.
[[nodiscard]] time_point now(const char* call = "a timed wait");
/// The same, and off a weft thread the kernel's: there the wait itself is refused, or is one for threads of every kind.
[[nodiscard]] time_point start_of_wait();

/// Turns a timeout that begins at `start` into a deadline without overflow.
template <class Rep, class Period>
[[nodiscard]] time_point deadline_after(const std::chrono::duration<Rep, Period>& timeout, time_point start) {
  using std::chrono::ceil;
  if (!(timeout > timeout.zero())) return start;  // also where it is no number
  const std::chrono::duration<long double> left = never - start;
  if (std::chrono::duration<long double>(timeout) >= left) return never - duration(1);  // a deadline all the same
  return start + ceil<duration>(timeout);
}

/// The same for a timeout that begins now.
template <class Rep, class Period>
[[nodiscard]] time_point deadline_after(const std::chrono::duration<Rep, Period>& timeout) {
  return deadline_after(timeout, start_of_wait());
}

/// Turns a point in time on our own clock, in any unit, into a deadline without overflow.
template <class Duration>
[[nodiscard]] time_point deadline_at(const std::chrono::time_point<clock, Duration>& when) {
  if constexpr (!std::is_same_v<Duration, duration>) {
    using seconds = std::chrono::duration<long double>;
    const seconds since_epoch = when.time_since_epoch();
    if (since_epoch >= seconds(never.time_since_epoch())) return never - duration(1);
    if (since_epoch <= seconds(time_point::min().time_since_epoch())) return time_point::min();
  }
  return std::chrono::ceil<duration>(when);
}

/// How long it is, on any clock, until `when`; what our unit cannot express is the most or the least that it can.
template <class Clock, class Duration>
[[nodiscard]] duration time_left(const std::chrono::time_point<Clock, Duration>& when) {
  using seconds = std::chrono::duration<long double>;
  const auto start = Clock::now();
  const seconds left = seconds(when.time_since_epoch()) - seconds(start.time_since_epoch());
  if (left >= seconds(duration::max()) / 2) return duration::max();
  if (left <= seconds(duration::min()) / 2) return duration::min();
  return std::chrono::ceil<duration>(when - start);
}

/// The deadline that stands for a point in time on any clock. If that clock is not ours it may be set back meanwhile: whoever
/// waits asks `time_left` afterwards.
template <class Clock, class Duration>
[[nodiscard]] time_point deadline_on(const std::chrono::time_point<Clock, Duration>& when) {
  if constexpr (std::is_same_v<Clock, clock>) {
    return deadline_at(when);
  } else {
    return deadline_after(time_left(when));
  }
}

}  // namespace weft::detail
