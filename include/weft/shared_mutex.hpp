// Locks that one thread holds alone or many share: `shared_mutex`, `shared_timed_mutex`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <shared_mutex>  // std::shared_lock works with both

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/detail/timed_lock.hpp"
#include "weft/error.hpp"

namespace weft {

class shared_mutex;

namespace detail {
/// The thread that holds the lock alone, or is the only one that shares it; otherwise null. For reports.
[[nodiscard]] const thread_record* only_holder(const shared_mutex& of) noexcept;
}  // namespace detail

/// As `std::shared_mutex`, for weft threads; readers (`lock_shared`) hold it together, a writer (`lock`) alone. First come, first
/// served: readers that wait one behind the other get in together, and a reader that comes while a writer waits goes behind that
/// writer, so neither kind starves. Only `try_lock` and `try_lock_shared` may come before waiters that were chosen and have
/// not run yet, as with `mutex`: so `std::lock` and `std::scoped_lock` get on.
///
/// A reader that locks once more, in either way, may wait for itself: that is an error where it is the only reader, otherwise a
/// deadlock. Who may use it, and until when: as `mutex`. Free lock + unlock of either kind: ≈ 2 ns, no atomic instruction.
class shared_mutex {
 public:
  constexpr shared_mutex() noexcept = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;
  ~shared_mutex() {
    if (writer_ != 0 || readers_ != 0 || chosen_readers_ != 0) [[unlikely]] destroyed_locked();
  }

  /// Waits until the caller alone holds it.
  /// @throws std::system_error: resource_deadlock_would_occur when the caller holds it already (of a reader this is known only
  ///         while it is the only one), operation_not_permitted off a weft thread; weft::cancelled.
  void lock() {
    if (!take_free()) static_cast<void>(lock_slow(never));
  }

  /// Takes it if nobody holds it. @returns whether it did. @throws operation_not_permitted off a weft thread.
  [[nodiscard]] bool try_lock() {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr) [[unlikely]] return detail::with_processor("shared_mutex::try_lock", [this] { return try_lock(); });
    if (readers_ != 0 || (writer_ & ~promised) != 0) return false;
    writer_ |= word(self);
    return true;
  }

  /// Lets the longest waiter in, and if that is a reader all those behind it up to the next writer.
  /// @throws std::system_error(operation_not_permitted) when the caller does not hold it alone.
  void unlock() {
    detail::thread_record* const self = detail::current_thread();
    if (self != nullptr && writer_ == word(self) && waiters_.empty()) [[likely]] {
      writer_ = 0;
    } else {
      unlock_slow();
    }
  }

  /// Waits until the caller is one of the readers that hold it.
  /// @throws as `lock`
  void lock_shared() {
    if (!share_free()) static_cast<void>(lock_shared_slow(never));
  }

  /// Shares it if no writer holds it and none waits for readers to leave. @returns whether it did.
  /// @throws operation_not_permitted off a weft thread.
  [[nodiscard]] bool try_lock_shared() {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr) [[unlikely]] {
      return detail::with_processor("shared_mutex::try_lock_shared", [this] { return try_lock_shared(); });
    }
    if (readers_ != 0 ? writer_ != 0 || !waiters_.empty() : (writer_ & ~promised) != 0) return false;
    add_reader(*self);
    return true;
  }

  /// Leaves the readers; the last one lets the longest waiter in.
  /// @throws std::system_error(operation_not_permitted) when no reader holds it, or only another one.
  void unlock_shared() {
    detail::thread_record* const self = detail::current_thread();
    if (self != nullptr && may_leave(*self) && waiters_.empty()) [[likely]] {
      remove_reader(*self);
    } else {
      unlock_shared_slow();
    }
  }

 private:
  friend class shared_timed_mutex;
  friend const detail::thread_record* detail::only_holder(const shared_mutex& of) noexcept;

  static std::uintptr_t word(const detail::thread_record* t) noexcept { return reinterpret_cast<std::uintptr_t>(t); }
  [[nodiscard]] bool take_free() noexcept {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr || writer_ != 0 || (readers_ | chosen_readers_) != 0) [[unlikely]] return false;
    writer_ = word(self);
    return true;
  }
  [[nodiscard]] bool share_free() noexcept {
    detail::thread_record* const self = detail::current_thread();
    if (self == nullptr || writer_ != 0 || !waiters_.empty()) [[unlikely]] return false;
    add_reader(*self);
    return true;
  }
  void add_reader(const detail::thread_record& t) noexcept {
    ++readers_;
    sum_ += word(&t);
  }
  void remove_reader(const detail::thread_record& t) noexcept {
    --readers_;
    sum_ -= word(&t);
  }
  [[nodiscard]] bool may_leave(const detail::thread_record& t) const noexcept { return readers_ > 1 || sum_ == word(&t); }

  bool lock_slow(time_point deadline);
  bool lock_shared_slow(time_point deadline);
  void unlock_slow();
  void unlock_shared_slow();
  void check(const detail::thread_record& self) const;
  void await(detail::waiter& w, time_point deadline);
  void wait_again(detail::waiter& w, time_point deadline);
  [[nodiscard]] bool give_up(const detail::waiter& w);
  void choose() noexcept;
  [[noreturn]] void destroyed_locked() noexcept;

  // The record of the writer that holds the lock, or 0, with the bit `promised` while a writer that was woken to take it has not
  // run yet. Invariants, between calls: writers and readers never hold it together; writers and readers were never chosen
  // together; whoever is first in waiters_ waits for somebody who holds the lock or was chosen.
  static constexpr std::uintptr_t promised = 1;
  std::uintptr_t writer_ = 0;
  std::uintptr_t sum_ = 0;          // of the readers' records: while there is one reader, it says which
  std::size_t readers_ = 0;         // that hold it
  std::size_t chosen_readers_ = 0;  // that were woken to share it and have not run yet
  detail::wait_queue waiters_;
};

/// As `std::shared_timed_mutex`: a `shared_mutex` for which one can wait a limited time. A writer that gives up waiting lets the
/// readers behind it in.
class shared_timed_mutex : private shared_mutex {
 public:
  constexpr shared_timed_mutex() noexcept = default;
  using shared_mutex::lock;
  using shared_mutex::lock_shared;
  using shared_mutex::try_lock;
  using shared_mutex::try_lock_shared;
  using shared_mutex::unlock;
  using shared_mutex::unlock_shared;

  /// Waits at most `timeout` until the caller alone holds it; zero or less: as `try_lock`. @returns whether it does.
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

  /// Waits at most `timeout` until the caller is one of the readers; zero or less: as `try_lock_shared`. @returns whether it is.
  /// @throws as `lock_shared`
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(const std::chrono::duration<Rep, Period>& timeout) {
    return share_free() || lock_shared_by(detail::deadline_after(timeout));
  }
  /// The same, at most until `when` on any clock.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration>& when) {
    return share_free() || detail::lock_until(when, [this](time_point deadline) { return lock_shared_by(deadline); });
  }

 private:
  bool lock_by(time_point deadline);
  bool lock_shared_by(time_point deadline);
};

}  // namespace weft
