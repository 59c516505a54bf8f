// null_fork: the table by which scheduler activations were judged in 1991, measured on this machine.
//
// It shows what it costs to start something that runs beside you and to wait for its end (Null Fork), and to signal one that
// waits and then wait for its signal (Signal-Wait), for: processes (fork and waitpid, a byte through a pipe), kernel threads
// (std::thread, mutex and condition variable), weft's threads with a single activation, so that there are no upcalls for
// regions, and weft's threads once a region was entered, so that activations stand by. The paper's point was that upcalls leave
// user-level threads nearly as cheap as they were; its figures stand beside ours. All of it on one core, as theirs.
// Source: T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992, tables I and IV.
//
//   build/release/demos/null_fork [--quick]      --help tells the rest
//
// Last line, for machines: processes=FORK/SIGNAL kernel_threads=… without=… with=…, in µs
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <weft/blocking.hpp>
#include <weft/condition_variable.hpp>
#include <weft/mutex.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

namespace {

constexpr std::string_view help =
    "Usage: null_fork [--quick]\n"
    "\n"
    "Measures Null Fork and Signal-Wait, the table of the paper on scheduler activations, for processes, kernel\n"
    "threads, and weft's threads without and with activations, on one core.\n"
    "  --quick    fewer operations: the figures are rough\n"
    "  --help     say this\n";

[[noreturn]] void refuse(const std::string& what, int error = errno) {
  throw std::system_error(error, std::generic_category(), what);
}

struct figures {
  double null_fork;    // µs
  double signal_wait;  // µs
};

// The median over five rounds of the µs that one of `operations` takes; `round(n)` performs n of them.
template <class Round> double microseconds_each(int operations, Round round) {
  round(operations / 10 + 1);  // warm up
  std::array<double, 5> times{};
  for (double& time : times) {
    const auto start = std::chrono::steady_clock::now();
    round(operations);
    time = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / operations;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// ---- processes ----

class pipe_end_pair {
 public:
  pipe_end_pair() {
    if (::pipe(ends_.data()) != 0) refuse("cannot make a pipe");
  }
  ~pipe_end_pair() {
    for (const int end : ends_) ::close(end);
  }
  pipe_end_pair(const pipe_end_pair&) = delete;
  pipe_end_pair& operator=(const pipe_end_pair&) = delete;
  bool signal() const { return ::write(ends_[1], "x", 1) == 1; }
  bool wait() const {
    char byte = 0;
    return ::read(ends_[0], &byte, 1) == 1;
  }

 private:
  std::array<int, 2> ends_{};
};

template <class Body> pid_t fork_process(Body body) {
  const pid_t child = ::fork();
  if (child < 0) refuse("cannot fork");
  if (child != 0) return child;
  body();
  ::_exit(0);
}

void wait_for(pid_t child) {
  if (::waitpid(child, nullptr, 0) < 0) refuse("cannot wait for a child process");
}

figures measure_processes(int scale) {
  const double null_fork = microseconds_each(20 * scale, [](int n) {
    for (int i = 0; i < n; ++i) wait_for(fork_process([] {}));
  });
  const double signal_wait = microseconds_each(400 * scale, [](int n) {
    const pipe_end_pair there;
    const pipe_end_pair back;
    const pid_t partner = fork_process([&] {
      for (int i = 0; i < n; i += 2) static_cast<void>(there.wait() && back.signal());
    });
    for (int i = 0; i < n; i += 2) {
      if (!there.signal() || !back.wait()) refuse("a pipe broke");
    }
    wait_for(partner);
  });
  return {null_fork, signal_wait};
}

// ---- threads, kernel or user-level: one text ----

struct kernel_level {
  using thread = std::thread;
  using mutex = std::mutex;
  using condition_variable = std::condition_variable;
};
struct user_level {
  using thread = weft::thread;
  using mutex = weft::mutex;
  using condition_variable = weft::condition_variable;
};

// Two threads take turns: each signals the other and waits for its signal.
template <class Level> class turns {
 public:
  void take(int who, int count) {
    for (int i = 0; i < count; ++i) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return turn_ == who; });
      turn_ = 1 - who;
      changed_.notify_one();
    }
  }

 private:
  typename Level::mutex mutex_;
  typename Level::condition_variable changed_;
  int turn_ = 0;
};

