// frozen: what a plain blocking call does to user-level threads, and what weft::blocking makes of it.
//
// It shows: the same program run twice. Five threads call code that knows nothing of weft (nanosleep, a read of a pipe that a
// kernel thread feeds, flock on a file that another holds, a child process waited for), and a heartbeat thread wakes every
// millisecond and measures how long it was ever kept waiting. Once the calls are plain: each freezes all threads, as in any
// other package of user-level threads. Once they are inside weft::blocking: the kernel's own record of the switch is the upcall
// by which another kernel thread takes the processor, and the heart beats on. Both timelines are drawn below the figures.
//
//   build/release/demos/frozen [--quick]      --help tells the rest
//
// Last line, for machines: plain_gap_ms=… regions_gap_ms=…
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <weft/blocking.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>
#include <weft/trace.hpp>

extern char** environ;

namespace {

using namespace std::chrono_literals;
using milliseconds = std::chrono::duration<double, std::milli>;

constexpr std::string_view help =
    "Usage: frozen [--quick]\n"
    "\n"
    "Runs the same threads twice, their blocking calls once plain and once inside weft::blocking, and\n"
    "prints how long a heartbeat thread was kept waiting in each, and a timeline of each.\n"
    "  --quick    shorter waits and fewer of them\n"
    "  --help     say this\n"
    "Set WEFT_TRACE=out.json to keep the traces: out.json (plain) and out.json.2 (regions).\n";

struct plan {
  int rounds = 3;                      // blocking calls of each thread
  std::chrono::milliseconds wait{40};  // how long each of them blocks, more or less
};

[[noreturn]] void refuse(const std::string& what, int error = errno) {
  throw std::system_error(error, std::generic_category(), what);
}

// ---- the calls: code that was written without weft in mind ----

void plain_nanosleep(std::chrono::nanoseconds how_long) {
  timespec left{how_long / 1s, (how_long % 1s).count()};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

void plain_child(std::chrono::milliseconds how_long) {
  std::string seconds = std::to_string(static_cast<double>(how_long.count()) / 1000);
  std::array<char*, 3> arguments{const_cast<char*>("sleep"), seconds.data(), nullptr};
  pid_t child = 0;
  if (const int error = ::posix_spawnp(&child, "sleep", nullptr, nullptr, arguments.data(), environ)) {
    refuse("cannot start the program sleep", error);
  }
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) continue;
}

// ---- those outside: kernel threads that keep the callers waiting ----

// A pipe into which a kernel thread writes a byte after every wait.
class slow_pipe {
 public:
  explicit slow_pipe(const plan& how) {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) refuse("cannot make a pipe");
    feeder_ = std::thread([this, how] {
      for (int i = 0; i < how.rounds; ++i) {
        plain_nanosleep(how.wait);
        if (::write(ends_[1], "x", 1) != 1) return;
      }
    });
  }
  ~slow_pipe() {
    feeder_.join();
    for (const int end : ends_) ::close(end);
  }
  slow_pipe(const slow_pipe&) = delete;
  slow_pipe& operator=(const slow_pipe&) = delete;

  void plain_read() const {
    char byte = 0;
    if (::read(ends_[0], &byte, 1) != 1) refuse("the pipe broke");
  }

 private:
  std::array<int, 2> ends_{};
  std::thread feeder_;
};

// A file that a kernel thread keeps locked, but for a moment after every wait.
class busy_file {
 public:
  busy_file(const plan& how, const std::string& path) : path_(path), ours_(open()), theirs_(open()) {
    if (::flock(theirs_, LOCK_EX) != 0) refuse("cannot lock " + path);
    holder_ = std::thread([this, how] {
      for (int i = 0; i < how.rounds; ++i) {
        plain_nanosleep(how.wait);
        ::flock(theirs_, LOCK_UN);
        plain_nanosleep(1ms);  // the one who waits gets it
        ::flock(theirs_, LOCK_EX);
      }
      ::flock(theirs_, LOCK_UN);
    });
  }
  ~busy_file() {
    holder_.join();
    ::close(ours_);
    ::close(theirs_);
  }
  busy_file(const busy_file&) = delete;
  busy_file& operator=(const busy_file&) = delete;

  void plain_lock() const {
    if (::flock(ours_, LOCK_EX) != 0 || ::flock(ours_, LOCK_UN) != 0) refuse("cannot lock " + path_);
    plain_nanosleep(2ms);  // by then somebody else has it again
  }

 private:
  int open() const {
    const int fd = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) refuse("cannot open " + path_);
    return fd;
  }

  std::string path_;
  int ours_;
  int theirs_;
  std::thread holder_;
};

// ---- the program that is run twice ----

struct outcome {
  milliseconds longest_gap{};
  milliseconds wall{};
  int beats = 0;
  std::uint64_t taken_over = 0;  // upcalls "blocked" from regions
  std::string timeline;
};

using call = std::function<void()>;
using way_to_call = std::function<void(const call&)>;

