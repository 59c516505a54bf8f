// A gate that opens each time all have come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/error.hpp"

namespace weft {

namespace detail {

// What barriers have in common. Invariant: left_ is 0 from the last arrival of a phase until begin_next(), so whoever arrives
// while the completion function runs is one too many.
class barrier_base {
 public:
  constexpr explicit barrier_base(std::ptrdiff_t expected) : expected_(expected), left_(expected) {
    if (expected < 0) negative();
  }
  barrier_base(const barrier_base&) = delete;
  barrier_base& operator=(const barrier_base&) = delete;

 protected:
  ~barrier_base() {
    if (!waiters_.empty()) [[unlikely]] destroyed_in_use();
  }

  struct arrival {
    std::uint64_t phase;
    bool last;
  };
  [[nodiscard]] arrival count_down(std::ptrdiff_t update);
  [[nodiscard]] arrival drop();
  void begin_next();
  void await(std::uint64_t phase) const;
  [[noreturn]] static void foreign_token();

 private:
  [[noreturn]] static void negative();
  [[noreturn]] void destroyed_in_use() noexcept;

  std::ptrdiff_t expected_;
  std::ptrdiff_t left_;      // arrivals until this phase is over
  std::uint64_t phase_ = 0;
  mutable wait_queue waiters_;  // for the end of this phase
};

/// The completion function of a barrier that has none.
struct nothing_more {
  void operator()() const noexcept {}
};

}  // namespace detail

/// As `std::barrier`, for the threads of one scheduler: `expected` arrivals end a phase. The last one to arrive calls the
/// completion function, then all who wait become ready, in the order in which they came, and the next phase begins. Any number of
/// phases. A thread of another scheduler that finds somebody waiting ends the program with a sentence.
///
/// An exception that leaves the completion function ends the program by `std::terminate`: one that waits in a thread that was
/// asked to end must allow for `weft::cancelled`. A thread that was asked to end and will not come again says so by
/// `arrive_and_drop`, or the others wait for it. ≈ 10 ns an arrival.
template <class CompletionFunction = detail::nothing_more>
class barrier : private detail::barrier_base {
  static_assert(std::is_invocable_v<CompletionFunction&>, "weft::barrier: the completion function is called without arguments");

 public:
  /// Names the phase in which its holder arrived. Moved from, it names none.
  class arrival_token {
   public:
    arrival_token(arrival_token&& other) noexcept : of_(std::exchange(other.of_, nullptr)), phase_(other.phase_) {}
    arrival_token& operator=(arrival_token&& other) noexcept {
      of_ = std::exchange(other.of_, nullptr);
      phase_ = other.phase_;
      return *this;
    }
    ~arrival_token() = default;

   private:
    friend class barrier;
    arrival_token(const barrier* of, std::uint64_t phase) noexcept : of_(of), phase_(phase) {}
    const barrier* of_;
    std::uint64_t phase_;
  };

  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept { return std::numeric_limits<std::ptrdiff_t>::max(); }

  /// @throws std::system_error(invalid_argument) when expected < 0; whatever moving `completion` throws.
  constexpr explicit barrier(std::ptrdiff_t expected, CompletionFunction completion = CompletionFunction())
      : barrier_base(expected), completion_(std::move(completion)) {}

  /// Arrives `update` times. Never waits, unless the completion function does.
  /// @throws std::system_error: invalid_argument unless 1 ≤ update ≤ the arrivals that this phase still expects,
  ///         operation_not_permitted off a weft thread.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t update = 1) { return {this, end_if_last(count_down(update))}; }

  /// Waits until the phase of `token` is over; returns at once if it is.
  /// @throws weft::cancelled (the arrival counts all the same, and the token can be waited for again);
  ///         std::system_error: invalid_argument for a token of another barrier or one that was moved from,
  ///         operation_not_permitted off a weft thread.
  void wait(arrival_token&& token) const {
    if (token.of_ != this) [[unlikely]] foreign_token();
    await(token.phase_);
  }

  /// @throws as `arrive` and `wait`
  void arrive_and_wait() { await(end_if_last(count_down(1))); }

  /// Arrives, and makes every later phase expect one arrival less. @throws as `arrive`
  void arrive_and_drop() { static_cast<void>(end_if_last(drop())); }

 private:
  std::uint64_t end_if_last(arrival a) noexcept {
    if (a.last) {
      completion_();
      begin_next();
    }
    return a.phase;
  }

  [[no_unique_address]] CompletionFunction completion_;
};

}  // namespace weft
