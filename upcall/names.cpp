// The words of the seam: what reports, traces and demos print for kinds, causes and operations. All are literals, so that
// `data()` ends with a NUL.
#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>

#include "weft/trace.hpp"
#include "weft/upcall.hpp"

namespace weft {
namespace {

// Traces bring values of other versions of weft: whatever has no word gets the one for that.
template <std::size_t Count, class E>
std::string_view word(const std::array<std::string_view, Count>& words, E value, std::string_view otherwise) noexcept {
  const auto place = static_cast<std::size_t>(value);
  return place < Count ? words[place] : otherwise;
}

}  // namespace

namespace upcall {

std::string_view name(kind k) noexcept {
  static constexpr std::array<std::string_view, kind_count> words{"processor_added", "preempted", "blocked", "unblocked"};
  return word(words, k, "unknown");
}

std::string_view name(cause c) noexcept {
  static constexpr std::array<std::string_view, cause_count> words{
      "none",  "read", "write", "receive", "send",  "accept",     "connect", "poll",       "open",
      "close", "sync", "timer", "post",    "start", "time_slice", "region",  "page_fault", "call"};
  static_assert(!words.back().empty());
  return word(words, c, "unknown");
}

cause cause_of(opcode code) noexcept {
  switch (code) {
    case opcode::read:
    case opcode::readv:
      return cause::read;
    case opcode::write:
    case opcode::writev:
      return cause::write;
    case opcode::receive:
      return cause::receive;
    case opcode::send:
      return cause::send;
    case opcode::accept:
      return cause::accept;
    case opcode::connect:
      return cause::connect;
    case opcode::poll:
      return cause::poll;
    case opcode::open:
      return cause::open;
    case opcode::close:
      return cause::close;
    case opcode::sync:
      return cause::sync;
  }
  return cause::none;
}

std::uint64_t tally::of(kind k) const noexcept {
  const auto& causes = by[static_cast<std::size_t>(k)];
  return std::accumulate(causes.begin(), causes.end(), std::uint64_t{0});
}

}  // namespace upcall

namespace trace {
namespace {

constexpr std::array<std::string_view, 17> waits{
    "other", "mutex", "condition_variable", "semaphore", "channel send", "channel receive", "join", "sleep",
    "latch", "inbox", "activation", "select", "shared_mutex", "once_flag", "future",
    "mailbox send", "mailbox receive"};
static_assert(!waits.back().empty());

}  // namespace

std::string_view name(waits_for w) noexcept { return word(waits, w, waits.front()); }

waits_for waits_for_named(std::string_view what) noexcept {
  if (what == "barrier") return waits_for::latch;
  const auto found = std::find(waits.begin(), waits.end(), what);
  return found == waits.end() ? waits_for::other : static_cast<waits_for>(found - waits.begin());
}

}  // namespace trace
}  // namespace weft
