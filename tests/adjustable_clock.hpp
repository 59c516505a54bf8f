// A clock that stands where a test puts it: for waits on a clock that somebody sets.
#pragma once

#include <chrono>
#include <cstdint>

struct adjustable_clock {
  using rep = std::int64_t;
  using period = std::milli;
  using duration = std::chrono::duration<rep, period>;
  using time_point = std::chrono::time_point<adjustable_clock>;
  [[maybe_unused]] static constexpr bool is_steady = false;
  static time_point now() { return time_point(reading); }
  static inline duration reading{1000};
};
