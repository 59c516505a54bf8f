// Counting semaphores.
#pragma once

#include <chrono>
#include <cstddef>
#include <limits>

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/error.hpp"

namespace weft {

namespace detail {

struct semaphore_case;  // weft/select.hpp

// The counter all semaphores share. Invariant: count_ is 0 whenever somebody waits; a permit is given to the longest waiter.
class semaphore_base {
 public:
  constexpr explicit semaphore_base(std::ptrdiff_t count) noexcept : count_(count) {}
  semaphore_base(const semaphore_base&) = delete;
  semaphore_base& operator=(const semaphore_base&) = delete;

 protected:
  ~semaphore_base() {
    if (!waiters_.empty()) [[unlikely]] destroyed_in_use();
  }

  bool take_free() {
    if (current_thread() == nullptr) [[unlikely]] return with_processor("semaphore::acquire", [this] { return take_free(); });
    if (count_ == 0) return false;
    --count_;
    return true;
  }
  bool acquire_slow(time_point deadline) {
    if (current_thread() == nullptr) [[unlikely]] {
      return with_processor("semaphore::acquire", [&] { return take_free() || acquire_slow(deadline); });
    }
    waiter self;
    self.what = "semaphore";
    self.object = this;
    const wake_reason reason = park(waiters_, self, deadline);
    if (reason == wake_reason::cancelled) [[unlikely]] throw_cancelled();
    return reason == wake_reason::granted;
  }
  void release_some(std::ptrdiff_t update, std::ptrdiff_t maximum);
  [[noreturn]] static void out_of_range();

 private:
  friend struct semaphore_case;

  [[noreturn]] void destroyed_in_use() noexcept;

  std::ptrdiff_t count_;
  wait_queue waiters_;
};

}  // namespace detail

/// As `std::counting_semaphore`, for the threads of one scheduler; permits go to the longest waiter. A thread of another
/// scheduler that finds somebody waiting ends the program with a sentence: it is to use a `weft::poster`.
template <std::ptrdiff_t LeastMaxValue = std::numeric_limits<std::ptrdiff_t>::max()>
class counting_semaphore : private detail::semaphore_base {
  static_assert(LeastMaxValue >= 0);
  friend struct detail::semaphore_case;

 public:
  /// @throws std::system_error(invalid_argument) unless 0 ≤ desired ≤ max().
  constexpr explicit counting_semaphore(std::ptrdiff_t desired) : semaphore_base(desired) {
    if (desired < 0 || desired > LeastMaxValue) out_of_range();
  }

  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept { return LeastMaxValue; }

  /// Adds `update` permits and makes as many waiters ready.
  /// @throws std::system_error: invalid_argument when update < 0, value_too_large when the count would exceed max().
  void release(std::ptrdiff_t update = 1) { release_some(update, LeastMaxValue); }

  /// Takes a permit, waits for one if there is none. @throws weft::cancelled; operation_not_permitted off a weft thread.
  void acquire() {
    if (!take_free()) static_cast<void>(acquire_slow(never));
  }
  [[nodiscard]] bool try_acquire() { return take_free(); }

  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& timeout) {
    return take_free() || acquire_slow(detail::deadline_after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& when) {
    do {
      if (take_free() || acquire_slow(detail::deadline_on(when))) return true;
      if constexpr (std::is_same_v<Clock, clock>) return false;
    } while (detail::time_left(when) > duration::zero());  // the caller's clock was set back
    return false;
  }
};

using binary_semaphore = counting_semaphore<1>;

}  // namespace weft
