// Turns the records of a ring back into what they tell: for every thread, which stretches of time it ran, waited or was ready.
//
// Exporters share this reading. It is forgiving: a flight recorder has lost its beginning, a later version writes kinds of
// record that this one does not know, and counters of two processors may disagree by a few ticks.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "weft/trace.hpp"

namespace weft::trace {

/// What a thread does during a stretch of time. Absent: not yet spawned, or ended.
enum class life : std::uint8_t { absent, running, ready, waiting };

/// A thread was in one state from `from` to `to`, both in ticks after the first record.
struct stretch {
  std::uint32_t thread = 0;
  life state = life::absent;
  std::string_view why{};   ///< of a wait: what for ("read", "mutex", …). Points to static text
  std::int64_t object = 0;  ///< of a wait for another thread: the address of the mutex, channel, …
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};

/// What an upcall names as its cause: of a region that blocked the system call, where the record tells it. Static text.
[[nodiscard]] std::string_view cause_told_by(const record& upcall) noexcept;

/// Receives the story, in the order in which stretches end and records come.
class listener {
 public:
  virtual void lived(const stretch& part) = 0;
  /// The processor had nothing to run.
  virtual void idled(std::uint64_t from, std::uint64_t to) = 0;
  /// Called for every record, after the stretches that it ends.
  virtual void happened(const record& r, std::uint64_t at) = 0;

 protected:
  ~listener() = default;
};

/// Tells `to` what `records`, oldest first, mean. Stretches that the records leave open end with the last record.
/// One thread's stretches follow one another without gap or overlap. At most one thread runs at a time.
void replay(std::span<const record> records, listener& to);

}  // namespace weft::trace
