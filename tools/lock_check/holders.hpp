// Which weft thread holds which owner-keyed lock.
//
// Weft threads of one scheduler are one kernel thread for the C library (one "identity") while they run their own code under
// options::activations all, or one after the other on one activation. A recursive lock that one of them holds lets the next
// one in.
//
// The table has no lock of its own and needs none. A place belongs to whoever holds the lock that is named there: that lock
// itself, and the fact that threads of one identity run one at a time, keep everybody else from writing. Places are claimed by a
// compare-and-swap and looked for in a short stretch; a lock that finds none there is not watched.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <weft/detail/tools.hpp>

namespace weft::lock_check {

/// A weft thread and where it was.
struct sighting {
  weft_thread_for_tools thread{};
  std::array<const void*, 16> stack{};
  std::size_t frames = 0;

  /// The caller of a wrapper. @returns false when no weft thread runs here.
  [[nodiscard]] bool take() noexcept;
  void take_stack() noexcept;
  [[nodiscard]] bool same_thread(const sighting& other) const noexcept {
    return thread.scheduler == other.thread.scheduler && thread.number == other.thread.number;
  }
};

/// A lock that is held.
struct holding {
  std::atomic<const void*> lock{nullptr};
  std::atomic<pthread_t> identity{};  // for whom the C library takes the holder
  sighting by;
  unsigned depth = 0;

  [[nodiscard]] bool is_mine() const noexcept { return identity.load(std::memory_order_relaxed) == ::pthread_self(); }
};

/// @returns null when nobody is known to hold `lock`.
[[nodiscard]] holding* find(const void* lock) noexcept;
/// The caller holds `lock`. @returns null when there is no room.
holding* add(const void* lock, const sighting& by, unsigned depth) noexcept;
/// The caller, its holder, is about to let it go.
void remove(holding& held) noexcept;

}  // namespace weft::lock_check