void beat(const std::stop_token& over, outcome& seen) {
  for (auto last = weft::clock::now(); !over.stop_requested(); ++seen.beats) {
    weft::this_thread::sleep_for(1ms);
    const auto now = weft::clock::now();
    seen.longest_gap = std::max(seen.longest_gap, milliseconds(now - last));
    last = now;
  }
}

// Runs the five callers to their end.
void block_in_five_threads(const plan& how, const way_to_call& way, const std::string& file) {
  const slow_pipe pipe(how);
  const busy_file locked(how, file);
  std::exception_ptr trouble;
  const auto repeat = [&](const char* name, call one) {
    return weft::jthread({.name = name}, [&, one = std::move(one)] {
      try {
        for (int i = 0; i < how.rounds; ++i) way(one);
      } catch (const std::system_error&) {
        trouble = std::current_exception();
      }
    });
  };
  {
    std::array<weft::jthread, 5> callers{
        repeat("nanosleep", [&] { plain_nanosleep(how.wait); }),
        repeat("sleep longer", [&] { plain_nanosleep(how.wait * 3 / 2); }),
        repeat("read a pipe", [&] { pipe.plain_read(); }),
        repeat("flock a file", [&] { locked.plain_lock(); }),
        repeat("wait for child", [&] { plain_child(how.wait); }),
    };
  }
  if (trouble) std::rethrow_exception(trouble);
}

outcome run_program(const plan& how, const way_to_call& way, const std::string& file, std::size_t columns) {
  outcome seen;
  const auto start = weft::clock::now();
  {
    weft::jthread heart({.name = "heartbeat"}, [&](const std::stop_token& over) { beat(over, seen); });
    block_in_five_threads(how, way, file);
  }
  seen.wall = weft::clock::now() - start;
  seen.taken_over = weft::upcall::counts().of(weft::upcall::kind::blocked, weft::upcall::cause::region);
  if (const weft::trace::ring* const events = weft::trace::current()) seen.timeline = weft::trace::draw(*events, 7, columns);
  return seen;
}

// ---- the report ----

// Traces are recorded where WEFT_TRACE names a file; when the user names none, they go to a folder that we remove.
class trace_folder {
 public:
  trace_folder() {
    const char* const folder = std::getenv("TMPDIR");
    std::string name = std::string(folder == nullptr ? "/tmp" : folder) + "/weft-frozen-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) refuse("cannot make the folder " + name);
    path_ = name;
    const char* const chosen = std::getenv("WEFT_TRACE");
    ::setenv("WEFT_TRACE", (path_ / "trace.json").c_str(), chosen != nullptr && *chosen == '\0' ? 1 : 0);
  }
  ~trace_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  trace_folder(const trace_folder&) = delete;
  trace_folder& operator=(const trace_folder&) = delete;
  [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

std::size_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 100;
  return std::clamp<std::size_t>(size.ws_col, 60, 160);
}

void print_line(const char* what, double plain, double regions, const char* unit, int digits) {
  std::printf("  %-38s %9.*f %-5s %9.*f %s\n", what, digits, plain, unit, digits, regions, unit);
}

void print(const plan& how, const outcome& plain, const outcome& regions) {
  std::printf("Five threads block %d times each, for about %d ms; a heartbeat wants to run every 1 ms.\n\n", how.rounds,
              static_cast<int>(how.wait.count()));
  std::printf("  %-38s %15s %15s\n", "", "plain calls", "weft::blocking");
  print_line("the heart stopped for at most", plain.longest_gap.count(), regions.longest_gap.count(), "ms", 1);
  print_line("it beat", plain.beats, regions.beats, "times", 0);
  print_line("all was done after", plain.wall.count(), regions.wall.count(), "ms", 1);
  print_line("the processor was taken over", static_cast<double>(plain.taken_over), static_cast<double>(regions.taken_over),
             "times", 0);
  std::printf("\nPlain: one waits in the kernel, and all do.\n%s", plain.timeline.c_str());
  std::printf("\nRegions: one waits in the kernel ('.'), the others run.\n%s\n", regions.timeline.c_str());
  std::printf("plain_gap_ms=%.1f regions_gap_ms=%.1f\n", plain.longest_gap.count(), regions.longest_gap.count());
}

void run_both(const plan& how) {
  const trace_folder folder;
  const std::size_t columns = terminal_columns();
  const std::string locked = folder.file("locked");
  const outcome plain = weft::run([&] {
    return run_program(
        how, [](const call& f) { f(); }, locked, columns);
  });
  const outcome regions = weft::run([&] {
    return run_program(
        how, [](const call& f) { weft::blocking(f); }, locked, columns);
  });
  print(how, plain, regions);
}

}  // namespace

int main(int argc, char** argv) try {
  plan how;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    }
    if (argument != "--quick") throw std::invalid_argument("it knows --quick and --help, not \"" + std::string(argument) + "\"");
    how = {2, 15ms};
  }
  run_both(how);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "frozen: " << error.what() << '\n';
  return 2;
}
