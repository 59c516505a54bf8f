// Records for the tests of what is read out of an event ring. Ticks are given by hand: stories are compared, not times.
#pragma once

#include <cstdint>
#include <vector>

#include "weft/trace.hpp"

namespace traced {

using weft::trace::record;
using what = weft::trace::kind;

inline record at(std::uint64_t ticks, what kind, std::uint32_t thread = 0, std::int64_t value = 0,
                 weft::trace::waits_for detail = {}) {
  return {.ticks = ticks,
          .thread = thread,
          .activation = 1,
          .what = kind,
          .detail = static_cast<std::uint8_t>(detail),
          .value = value};
}
inline record upcall_at(std::uint64_t ticks, weft::upcall::kind kind, weft::upcall::cause cause, std::uint32_t thread,
                        std::int64_t result = 0) {
  return {.ticks = ticks,
          .thread = thread,
          .activation = 1,
          .what = what::upcall,
          .detail = static_cast<std::uint8_t>(kind),
          .cause = static_cast<std::uint8_t>(cause),
          .value = result};
}

// main writes to a pipe that reader reads; main sleeps meanwhile. 100 ticks in all.
inline void append_story(weft::trace::ring& events, std::uint64_t unit = 1'000'000) {
  const std::vector<record> records = {at(0, what::spawn, 1),
                                       at(0, what::run, 1),
                                       at(10, what::spawn, 2, 1),
                                       at(20, what::park, 1, 0x7f00, weft::trace::waits_for::join),
                                       at(20, what::run, 2),
                                       upcall_at(40, weft::upcall::kind::blocked, weft::upcall::cause::read, 2),
                                       at(40, what::idle),
                                       at(70, what::busy),
                                       upcall_at(70, weft::upcall::kind::unblocked, weft::upcall::cause::read, 2, -104),
                                       at(80, what::run, 2),
                                       at(85, what::ready, 1),
                                       at(90, what::exit, 2),
                                       at(90, what::run, 1),
                                       at(100, what::exit, 1)};
  for (record r : records) {
    r.ticks = 5'000 + r.ticks * unit;
    events.append(r);
  }
}

}  // namespace traced
