// Chrome's Trace Event Format, in JSON: what ui.perfetto.dev and chrome://tracing open.
//
// One process, a row for the processor and one for each thread. Complete events ("X") are stretches of time, instants ("i")
// are upcalls. Written through a small buffer: a trace may be larger than memory should be.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <system_error>
#include <unordered_set>

#include "upcall/json_text.hpp"
#include "upcall/trace_replay.hpp"

namespace weft::trace {
namespace {

// The processor's row, and the process's number: Perfetto puts the row whose number is the process's first. Beyond the
// numbers of threads. Not 0, which Perfetto takes for the kernel's idle thread.
constexpr std::uint32_t processor_row = 2'000'000'000;

class output {
 public:
  explicit output(const std::string& path) : path_(path) {
    fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(errno);
    text_.reserve(flush_at + 4096);
  }
  output(const output&) = delete;
  output& operator=(const output&) = delete;
  ~output() {
    if (fd_ >= 0) close(fd_);
  }

  output& operator<<(std::string_view text) {
    text_ += text;
    if (text_.size() >= flush_at) flush();
    return *this;
  }
  output& operator<<(std::int64_t number) {
    std::array<char, 24> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    return *this << std::string_view(digits.data(), end.ptr);
  }
  output& operator<<(std::uint32_t number) { return *this << std::int64_t{number}; }

  void quoted(std::string_view text) { append_json_string(text_, text); }

  // Some file systems report only here that there was no room.
  void finish() {
    flush();
    if (close(std::exchange(fd_, -1)) != 0 && errno != EINTR) fail(errno);
  }

 private:
  static constexpr std::size_t flush_at = 64 * 1024;

  void flush() {
    std::string_view left = text_;
    while (!left.empty()) {
      const ssize_t done = write(fd_, left.data(), left.size());
      if (done < 0 && errno != EINTR) fail(errno);
      if (done > 0) left.remove_prefix(static_cast<std::size_t>(done));
    }
    text_.clear();
  }
  [[noreturn]] void fail(int error) const {
    throw std::system_error(error, std::generic_category(), "weft: the trace cannot be written to \"" + path_ + "\"");
  }

  const std::string& path_;
  std::string text_;
  int fd_ = -1;
};

class chrome_writer final : public listener {
 public:
  chrome_writer(output& out, const ring& events) : out_(out), events_(events), scale_(events.nanoseconds_per_tick()) {}

  void head();
  void tail();
  void lived(const stretch& part) override;
  void idled(std::uint64_t from, std::uint64_t to) override { complete("idle", processor_row, from, to, 0, "downcall"); }
  void happened(const record& r, std::uint64_t at) override;

 private:
  [[nodiscard]] std::int64_t nanoseconds(std::uint64_t at) const noexcept {
    return std::llround(static_cast<double>(at) * scale_);
  }
  [[nodiscard]] std::string label(std::uint32_t thread) const {
    std::string name = events_.name_of(thread);
    return name.empty() ? "thread " + std::to_string(thread) : name;
  }

  void begin(std::string_view phase, std::string_view name, std::uint32_t row);
  void end() { out_ << "}"; }
  void microseconds(std::string_view key, std::int64_t nanoseconds);
  void complete(std::string_view name, std::uint32_t row, std::uint64_t from, std::uint64_t to, std::int64_t object = 0,
                std::string_view category = {});
  void metadata(std::string_view what, std::uint32_t row, std::string_view name);
  void sort_index(std::uint32_t row, std::int64_t index);
  void meet(std::uint32_t thread);
  void instant(std::string_view name, std::uint32_t row, std::uint64_t at);
  void upcall_instant(const record& r, std::uint32_t row, std::uint64_t at);

  output& out_;
  const ring& events_;
  const double scale_;
  bool first_ = true;
  std::unordered_set<std::uint32_t> met_;
};

void chrome_writer::head() {
  out_ << R"({"displayTimeUnit":"ns","otherData":{"program":"weft","events":)" << static_cast<std::int64_t>(events_.written())
       << R"(,"lost_events":)" << static_cast<std::int64_t>(events_.lost()) << R"(},"traceEvents":[)";
  metadata("process_name", processor_row, "weft");
  if (events_.lost() != 0) {
    out_ << ",\n"
            R"({"ph":"M","name":"process_labels","pid":)"
         << processor_row << R"(,"args":{"labels":"the first )" << static_cast<std::int64_t>(events_.lost())
         << R"( events are lost"}})";
  }
  metadata("thread_name", processor_row, "processor");
  sort_index(processor_row, -1);
}

void chrome_writer::tail() { out_ << "\n]}\n"; }

void chrome_writer::lived(const stretch& part) {
  meet(part.thread);
  switch (part.state) {
    case life::absent:
      break;
    case life::running:
      complete(label(part.thread), processor_row, part.from, part.to);
      complete("running", part.thread, part.from, part.to);
      break;
    case life::ready:
      complete("ready", part.thread, part.from, part.to);
      break;
    case life::waiting:
      complete(part.why, part.thread, part.from, part.to, part.object);
      break;
  }
}

