// What the tests of reports share.
#pragma once

#include <string_view>

#include "weft/channel.hpp"

inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Functions that a backtrace must name. What stands behind a call keeps it from becoming a jump.
extern "C" {
[[gnu::noinline]] inline void parks_in_a_channel(weft::channel<int>& silent) {
  static_cast<void>(silent.receive());
  asm volatile("" ::: "memory");
}
[[gnu::noinline]] inline void calls_one_that_parks(weft::channel<int>& silent) {
  parks_in_a_channel(silent);
  asm volatile("" ::: "memory");
}
}
