// Deadlines of waiting threads, earliest first: a 4-ary heap of absolute times.
//
// A heap, because waits are cancelled as often as they expire and both must be cheap at 100,000 timers: arm is O(1) on
// average, disarm and expiry O(log n), and no tick runs while nothing is due. Four children a node: half the depth of a binary
// heap, and the children lie in one cache line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "weft/detail/park.hpp"

namespace weft::sched {

/// Invariant: heap_[i].who->timer == i + 1 for every entry; a waiter without deadline has timer == 0.
class timer_queue {
 public:
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  /// The earliest deadline; `never` when there is none.
  [[nodiscard]] time_point earliest() const noexcept { return heap_.empty() ? never : heap_.front().when; }

  /// @throws std::bad_alloc
  void arm(detail::waiter& who, time_point when);
  /// Forgets the waiter's deadline if it has one.
  void disarm(detail::waiter& who) noexcept;
  /// Removes and returns the waiter with the earliest deadline if that is not after `now`, else null.
  detail::waiter* expire(time_point now) noexcept;

 private:
  struct entry {
    time_point when;
    detail::waiter* who;
  };
  void place(std::size_t at, entry e) noexcept {
    heap_[at] = e;
    e.who->timer = static_cast<std::uint32_t>(at + 1);
  }
  void rise(std::size_t at, entry e) noexcept;
  void sink(std::size_t at, entry e) noexcept;

  std::vector<entry> heap_;
};

}  // namespace weft::sched