void chrome_writer::happened(const record& r, std::uint64_t at) {
  if (r.what == kind::upcall) {
    upcall_instant(r, processor_row, at);
    if (r.thread == 0) return;
    meet(r.thread);
    upcall_instant(r, r.thread, at);
  } else if (r.what == kind::spawn && r.thread != 0) {
    meet(r.thread);
    instant("spawned", r.thread, at);
    out_ << R"(,"args":{"by":)" << r.value << "}";
    end();
  } else if (r.what == kind::add_processor) {
    instant("downcall add_processor", processor_row, at);
    out_ << R"(,"cat":"downcall","args":{"activation":)" << r.activation << R"(,"processors":)" << r.value << "}";
    end();
  } else if (r.what > kind::add_processor) {
    instant("unknown event", processor_row, at);
    out_ << R"(,"args":{"kind":)" << static_cast<std::uint32_t>(r.what) << R"(,"thread":)" << r.thread << "}";
    end();
  }
}

void chrome_writer::begin(std::string_view phase, std::string_view name, std::uint32_t row) {
  out_ << (std::exchange(first_, false) ? "\n" : ",\n") << R"({"ph":")" << phase << R"(","name":)";
  out_.quoted(name);
  out_ << R"(,"pid":)" << processor_row << R"(,"tid":)" << row;
}

// Microseconds with all their nanoseconds, in decimal: a double would round them in a long trace.
void chrome_writer::microseconds(std::string_view key, std::int64_t nanoseconds) {
  const auto fraction = static_cast<int>(nanoseconds % 1000);
  const std::array<char, 4> digits{'.', static_cast<char>('0' + fraction / 100), static_cast<char>('0' + fraction / 10 % 10),
                                   static_cast<char>('0' + fraction % 10)};
  out_ << key << nanoseconds / 1000 << std::string_view(digits.data(), digits.size());
}

// Both ends are rounded before they are subtracted, so that stretches that meet in the ring meet in the file.
void chrome_writer::complete(std::string_view name, std::uint32_t row, std::uint64_t from, std::uint64_t to, std::int64_t object,
                             std::string_view category) {
  begin("X", name, row);
  microseconds(R"(,"ts":)", nanoseconds(from));
  microseconds(R"(,"dur":)", nanoseconds(to) - nanoseconds(from));
  if (!category.empty()) out_ << R"(,"cat":")" << category << "\"";
  if (object != 0) {
    std::array<char, 16> digits;
    const auto last = std::to_chars(digits.data(), digits.data() + digits.size(), static_cast<std::uint64_t>(object), 16).ptr;
    out_ << R"(,"args":{"object":"0x)" << std::string_view(digits.data(), last) << R"("})";
  }
  end();
}

void chrome_writer::metadata(std::string_view what, std::uint32_t row, std::string_view name) {
  begin("M", what, row);
  out_ << R"(,"args":{"name":)";
  out_.quoted(name);
  out_ << "}";
  end();
}

void chrome_writer::sort_index(std::uint32_t row, std::int64_t index) {
  begin("M", "thread_sort_index", row);
  out_ << R"(,"args":{"sort_index":)" << index << "}";
  end();
}

void chrome_writer::meet(std::uint32_t thread) {
  if (!met_.insert(thread).second) return;
  metadata("thread_name", thread, label(thread));
  sort_index(thread, thread);
}

void chrome_writer::instant(std::string_view name, std::uint32_t row, std::uint64_t at) {
  begin("i", name, row);
  microseconds(R"(,"ts":)", nanoseconds(at));
  out_ << R"(,"s":"t")";
}

void chrome_writer::upcall_instant(const record& r, std::uint32_t row, std::uint64_t at) {
  const std::string_view what = upcall::name(static_cast<upcall::kind>(r.detail));
  const std::string_view why = cause_told_by(r);
  instant(std::string(what).append(" ").append(why), row, at);
  out_ << R"(,"cat":"upcall","args":{"kind":")" << what << R"(","cause":")" << why << R"(","thread":)" << r.thread
       << R"(,"activation":)" << r.activation << R"(,"result":)" << r.value;
  const bool in_error_range = r.value < 0 && r.value > -4096;  // the kernel's error numbers
  if (in_error_range && static_cast<upcall::kind>(r.detail) == upcall::kind::unblocked) {
    out_ << R"(,"error":)";
    out_.quoted(std::generic_category().message(static_cast<int>(-r.value)));
  }
  out_ << "}";
  end();
}

}  // namespace

void write_chrome(const ring& events, const std::string& path) {
  output out(path);
  chrome_writer writer(out, events);
  writer.head();
  replay(events.snapshot(), writer);
  writer.tail();
  out.finish();
}

}  // namespace weft::trace
