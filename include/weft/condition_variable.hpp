// Waiting for a condition under a mutex.
#pragma once

#include <chrono>
#include <condition_variable>  // std::cv_status
#include <mutex>

#include "weft/detail/park.hpp"
#include "weft/mutex.hpp"

namespace weft {

using std::cv_status;

/// As `std::condition_variable`, for `std::unique_lock<weft::mutex>`; wakes in the order of waiting, never spuriously.
///
/// A wait that throws `weft::cancelled` holds the mutex again when it throws. Only for the threads of one scheduler: a thread of
/// another one that finds somebody waiting ends the program with a sentence, and uses a `weft::poster` instead.
class condition_variable {
 public:
  condition_variable() = default;
  condition_variable(const condition_variable&) = delete;
  condition_variable& operator=(const condition_variable&) = delete;
  ~condition_variable() {
    if (!waiters_.empty()) [[unlikely]] destroyed_in_use();
  }

  /// Wakes the longest waiter, if there is one. From any weft thread of the scheduler, with or without the mutex; elsewhere it
  /// ends the program with a sentence when somebody waits.
  void notify_one() noexcept;
  void notify_all() noexcept;

  /// Releases `lock`, waits for a notification, and takes `lock` again.
  /// @throws std::system_error(operation_not_permitted) when the caller does not hold `lock`; weft::cancelled.
  void wait(std::unique_lock<mutex>& lock) { static_cast<void>(wait_deadline(lock, never)); }

  template <class Predicate>
  void wait(std::unique_lock<mutex>& lock, Predicate ready) {
    while (!ready()) wait(lock);
  }

  /// The same, at most until `when` on any clock: a clock that is set back meanwhile is asked again.
  template <class Clock, class Duration>
  cv_status wait_until(std::unique_lock<mutex>& lock, const std::chrono::time_point<Clock, Duration>& when) {
    const cv_status how = wait_deadline(lock, detail::deadline_on(when));
    if constexpr (std::is_same_v<Clock, clock>) {
      return how;
    } else {
      // One wait by our own clock; the caller's clock has the last word on whether the time has come.
      if (how == cv_status::no_timeout) return how;
      return detail::time_left(when) > duration::zero() ? cv_status::no_timeout : cv_status::timeout;
    }
  }

  template <class Clock, class Duration, class Predicate>
  bool wait_until(std::unique_lock<mutex>& lock, const std::chrono::time_point<Clock, Duration>& when, Predicate ready) {
    while (!ready()) {
      if (wait_until(lock, when) == cv_status::timeout) return ready();
    }
    return true;
  }

  template <class Rep, class Period>
  cv_status wait_for(std::unique_lock<mutex>& lock, const std::chrono::duration<Rep, Period>& timeout) {
    return wait_deadline(lock, detail::deadline_after(timeout));
  }

  template <class Rep, class Period, class Predicate>
  bool wait_for(std::unique_lock<mutex>& lock, const std::chrono::duration<Rep, Period>& timeout, Predicate ready) {
    return wait_until(lock, detail::deadline_after(timeout), std::move(ready));
  }

 private:
  cv_status wait_deadline(std::unique_lock<mutex>& lock, time_point deadline);
  [[noreturn]] void destroyed_in_use() noexcept;

  detail::wait_queue waiters_;
};

/// Takes `lock` over, and when the calling thread has ended (its function, the arguments and all that is bound to the thread are
/// gone) unlocks it and notifies all who wait on `condition`, which must live until then. Also at the end of a cancellation.
/// @throws std::system_error(operation_not_permitted) when the caller does not hold `lock`, or off a weft thread; std::bad_alloc.
void notify_all_at_thread_exit(condition_variable& condition, std::unique_lock<mutex> lock);

}  // namespace weft
