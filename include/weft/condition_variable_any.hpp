// Waiting for a condition under any lock, and for a stop request.
#pragma once

#include <chrono>
#include <condition_variable>  // std::cv_status
#include <cstdint>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "weft/cancel.hpp"
#include "weft/detail/park.hpp"
#include "weft/detail/stop_watch.hpp"
#include "weft/error.hpp"

namespace weft {

using std::cv_status;
class condition_variable_any;

namespace detail {

/// A thread's place among those that wait for a condition. It is taken before the lock is released, because releasing a lock of
/// the program's own may let other threads run: what they notify is remembered here until the thread waits. So this is the one
/// waiter that may be linked while its thread still runs.
class condition_place : private waiter, private stop_listener {
 public:
  /// @throws std::system_error(operation_not_permitted) off a weft thread
  condition_place(condition_variable_any& of, stop_watch* watch);
  ~condition_place() {
    if (!used_) [[unlikely]] abandon();
  }
  condition_place(const condition_place&) = delete;
  condition_place& operator=(const condition_place&) = delete;

  /// Waits for a notification, a stop request or `deadline`. Once.
  /// @throws weft::cancelled; std::bad_alloc when the deadline finds no memory
  cv_status wait(time_point deadline);

 private:
  friend class weft::condition_variable_any;
  enum class notified : std::uint8_t { no, one, all };
  void enter();
  void notify(notified how) noexcept;
  void stop() noexcept override;
  void leave() noexcept;
  void end_if_parked() noexcept;
  void abandon();
  cv_status wait_in_place(time_point deadline);

  condition_variable_any& of_;
  stop_watch* const watch_;
  notified notified_ = notified::no;
  bool used_ = false;
};

/// Takes a lock again when it is destroyed, whatever a cancellation says. As in the standard, an exception of `lock` ends the
/// program by `std::terminate`.
template <class Lock> class takes_again {
 public:
  explicit takes_again(Lock& lock) noexcept : lock_(lock) {}
  ~takes_again() {
    const shield whatever_comes;
    lock_.lock();
  }
  takes_again(const takes_again&) = delete;
  takes_again& operator=(const takes_again&) = delete;

 private:
  Lock& lock_;
};

}  // namespace detail

/// As `std::condition_variable_any`, for any lock with `lock` and `unlock` whose waits are weft's; wakes in the order of waiting,
/// never spuriously. For `std::unique_lock<weft::mutex>`, `condition_variable` costs less.
///
/// A wait that throws `weft::cancelled` holds the lock again when it throws. What `unlock` throws leaves the wait, and nobody has
/// waited then; what `lock` throws ends the program by `std::terminate`. Only for the threads of one scheduler: a thread of
/// another one that finds somebody waiting ends the program with a sentence, and uses a `weft::poster`, or requests a stop.
class condition_variable_any {
 public:
  condition_variable_any() = default;
  condition_variable_any(const condition_variable_any&) = delete;
  condition_variable_any& operator=(const condition_variable_any&) = delete;
  ~condition_variable_any() {
    if (!waiters_.empty()) [[unlikely]] destroyed_in_use();
  }

  /// Wakes the longest waiter, if there is one. From any weft thread of the scheduler, with or without the lock; elsewhere it
  /// ends the program with a sentence when somebody waits.
  void notify_one() noexcept;
  void notify_all() noexcept;

  /// Releases `lock`, waits for a notification, and takes `lock` again.
  /// @throws weft::cancelled; whatever `unlock` throws; std::system_error(operation_not_permitted) off a weft thread.
  template <class Lock> void wait(Lock& lock) { static_cast<void>(wait_deadline(lock, never, nullptr)); }

  template <class Lock, class Predicate> void wait(Lock& lock, Predicate ready) {
    while (!ready()) wait(lock);
  }

  /// The same, at most until `when` on any clock: a clock that is set back meanwhile is asked again.
  template <class Lock, class Clock, class Duration>
  cv_status wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& when) {
    return wait_on_clock(lock, when, nullptr);
  }

  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, const std::chrono::time_point<Clock, Duration>& when, Predicate ready) {
    while (!ready()) {
      if (wait_until(lock, when) == cv_status::timeout) return ready();
    }
    return true;
  }

  template <class Lock, class Rep, class Period>
  cv_status wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& timeout) {
    return wait_deadline(lock, detail::deadline_after(timeout), nullptr);
  }

  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& timeout, Predicate ready) {
    return wait_until(lock, detail::deadline_after(timeout), std::move(ready));
  }

  /// Waits until `ready()` holds or a stop is requested, and returns what `ready()` says then. The stop may be requested by any
  /// kernel thread, and wakes whoever waits at once; as long as somebody could, an idle scheduler waits instead of reporting a
  /// deadlock. Costs some memory for each call that has to wait.
  /// @throws as `wait`; std::bad_alloc
  template <class Lock, class Predicate> bool wait(Lock& lock, std::stop_token token, Predicate ready) {
    return wait_stoppable(token, ready, [&](detail::stop_watch* watch) { return wait_deadline(lock, never, watch); });
  }

  template <class Lock, class Clock, class Duration, class Predicate>
  bool wait_until(Lock& lock, std::stop_token token, const std::chrono::time_point<Clock, Duration>& when, Predicate ready) {
    return wait_stoppable(token, ready, [&](detail::stop_watch* watch) { return wait_on_clock(lock, when, watch); });
  }

  template <class Lock, class Rep, class Period, class Predicate>
  bool wait_for(Lock& lock, std::stop_token token, const std::chrono::duration<Rep, Period>& timeout, Predicate ready) {
    return wait_until(lock, std::move(token), detail::deadline_after(timeout), std::move(ready));
  }

 private:
  friend class detail::condition_place;

  template <class Lock> cv_status wait_deadline(Lock& lock, time_point deadline, detail::stop_watch* watch) {
    detail::condition_place place(*this, watch);
    lock.unlock();
    const detail::takes_again<Lock> at_end(lock);
    return place.wait(deadline);
  }

  // One wait by our own clock; the caller's clock has the last word on whether the time has come.
  template <class Lock, class Clock, class Duration>
  cv_status wait_on_clock(Lock& lock, const std::chrono::time_point<Clock, Duration>& when, detail::stop_watch* watch) {
    const cv_status how = wait_deadline(lock, detail::deadline_on(when), watch);
    if constexpr (!std::is_same_v<Clock, clock>) {
      if (how == cv_status::timeout && detail::time_left(when) > duration::zero()) return cv_status::no_timeout;
    }
    return how;
  }

  template <class Predicate, class Wait> static bool wait_stoppable(const std::stop_token& token, Predicate& ready, Wait wait) {
    std::optional<detail::stop_watch> watch;
    while (!token.stop_requested()) {
      if (ready()) return true;
      if (!watch && token.stop_possible()) watch.emplace("condition_variable_any::wait", token);
      if (wait(watch ? &*watch : nullptr) == cv_status::timeout) return ready();
    }
    return ready();
  }

  [[noreturn]] void destroyed_in_use() noexcept;

  detail::wait_queue waiters_;  // of condition_places
};

}  // namespace weft
