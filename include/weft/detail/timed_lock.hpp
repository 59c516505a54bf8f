// What locks with a limited wait have in common.
#pragma once

#include <chrono>
#include <type_traits>

#include "weft/detail/park.hpp"

namespace weft::detail {

/// try_lock_until of every lock, on any clock: `lock_by` waits until the deadline that it is given and says whether it got the
/// lock. Where the clock is not ours it may be set back meanwhile, so it is asked again.
template <class Clock, class Duration, class LockBy>
[[nodiscard]] bool lock_until(const std::chrono::time_point<Clock, Duration>& when, LockBy lock_by) {
  do {
    if (lock_by(deadline_on(when))) return true;
    if constexpr (std::is_same_v<Clock, clock>) return false;
  } while (time_left(when) > duration::zero());
  return false;
}

}  // namespace weft::detail
