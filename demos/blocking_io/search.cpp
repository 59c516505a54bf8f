#include "search.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <optional>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <utility>
#include <weft/channel.hpp>
#include <weft/file.hpp>
#include <weft/runtime.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>
#include <weft/trace.hpp>

#include "line_counter.hpp"
#include "text.hpp"

namespace {

constexpr std::size_t most_threads = 20'000;  // of those per file; each parked one costs some KiB
constexpr std::size_t timeline_rows = 14;

// What the threads share. Plain numbers, no locks, no atomics: the threads of one scheduler run one at a time, and change
// over only where they block.
struct shared_state {
  explicit shared_state(const job& asked)
      : work(asked), open_files(static_cast<std::ptrdiff_t>(asked.open_at_once)), room(most_threads), counts(256) {}

  const job& work;
  weft::counting_semaphore<> open_files;  // a permit per open file: the system's limit is never met
  weft::counting_semaphore<> room;        // a permit per thread: memory stays bounded for any number of files
  weft::channel<file_count> counts;       // from the readers to whoever feeds sort
  findings found;
  std::size_t alive = 0;
  std::size_t most_alive = 0;
  std::size_t kernel_threads = 1;
  bool done = false;
  bool ended_early = false;
};

class permit {
 public:
  explicit permit(weft::counting_semaphore<>& of) : of_(of) { of_.acquire(); }
  ~permit() { of_.release(); }
  permit(const permit&) = delete;
  permit& operator=(const permit&) = delete;

 private:
  weft::counting_semaphore<>& of_;
};

// The whole life of one of the thousands: open, read until the end, tell. Whatever blocks, blocks this thread only.
// @returns nothing for a file that an early end left out.
std::optional<findings> count_file(const std::string& path, shared_state& all) {
  const permit to_open(all.open_files);
  if (all.ended_early) return std::nullopt;
  weft::file in(path);
  line_counter lines(all.work.pattern);
  std::array<char, 32 * 1024> buffer;
  while (const std::size_t n = in.read(buffer)) {
    if (all.ended_early) return std::nullopt;
    lines.take({buffer.data(), n});
  }
  return findings{1, lines.lines(), lines.bytes(), lines.binary() ? 1U : 0U};
}

void search_file(const std::string& path, shared_state& all, search_report& report, std::string& trouble) {
  all.most_alive = std::max(all.most_alive, ++all.alive);
  try {
    if (const std::optional<findings> found = count_file(path, all)) {
      all.found += *found;
      if (found->binary != 0) report.binary.push_back(&path);
      all.counts.send({&path, found->lines});
    }
  } catch (const std::system_error& error) {
    trouble = "cannot read '" + path + "': " + error.code().message();
  }
  --all.alive;
  all.room.release();
}

std::string_view name_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// It lets the others run after each thread it makes: made in one go, thousands would queue up for their first turn, and
// whoever becomes ready meanwhile, the heartbeat too, would wait until all of them had had it.
void search_all(shared_state& all, search_report& report) {
  std::vector<std::string> troubles(all.work.files.size());
  std::vector<weft::jthread> readers;
  readers.reserve(all.work.files.size());
  for (std::size_t i = 0; i < all.work.files.size(); ++i) {
    const std::string& path = all.work.files[i];
    all.room.acquire();
    if (all.ended_early) break;
    try {
      readers.emplace_back(weft::attributes{.name = name_of(path)},
                           [&all, &report, &path, &trouble = troubles[i]] { search_file(path, all, report, trouble); });
    } catch (const std::system_error&) {  // no memory for one more thread, say: do it ourselves
      search_file(path, all, report, troubles[i]);
    }
    weft::this_thread::yield();
  }
  readers.clear();  // joins them
  std::erase(troubles, "");
  report.troubles = std::move(troubles);
}

void beat(std::stop_token stop, heartbeat& pulse) {
  while (!stop.stop_requested()) {
    const weft::time_point due = weft::clock::now() + std::chrono::milliseconds(1);
    weft::this_thread::sleep_until(due);
    const double gap = std::chrono::duration<double, std::milli>(weft::clock::now() - due).count();
    pulse.longest_gap_ms = std::max(pulse.longest_gap_ms, gap);
    ++pulse.beats;
  }
}

// When the last file was read, or reading broke off: whoever waits for more learns that nothing more comes.
class finish_line {
 public:
  explicit finish_line(shared_state& all) : all_(all) {}
  ~finish_line() {
    all_.done = true;
    all_.counts.close();
    all_.work.end->give_up();
  }
  finish_line(const finish_line&) = delete;
  finish_line& operator=(const finish_line&) = delete;

 private:
  shared_state& all_;
};

// Starts all threads and waits for their end. The child process comes first: to start a program holds up the whole kernel
// thread for a moment (weft/process.hpp), and nothing else has begun yet.
void run_threads(shared_state& all, const std::function<std::string()>& status, search_report& report) {
  weft::jthread sorter({.name = "to sort", .start = weft::start::now},
                       [&] { report.sorted = sort_counts(all.counts, all.work); });
  status_page page(status);
  report.page = page.address().to_string();
  weft::jthread client({.name = "client"}, [&] { report.seen = visit_repeatedly(page.address(), [&all] { return all.done; }); });
  weft::jthread heart({.name = "heartbeat", .start = weft::start::now},
                      [&report](std::stop_token stop) { beat(stop, report.pulse); });
  {
    const weft::jthread watcher({.name = "Ctrl-C", .start = weft::start::now}, [&all, &report] {
      report.ended_by = all.work.end->wait();
      all.ended_early = !report.ended_by.empty();
    });
    const finish_line end(all);
    const stopwatch watch;
    search_all(all, report);
    report.paid = watch.read();
  }
  sorter.join();
  client.join();
}

void look_back(std::size_t columns, search_report& report) {
  report.upcalls = weft::upcall::counts();
  if (const weft::trace::ring* const events = weft::trace::current()) {
    report.timeline = weft::trace::draw(*events, timeline_rows, columns);
    report.events = events->written();
    report.trace_file = events->file;
  }
}

}  // namespace

search_report search(const job& work, std::size_t columns) {
  search_report report;
  shared_state all(work);
  const std::function<std::string()> status = [&all] {
    all.kernel_threads = std::max(all.kernel_threads, kernel_threads_now());
    return grouped(all.found.files) + " of " + grouped(all.work.files.size()) + " files, " + grouped(all.found.lines) +
           " matching lines, " + counted(all.alive, "thread");
  };
  weft::run([&] {
    run_threads(all, status, report);
    look_back(columns, report);
  });
  report.found = all.found;
  report.paid.kernel_threads = all.kernel_threads;
  report.most_at_once = all.most_alive;
  return report;
}