template <class Level> figures measure_threads(int fork_scale, int signal_scale) {
  const double null_fork = microseconds_each(fork_scale, [](int n) {
    for (int i = 0; i < n; ++i) typename Level::thread([] {}).join();
  });
  const double signal_wait = microseconds_each(signal_scale, [](int n) {
    turns<Level> both;
    typename Level::thread partner([&] { both.take(1, n / 2); });
    both.take(0, n / 2);
    partner.join();
  });
  return {null_fork, signal_wait};
}

figures measure_without_activations(int scale) {
  weft::options how;
  how.max_activations = 1;
  return weft::run(how, [=] { return measure_threads<user_level>(20'000 * scale, 40'000 * scale); });
}

figures measure_with_activations(int scale) {
  return weft::run([=] {
    weft::blocking([] {});  // from here on a kernel thread stands by
    return measure_threads<user_level>(20'000 * scale, 40'000 * scale);
  });
}

// ---- the table ----

struct row {
  const char* name;
  figures ours;
  const char* their_name;
  figures theirs;
};

void print(const std::array<row, 4>& rows) {
  const figures unit = rows.back().ours;
  std::printf("µs per operation                 |   this machine, one core    |   the paper, 1991 (DEC Firefly)\n");
  std::printf("                                 |  Null Fork     Signal-Wait  |  Null Fork  Signal-Wait\n");
  std::printf(
      "---------------------------------+-----------------------------+-----------------------------------------------\n");
  for (const row& r : rows) {
    std::printf("%-32s | %9.3f        %9.3f   |  %7.0f      %7.0f      %s\n", r.name, r.ours.null_fork, r.ours.signal_wait,
                r.theirs.null_fork, r.theirs.signal_wait, r.their_name);
  }
  std::printf("\ntimes the last row               |  Null Fork     Signal-Wait  |  Null Fork  Signal-Wait\n");
  std::printf(
      "---------------------------------+-----------------------------+-----------------------------------------------\n");
  for (const row& r : rows) {
    std::printf("%-32s | %9.2f        %9.2f   |  %7.1f      %7.1f\n", r.name, r.ours.null_fork / unit.null_fork,
                r.ours.signal_wait / unit.signal_wait, r.theirs.null_fork / rows.back().theirs.null_fork,
                r.theirs.signal_wait / rows.back().theirs.signal_wait);
  }
  std::printf("\nprocesses=%.3f/%.3f kernel_threads=%.3f/%.3f without=%.3f/%.3f with=%.3f/%.3f\n", rows[0].ours.null_fork,
              rows[0].ours.signal_wait, rows[1].ours.null_fork, rows[1].ours.signal_wait, rows[2].ours.null_fork,
              rows[2].ours.signal_wait, rows[3].ours.null_fork, rows[3].ours.signal_wait);
}

// As in the paper nothing runs in parallel: everything that this process starts stays on the core where it is.
void stay_on_one_core() {
  const int core = ::sched_getcpu();
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<unsigned>(core), &cores);
  if (core < 0 || ::sched_setaffinity(0, sizeof cores, &cores) != 0) refuse("cannot stay on one core");
}

// Processes first: later a fork would copy the tables of weft's stacks too.
void measure_all(int scale) {
  stay_on_one_core();
  const figures processes = measure_processes(scale);
  const figures kernel_threads = measure_threads<kernel_level>(100 * scale, 1000 * scale);
  const figures without = measure_without_activations(scale);
  const figures with = measure_with_activations(scale);
  print({{{"processes", processes, "Ultrix processes", {11'300, 1'840}},
          {"kernel threads", kernel_threads, "Topaz threads", {948, 441}},
          {"weft, without activations", without, "FastThreads on Topaz threads", {34, 37}},
          {"weft, activations standing by", with, "FastThreads on scheduler activations", {37, 42}}}});
}

}  // namespace

int main(int argc, char** argv) try {
  int scale = 20;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    }
    if (argument != "--quick") throw std::invalid_argument("it knows --quick and --help, not \"" + std::string(argument) + "\"");
    scale = 1;
  }
  measure_all(scale);
  return 0;
} catch (const std::exception& error) {
  std::cerr << "null_fork: " << error.what() << '\n';
  return 2;
}
