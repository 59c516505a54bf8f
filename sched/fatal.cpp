// The last words of a program that cannot go on.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "sched/report.hpp"
#include "sched/thread_text.hpp"
#include "sched/unwind.hpp"
#include "weft/trace.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t events_told = 20;

const char* event_text(trace::kind what) noexcept {
  switch (what) {
    case trace::kind::upcall:
      return "upcall";
    case trace::kind::spawn:
      return "spawn";
    case trace::kind::run:
      return "run";
    case trace::kind::park:
      return "park";
    case trace::kind::ready:
      return "ready";
    case trace::kind::yield:
      return "yield";
    case trace::kind::exit:
      return "exit";
    case trace::kind::idle:
      return "idle";
    case trace::kind::busy:
      return "busy";
    case trace::kind::add_processor: return "add processor";
  }
  return "?";
}

std::string describe(const trace::ring& ring, const trace::record& r, double microseconds_ago) {
  char time[40];
  std::snprintf(time, sizeof time, "  %12.3f µs ago: ", microseconds_ago);
  std::string line = time + std::string(event_text(r.what));
  if (r.what == trace::kind::upcall) {
    line.append(" ").append(upcall::name(static_cast<upcall::kind>(r.detail)));
    line.append(" ").append(upcall::name(static_cast<upcall::cause>(r.cause)));
  }
  if (r.what == trace::kind::park) line.append(" ").append(trace::name(static_cast<trace::waits_for>(r.detail)));
  if (r.thread == 0) return line + "\n";
  line += ", thread " + std::to_string(r.thread);
  const std::string name = ring.name_of(r.thread);
  return name.empty() ? line + "\n" : line + " \"" + name + "\"\n";
}

std::string last_events(const trace::ring& ring) {
  const std::vector<trace::record> all = ring.snapshot();
  if (all.empty()) return {};
  const std::uint64_t now = trace::ticks();
  const double microseconds_per_tick = ring.nanoseconds_per_tick() / 1000;
  std::string out = "the last events, newest last:\n";
  for (std::size_t i = all.size() - std::min(all.size(), events_told); i < all.size(); ++i) {
    out += describe(ring, all[i], static_cast<double>(now - all[i].ticks) * microseconds_per_tick);
  }
  return out;
}

void print_circumstances(const void* hidden) {
  const thread_record* const self = running_thread();
  if (self != nullptr) print_report("in " + who(*self) + ":\n");
  print_report(frame_namer().lines(walk_here(hidden, self == nullptr ? stack_bounds{} : bounds_of(*self))));
  if (const trace::ring* const ring = trace::current()) print_report(last_events(*ring));
}

}  // namespace

void print_report(std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd room{STDERR_FILENO, POLLOUT, 0};
      if (poll(&room, 1, 1000) <= 0) return;  // nobody reads: the program matters more
    } else if (errno != EINTR) {
      return;
    }
  }
}

void fatal(std::string_view sentence) noexcept {
  static thread_local bool already = false;
  if (std::exchange(already, true)) std::abort();
  print_report(sentence);
  print_report("\n");
  try {
    print_circumstances(__builtin_frame_address(0));
  } catch (const std::exception&) {  // out of memory: the sentence is what matters
  }
  std::abort();
}

[[gnu::cold]] void used_by_two_schedulers(std::string_view waits_for) noexcept {
  const std::string what(waits_for.substr(0, waits_for.find(' ')));  // "channel" of "channel receive"
  fatal("weft: a " + what + " was used by threads of two schedulers; each " + what +
        " belongs to one, and schedulers talk by weft::poster");
}

}  // namespace weft::sched
