// Doing something once for all threads: `once_flag`, `call_once`.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/error.hpp"

namespace weft {

class once_flag;
template <class Callable, class... Args> void call_once(once_flag& flag, Callable&& fn, Args&&... args);

/// As `std::once_flag`: remembers whether a `call_once` with it has returned. Destroying it while one is under way ends the
/// program with a sentence.
class once_flag {
 public:
  constexpr once_flag() noexcept = default;
  once_flag(const once_flag&) = delete;
  once_flag& operator=(const once_flag&) = delete;
  ~once_flag() {
    if ((caller_.load(std::memory_order_relaxed) & ~done) != 0) [[unlikely]] destroyed_in_use();
  }

 private:
  template <class Callable, class... Args> friend void call_once(once_flag& flag, Callable&& fn, Args&&... args);

  [[nodiscard]] bool is_done() const noexcept { return caller_.load(std::memory_order_acquire) == done; }
  [[nodiscard]] bool begin();
  void succeed();
  void fail();
  [[noreturn]] static void destroyed_in_use() noexcept;

  // 0, then the record of the thread that calls, and back to 0 when its call threw and nobody waits; in the end `done`. Atomic,
  // because a flag that is done may be asked by anybody: what the call did is seen by whoever sees `done`.
  static constexpr std::uintptr_t done = 1;
  std::atomic<std::uintptr_t> caller_ = 0;
  detail::wait_queue waiters_;
};

/// As `std::call_once`: calls `std::invoke(fn, args...)`, all perfectly forwarded, unless a call with `flag` has returned before;
/// returns when one has. Threads that come meanwhile wait. Where a call throws, `weft::cancelled` as well, the longest waiter
/// makes its own. Once a call has returned, this is one comparison (≈ 1 ns) and may be called by anybody: threads of other
/// schedulers, other kernel threads.
///
/// Before, only for the threads of one scheduler: one of another that finds a call under way ends the program with a sentence.
/// In a region of `weft::blocking` `fn` runs in the region.
/// @throws what `fn` throws; std::system_error: resource_deadlock_would_occur when `fn` comes back here with the same flag,
///         operation_not_permitted off a weft thread while no call has returned; weft::cancelled.
template <class Callable, class... Args> void call_once(once_flag& flag, Callable&& fn, Args&&... args) {
  static_assert(std::is_invocable_v<Callable, Args...>, "weft::call_once: the function cannot be called with these arguments");
  if (flag.is_done() || !flag.begin()) return;
  try {
    static_cast<void>(std::invoke(std::forward<Callable>(fn), std::forward<Args>(args)...));
  } catch (...) {
    flag.fail();
    throw;
  }
  flag.succeed();
}

}  // namespace weft
