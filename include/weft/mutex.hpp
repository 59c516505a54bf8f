// Mutual exclusion between the threads of one scheduler: `mutex`, `timed_mutex`, `recursive_mutex`, `recursive_timed_mutex`.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>  // std::lock_guard, std::unique_lock, std::adopt_lock, … work with all of these

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/detail/timed_lock.hpp"
#include "weft/error.hpp"

namespace weft {

namespace sched {
class inheritance;
}

/// As `std::mutex`, for weft threads: a waiting thread parks, the processor goes on. First come, first served: `unlock`
/// hands the mutex to the longest waiter, so a thread that locks and unlocks in a loop cannot starve the others. Only
/// `try_lock` may come before a waiter that was chosen and has not run yet: so `std::lock` and `std::scoped_lock` get on.
/// Under a policy that tells who is more urgent, the most urgent waiter comes first, and whoever holds the mutex inherits its
/// urgency (weft/policy.hpp).
///
/// Only for the threads of one scheduler: a thread of another one that finds it locked ends the program with a sentence. A
/// thread must unlock what it locked before it ends: a later thread may be taken for it. Free lock + unlock: ≈ 2 ns, no atomic
/// instruction.
class mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;
  ~mutex() {
    if (holder_ != 0) [[unlikely]] destroyed_locked();
  }

  /// Waits until the mutex is the caller's.
  /// A destructor that locks in a thread asked to end must allow for `weft::cancelled` unless the thread unwinds.
  /// @throws std::system_error: resource_deadlock_would_occur when the caller holds it already, operation_not_permitted
  ///         off a weft thread; weft::cancelled.
  void lock() {
    if (!take_free()) static_cast<void>(lock_slow(detail::cancellation::allowed, never));
  }

  /// Takes the mutex if nobody holds it. @returns whether it did. @throws operation_not_permitted off a weft thread.
  [[nodiscard]] bool try_lock() {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr) [[unlikely]] return detail::with_processor("mutex::try_lock", [this] { return try_lock(); });
    if ((holder_ & ~promised) != 0) return false;
    holder_ |= word(self);
    return true;
  }

  /// Hands the mutex to the longest waiter, which becomes ready; the caller goes on.
  /// @throws std::system_error(operation_not_permitted) when the caller does not hold it.
  void unlock() {
    detail::thread_record* const self = detail::current_thread();
    if (self != nullptr && holder_ == word(self) && waiters_.empty()) [[likely]] {
      holder_ = 0;
    } else {
      unlock_slow();
    }
  }

 private:
  friend class condition_variable;
  friend class timed_mutex;
  friend class sched::inheritance;
  static std::uintptr_t word(const detail::thread_record* t) noexcept { return reinterpret_cast<std::uintptr_t>(t); }
  [[nodiscard]] bool take_free() noexcept {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr || holder_ != 0) [[unlikely]] return false;
    holder_ = word(self);
    return true;
  }
  [[nodiscard]] bool held_by(const detail::thread_record& t) const noexcept { return (holder_ & ~promised) == word(&t); }
  bool lock_slow(detail::cancellation mode, time_point deadline);
  void check_home(const detail::thread_record& self) const noexcept;
  bool take_up(detail::waiter& w, detail::cancellation mode, time_point deadline);
  void unlock_slow();
  [[noreturn]] void destroyed_locked() noexcept;

  // The record of the thread that holds the mutex, or 0, with the bit `promised` while a thread that was woken to take it has
  // not run yet. Invariants: one thread at most has been woken; waiters_ is empty whenever holder_ is 0, between calls.
  static constexpr std::uintptr_t promised = 1;
  std::uintptr_t holder_ = 0;
  detail::wait_queue waiters_;
};

/// As `std::timed_mutex`: a `mutex` for which one can wait a limited time. Whoever waits so is served in turn as well.
class timed_mutex : private mutex {
 public:
  constexpr timed_mutex() noexcept = default;
  using mutex::lock;
  using mutex::try_lock;
  using mutex::unlock;

  /// Waits at most `timeout` until the mutex is the caller's; zero or less: as `try_lock`. @returns whether it is.
  /// @throws as `lock`
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout) {
    return take_free() || lock_by(detail::deadline_after(timeout));
  }

  /// The same, at most until `when` on any clock: a clock that is set back meanwhile is asked again.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& when) {
    return take_free() || detail::lock_until(when, [this](time_point deadline) { return lock_by(deadline); });
  }

 private:
  friend class recursive_mutex;
  using mutex::held_by;
  bool lock_by(time_point deadline);
};

/// As `std::recursive_mutex`: the thread that holds it may lock it again, up to a million times, and holds it until it has
/// unlocked it as often. Who waits, in which order, and whose it may be: as `mutex`. Free lock + unlock: ≈ 3 ns.
class recursive_mutex {
 public:
  constexpr recursive_mutex() noexcept = default;
  recursive_mutex(const recursive_mutex&) = delete;
  recursive_mutex& operator=(const recursive_mutex&) = delete;

  /// Waits until the mutex is the caller's, once more if it is already.
  /// @throws std::system_error: resource_unavailable_try_again when the caller has locked it a million times,
  ///         operation_not_permitted off a weft thread; weft::cancelled.
  void lock() {
    if (!holds("recursive_mutex::lock")) return inner_.lock();
    if (again_ == most_again) [[unlikely]] too_often();
    ++again_;
  }

  /// Takes the mutex if nobody else holds it. @returns whether it did: not if the caller has locked it a million times.
  /// @throws operation_not_permitted off a weft thread.
  [[nodiscard]] bool try_lock() {
    if (!holds("recursive_mutex::try_lock")) return inner_.try_lock();
    if (again_ == most_again) [[unlikely]] return false;
    ++again_;
    return true;
  }

  /// Undoes one lock; the last one hands the mutex to the longest waiter.
  /// @throws std::system_error(operation_not_permitted) when the caller does not hold it.
  void unlock() {
    if (holds("recursive_mutex::unlock") && again_ != 0) {
      --again_;
    } else {
      inner_.unlock();
    }
  }

 private:
  friend class recursive_timed_mutex;
  static constexpr std::uint32_t most_again = 999'999;

  // What it tells stays true until the caller itself locks or unlocks, also in a region.
  [[nodiscard]] bool holds(const char* call) const {
    const detail::thread_record* const self = detail::current_thread();
    if (self == nullptr) [[unlikely]] return detail::with_processor(call, [=, this] { return holds(call); });
    return inner_.held_by(*self);
  }
  [[noreturn]] static void too_often();

  timed_mutex inner_;
  std::uint32_t again_ = 0;  // locks of the holder's beyond its first; only the holder looks at it
};

/// As `std::recursive_timed_mutex`: a `recursive_mutex` for which one can wait a limited time.
class recursive_timed_mutex : private recursive_mutex {
 public:
  constexpr recursive_timed_mutex() noexcept = default;
  using recursive_mutex::lock;
  using recursive_mutex::try_lock;
  using recursive_mutex::unlock;

  /// As `timed_mutex::try_lock_for`; the holder takes it once more at once, or gets false after a million times.
  /// @throws operation_not_permitted off a weft thread; weft::cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& timeout) {
    return holds("recursive_timed_mutex::try_lock_for") ? try_lock() : inner_.try_lock_for(timeout);
  }

  /// The same, at most until `when` on any clock.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<Clock, Duration>& when) {
    return holds("recursive_timed_mutex::try_lock_until") ? try_lock() : inner_.try_lock_until(when);
  }
};

}  // namespace weft
