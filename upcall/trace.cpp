#include "weft/trace.hpp"

#include <algorithm>
#include <bit>

namespace weft::trace {
namespace {

constexpr std::size_t most_names = 65'536;
constexpr std::size_t name_bytes = 31;                      // as `attributes::name`
constexpr std::size_t most_records = std::size_t{1} << 40;  // no machine has room for them: the allocation says so

struct moment {
  std::uint64_t ticks = 0;
  time_point time{};
};

// Reads both clocks at one moment. Whatever comes between the readings makes them disagree: the closest pair of a few counts.
moment both_clocks() noexcept {
  moment best;
  std::uint64_t closest = ~std::uint64_t{0};
  for (int attempt = 0; attempt < 8; ++attempt) {
    const std::uint64_t before = ticks();
    const time_point time = clock::now();
    const std::uint64_t after = ticks();
    if (after - before >= closest) continue;
    closest = after - before;
    best = {before + closest / 2, time};
  }
  return best;
}

}  // namespace

std::uint64_t ticks() noexcept { return detail::read_ticks(); }

ring* current() { return detail::this_scheduler_face().trace; }

ring::ring(std::size_t capacity) {
  const std::size_t count = std::bit_ceil(std::clamp<std::size_t>(capacity, 1, most_records));
  records_ = std::make_unique<record[]>(count);
  mask_ = count - 1;
  const moment start = both_clocks();
  start_ticks_ = start.ticks;
  start_time_ = start.time;
}

// A table by the number's low bits: no search, no hash, and its size is the bound. It grows with the numbers in use.
void ring::name_thread(std::uint32_t thread, std::string_view name) noexcept try {
  const std::size_t place = thread % most_names;
  if (place >= names_.size()) {
    if (name.empty()) return;
    names_.resize(std::max(place + 1, std::min(most_names, names_.size() * 2)));
  }
  names_[place] = {thread, std::string(name.substr(0, name_bytes))};
} catch (const std::bad_alloc&) {  // it is called in mid-switch: a thread without a name is the smaller evil
}

std::uint64_t ring::lost() const noexcept {
  const std::uint64_t capacity = mask_ + 1;
  return written_ > capacity ? written_ - capacity : 0;
}

std::vector<record> ring::snapshot() const {
  const record* const all = records_.get();
  if (lost() == 0) return {all, all + written_};
  const std::size_t oldest = static_cast<std::size_t>(written_) & mask_;
  std::vector<record> out;
  out.reserve(mask_ + 1);
  out.insert(out.end(), all + oldest, all + mask_ + 1);
  out.insert(out.end(), all, all + oldest);
  return out;
}

std::string ring::name_of(std::uint32_t thread) const {
  const std::size_t place = thread % most_names;
  if (place >= names_.size() || names_[place].first != thread) return {};
  return names_[place].second;
}

double ring::nanoseconds_per_tick() const {
  moment end = both_clocks();
  while (end.time - start_time_ < std::chrono::milliseconds(1) || end.ticks <= start_ticks_) end = both_clocks();
  const std::chrono::duration<double, std::nano> life = end.time - start_time_;
  return life.count() / static_cast<double>(end.ticks - start_ticks_);
}

}  // namespace weft::trace
