// A gate that opens once.
#pragma once

#include <cstddef>
#include <limits>

#include "weft/detail/park.hpp"
#include "weft/error.hpp"

namespace weft {

/// As `std::latch`, for the threads of one scheduler: a count that goes down to zero, once, and threads that wait for it. Those
/// who wait become ready in the order in which they came. A thread of another scheduler that finds somebody waiting ends the
/// program with a sentence: it is to use a `weft::poster`. ≈ 5 ns for what need not wait.
class latch {
 public:
  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept { return std::numeric_limits<std::ptrdiff_t>::max(); }

  /// @throws std::system_error(invalid_argument) when expected < 0.
  constexpr explicit latch(std::ptrdiff_t expected) : count_(expected) {
    if (expected < 0) negative();
  }
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;
  ~latch() {
    if (!waiters_.empty()) [[unlikely]] destroyed_in_use();
  }

  /// Counts down by `update`; at zero all who wait become ready. Nobody waits in it.
  /// @throws std::system_error: invalid_argument unless 0 ≤ update ≤ the count, operation_not_permitted off a weft thread.
  void count_down(std::ptrdiff_t update = 1);

  /// @returns whether the count is zero. @throws operation_not_permitted off a weft thread.
  [[nodiscard]] bool try_wait() const;

  /// Waits until the count is zero. @throws weft::cancelled; operation_not_permitted off a weft thread.
  void wait() const;

  /// Counts down, then waits. One who is asked to end meanwhile has counted down all the same.
  /// @throws as `count_down` and `wait`
  void arrive_and_wait(std::ptrdiff_t update = 1);

 private:
  [[noreturn]] static void negative();
  [[noreturn]] void destroyed_in_use() noexcept;

  std::ptrdiff_t count_;
  mutable detail::wait_queue waiters_;  // empty when count_ is 0
};

}  // namespace weft
