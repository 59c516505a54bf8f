#include "sched/trace_file.hpp"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>

#include "sched/report.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t default_events = std::size_t{1} << 20;
constexpr std::size_t most_events = std::size_t{1} << 28;  // 8 GiB

std::size_t wanted_events() {
  const char* const text = std::getenv("WEFT_TRACE_EVENTS");
  if (text == nullptr) return default_events;
  std::size_t count = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), count);
  if (error == std::errc{} && *end == '\0' && count > 0 && count <= most_events) return count;
  print_report(std::string("weft: WEFT_TRACE_EVENTS=") + text +
               " is not a number from 1 to 268435456; using the default 1048576\n");
  return default_events;
}

// "out.json" for the first scheduler of the process, "out.json.2" for the second, …
std::string own_path(const char* path) {
  static std::atomic<unsigned> count{0};
  const unsigned mine = count.fetch_add(1, std::memory_order_relaxed) + 1;
  return mine == 1 ? path : std::string(path) + "." + std::to_string(mine);
}

}  // namespace

trace_file::trace_file(detail::scheduler_face& traced) : traced_(traced) {
  const char* const path = std::getenv("WEFT_TRACE");
  if (path == nullptr || *path == '\0') return;
  path_ = own_path(path);
  ring_ = std::make_unique<trace::ring>(wanted_events());
  traced_.trace = ring_.get();
}

trace_file::~trace_file() {
  if (ring_ == nullptr) return;
  traced_.trace = nullptr;
  try {
    trace::write_chrome(*ring_, path_);
  } catch (const std::exception& error) {
    print_report(std::string(error.what()) + "\n");
  }
}

}  // namespace weft::sched
