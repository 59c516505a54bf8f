// Mutual exclusion between the threads of one scheduler.
#pragma once

#include <cstdint>
#include <mutex>  // std::lock_guard, std::unique_lock, std::adopt_lock, … work with weft::mutex

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/error.hpp"

namespace weft {

/// As `std::mutex`, for weft threads: a waiting thread parks, the processor goes on. First come, first served: `unlock`
/// hands the mutex to the longest waiter, so a thread that locks and unlocks in a loop cannot starve the others. Only
/// `try_lock` may come before a waiter that was chosen and has not run yet: so `std::lock` and `std::scoped_lock` get on.
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
    detail::thread_record* const self = detail::current_thread();
    if (self != nullptr && holder_ == 0) [[likely]] {
      holder_ = word(self);
    } else {
      lock_slow(detail::cancellation::allowed);
    }
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
  static std::uintptr_t word(const detail::thread_record* t) noexcept { return reinterpret_cast<std::uintptr_t>(t); }
  void lock_slow(detail::cancellation mode);
  void check_home(const detail::thread_record& self) const noexcept;
  void take_up(detail::waiter& w, detail::cancellation mode);
  void unlock_slow();
  [[noreturn]] void destroyed_locked() noexcept;

  // The record of the thread that holds the mutex, or 0, with the bit `promised` while a thread that was woken to take it has
  // not run yet. Invariants: one thread at most has been woken; waiters_ is empty whenever holder_ is 0, between calls.
  static constexpr std::uintptr_t promised = 1;
  std::uintptr_t holder_ = 0;
  detail::wait_queue waiters_;
};

}  // namespace weft
