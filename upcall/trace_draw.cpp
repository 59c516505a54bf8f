// The timeline for terminals: a column is a slice of time, a row a thread.
#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "upcall/trace_replay.hpp"

namespace weft::trace {
namespace {

struct cell {
  bool ran = false;
  double waited = 0;  // share of the column, in columns
  double ready = 0;

  [[nodiscard]] char mark() const noexcept {
    if (ran) return '#';
    if (waited == 0 && ready == 0) return ' ';
    return waited >= ready ? '.' : '+';
  }
};

// Row 0 is the processor's. Threads that were not chosen only show there.
class canvas final : public listener {
 public:
  canvas(const std::vector<std::uint32_t>& threads, std::size_t columns, std::uint64_t ticks)
      : cells_((threads.size() + 1) * columns),
        columns_(columns),
        columns_per_tick_(static_cast<double>(columns) / static_cast<double>(std::max<std::uint64_t>(ticks, 1))) {
    for (const std::uint32_t thread : threads) rows_.emplace(thread, rows_.size() + 1);
  }

  void lived(const stretch& part) override {
    if (part.state == life::running) paint(0, life::running, part.from, part.to);
    const auto row = rows_.find(part.thread);
    if (row != rows_.end()) paint(row->second, part.state, part.from, part.to);
  }
  void idled(std::uint64_t from, std::uint64_t to) override { paint(0, life::waiting, from, to); }
  void happened(const record&, std::uint64_t) override {}

  [[nodiscard]] std::string row(std::size_t number) const {
    std::string line(columns_, ' ');
    for (std::size_t i = 0; i < columns_; ++i) line[i] = cells_[number * columns_ + i].mark();
    return line;
  }

 private:
  void paint(std::size_t row, life state, std::uint64_t from, std::uint64_t to) {
    const double first = static_cast<double>(from) * columns_per_tick_;
    const double last = static_cast<double>(to) * columns_per_tick_;
    const auto begin = std::min(static_cast<std::size_t>(first), columns_ - 1);
    for (std::size_t i = begin; i < columns_ && (i == begin || static_cast<double>(i) < last); ++i) {
      cell& c = cells_[row * columns_ + i];
      const double share = std::min(last, static_cast<double>(i + 1)) - std::max(first, static_cast<double>(i));
      if (state == life::running) c.ran = true;
      if (state == life::waiting) c.waited += share;
      if (state == life::ready) c.ready += share;
    }
  }

  std::vector<cell> cells_;
  std::size_t columns_;
  double columns_per_tick_;
  std::unordered_map<std::uint32_t, std::size_t> rows_;
};

struct choice {
  std::vector<std::uint32_t> threads;  // by number
  std::size_t out_of = 0;
};

choice choose(const std::vector<record>& records, std::size_t rows) {
  std::unordered_map<std::uint32_t, std::size_t> events;
  for (const record& r : records) {
    if (r.thread != 0) ++events[r.thread];
  }
  std::vector<std::pair<std::uint32_t, std::size_t>> all(events.begin(), events.end());
  const auto kept = static_cast<std::ptrdiff_t>(std::min(rows, all.size()));
  const auto busier = [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; };
  std::partial_sort(all.begin(), all.begin() + kept, all.end(), busier);
  choice made{{}, all.size()};
  std::transform(all.begin(), all.begin() + kept, std::back_inserter(made.threads), [](const auto& t) { return t.first; });
  std::sort(made.threads.begin(), made.threads.end());
  return made;
}

// Printable ASCII, one character for each of the name's, so that columns stay aligned in any terminal.
std::string plain(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const auto value = static_cast<unsigned char>(c);
    if ((value & 0xC0U) != 0x80) out += value >= 0x20 && value < 0x7F ? c : '?';
  }
  return out;
}

std::vector<std::string> labels(const ring& events, const std::vector<std::uint32_t>& threads, std::string_view first) {
  std::vector<std::string> out{std::string(first)};
  const std::size_t digits = threads.empty() ? 0 : std::to_string(threads.back()).size();
  for (const std::uint32_t thread : threads) {
    const std::string number = std::to_string(thread);
    out.push_back(std::string(digits - number.size(), ' ') + number + ' ' + plain(events.name_of(thread)));
  }
  return out;
}

std::string fitted(std::string text, std::size_t width) {
  text.resize(width, ' ');
  return text;
}

void add_line(std::string& to, std::string line, std::size_t columns) {
  if (line.size() > columns) line.resize(columns);
  line.erase(line.find_last_not_of(' ') + 1);
  to.append(line).append("\n");
}

struct scale {
  std::string unit;
  std::string marks;
};

// "|0        |20       |40": marks at 1, 2 or 5 times a power of ten, in the largest unit that keeps them whole.
scale time_scale(double nanoseconds, std::size_t columns) {
  constexpr double narrowest = 9;  // columns from mark to mark
  const double least = std::max(nanoseconds * narrowest / static_cast<double>(columns), 1.0);
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= least) step = factor * power;
  }
  struct unit_of_time {
    double nanoseconds;
    const char* name;
  };
  static constexpr std::array<unit_of_time, 4> units{{{1e9, "s"}, {1e6, "ms"}, {1e3, "us"}, {1, "ns"}}};
  const unit_of_time unit =
      *std::find_if(units.begin(), units.end(), [&](const auto& u) { return step >= u.nanoseconds || u.nanoseconds == 1; });
  scale made{std::string("time, ") + unit.name, std::string(columns, ' ')};
  for (std::size_t i = 0;; ++i) {
    const double at = static_cast<double>(i) * step;
    const auto place = static_cast<std::size_t>(std::llround(at * static_cast<double>(columns) / std::max(nanoseconds, 1.0)));
    if (place >= columns) return made;
    const std::string mark = "|" + std::to_string(std::llround(at / unit.nanoseconds));
    if (place + mark.size() <= columns) made.marks.replace(place, mark.size(), mark);
  }
}

std::string legend(const ring& events, const choice& shown) {
  std::string text = "# ran  . waited  + ready";
  if (shown.threads.size() < shown.out_of) {
    text +=
        "   " + std::to_string(shown.threads.size()) + " of " + std::to_string(shown.out_of) + " threads, those with most events";
  }
  if (events.lost() != 0) text += "   the first " + std::to_string(events.lost()) + " events are lost";
  return text;
}

}  // namespace

std::string draw(const ring& events, std::size_t rows, std::size_t columns) {
  const std::vector<record> records = events.snapshot();
  if (records.empty()) return "no events were recorded\n";
  const choice shown = choose(records, rows);
  std::uint64_t last = records.front().ticks;
  for (const record& r : records) last = std::max(last, r.ticks);
  const std::uint64_t ticks = last - records.front().ticks;

  std::vector<std::string> names = labels(events, shown.threads, "processor");
  const auto longer = [](const std::string& a, const std::string& b) { return a.size() < b.size(); };
  const std::size_t longest = std::max_element(names.begin(), names.end(), longer)->size();
  const std::size_t label_width = std::min(longest, columns / 3);
  const std::size_t width = std::max<std::size_t>(columns - std::min(columns, label_width + 1), 1);

  canvas picture(shown.threads, width, ticks);
  replay(records, picture);
  const scale time = time_scale(static_cast<double>(ticks) * events.nanoseconds_per_tick(), width);
  std::string out;
  add_line(out, fitted(time.unit, label_width) + ' ' + time.marks, columns);
  for (std::size_t i = 0; i < names.size(); ++i) add_line(out, fitted(names[i], label_width) + ' ' + picture.row(i), columns);
  add_line(out, legend(events, shown), columns);
  return out;
}

}  // namespace weft::trace
