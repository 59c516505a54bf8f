// both-transfers every-privilege
// options::activations = all beside signals: blocked ones, handlers that run above a thread that waits, and a debugger that
// stops it.
#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "tests/all_code.hpp"
#include "tests/blocking_calls.hpp"
#include "tests/skip.hpp"
#include "weft/thread.hpp"

namespace {

weft::options all() {
  weft::options how;
  how.activations = weft::activations::all;
  return how;
}

char read_plainly(const pipe_pair& from) {
  char c = 0;
  CHECK(::read(from[0], &c, 1) == 1);
  return c;
}

int kernel_thread() { return static_cast<int>(::syscall(SYS_gettid)); }

// While one exists the kernel thread that made it takes no signal.
class deaf {
 public:
  deaf() {
    sigset_t every;
    sigfillset(&every);
    ::pthread_sigmask(SIG_SETMASK, &every, &before_);
  }
  ~deaf() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  deaf(const deaf&) = delete;
  deaf& operator=(const deaf&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

TEST_CASE("a thread that blocks every signal keeps the processor where it waits, because nothing would stop it") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    const pipe_pair pipe{O_CLOEXEC};
    bool others_ran = false;
    weft::thread other([&] { others_ran = true; });
    std::thread writer([&] {  // no weft thread could
      nap();
      nap();
      put(pipe[1], "x");
    });
    {
      const deaf now;
      CHECK(read_plainly(pipe) == 'x');
      CHECK(!others_ran);
    }
    writer.join();
    other.join();
  });
}

TEST_CASE("signals that were blocked before run() do not keep a thread from being left where it waits") {
  if (!all_code_works()) return skip(no_all_code);
  const deaf here;
  weft::run(all(), [] {
    const pipe_pair there{O_CLOEXEC};
    const pipe_pair back{O_CLOEXEC};
    weft::thread echo([&] { put(back[1], std::string(1, read_plainly(there))); });
    put(there[1], "y");
    CHECK(read_plainly(back) == 'y');
    echo.join();
  });
  sigset_t now;
  CHECK(::pthread_sigmask(SIG_SETMASK, nullptr, &now) == 0);
  CHECK(sigismember(&now, SIGTRAP) == 1);
}

namespace {

std::atomic<int> read_from{-1};
std::atomic<int> began_on{0};
std::atomic<int> ended_on{0};

// It may wait, in the same function as the thread above which it runs.
void read_in_handler(int) {
  const int error = errno;
  char c = 0;
  began_on = kernel_thread();
  CHECK(::read(read_from, &c, 1) == 1);
  ended_on = kernel_thread();
  errno = error;
}

// `above` begins to wait where SIGUSR1 is to meet it.
void check_handler(int flags) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = read_in_handler;
  action.sa_flags = SA_RESTART | flags;
  REQUIRE(::sigaction(SIGUSR1, &action, &before) == 0);
  weft::run(all(), [] {
    for (int i = 0; i < 20; ++i) {
      const pipe_pair for_thread{O_CLOEXEC};
      const pipe_pair for_handler{O_CLOEXEC};
      read_from = for_handler[0];
      ended_on = 0;
      int waits_on = 0;
      weft::thread reader([&] {
        waits_on = kernel_thread();
        CHECK(read_plainly(for_thread) == 't');
      });
      while (waits_on == 0) weft::this_thread::yield();
      CHECK(::syscall(SYS_tgkill, ::getpid(), waits_on, SIGUSR1) == 0);
      put(for_handler[1], "h");
      while (ended_on == 0) weft::this_thread::yield();
      CHECK(began_on == waits_on);
      CHECK(ended_on == waits_on);
      put(for_thread[1], "t");
      reader.join();
    }
  });
  CHECK(::sigaction(SIGUSR1, &before, nullptr) == 0);
}

}  // namespace

TEST_CASE("a handler that waits above a thread that was left ends on the kernel thread on which it began") {
  if (!all_code_works()) return skip(no_all_code);
  check_handler(0);
}

TEST_CASE("the same on an alternate stack") {
  if (!all_code_works()) return skip(no_all_code);
  check_handler(SA_ONSTACK);
}

namespace {

std::atomic<int> alarms{0};

// Non-blocking, in the same function as some of the threads that wait.
void read_nothing(int) {
  const int error = errno;
  char c = 0;
  static_cast<void>(::read(read_from, &c, 1));
  ++alarms;
  errno = error;
}

// Handles SIGALRM, which comes all the time.
class alarm_clock {
 public:
  explicit alarm_clock(long every_us) {
    struct sigaction action {};
    action.sa_handler = read_nothing;
    action.sa_flags = SA_RESTART;
    REQUIRE(::sigaction(SIGALRM, &action, &before_) == 0);
    const itimerval often{{0, every_us}, {0, every_us}};
    REQUIRE(::setitimer(ITIMER_REAL, &often, nullptr) == 0);
  }
  ~alarm_clock() {
    const itimerval never{};
    ::setitimer(ITIMER_REAL, &never, nullptr);
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    ::sigaction(SIGALRM, &ignored, nullptr);  // one that is on its way must not meet the default, which ends the program
    ::sigaction(SIGALRM, &before_, nullptr);
  }
  alarm_clock(const alarm_clock&) = delete;
  alarm_clock& operator=(const alarm_clock&) = delete;

 private:
  struct sigaction before_ {};
};

}  // namespace

// Signals end waits at any moment, and bring news of them to several who stand by at once.
TEST_CASE("threads that the program's signals meet all the time run one at a time, and lose nothing") {
  if (!all_code_works()) return skip(no_all_code);
  constexpr int rounds = 200;
  const pipe_pair empty{O_CLOEXEC | O_NONBLOCK};
  read_from = empty[0];
  alarms = 0;
  volatile int computes = 0;
  std::atomic<int> collided{0};
  std::atomic<int> lost{0};
  weft::run(all(), [&] {
    const alarm_clock rings(700);
    std::vector<weft::thread> threads;
    for (int me = 1; me <= 8; ++me) {
      threads.emplace_back([&, me] {
        const pipe_pair pipe{O_CLOEXEC};
        for (int i = 0; i < rounds; ++i) {
          const timespec nap{0, 20'000 * (i % 20)};
          static_cast<void>(::nanosleep(&nap, nullptr));  // EINTR, as everywhere
          computes = me;
          for (int j = 0; j < 30'000; ++j) {
            if (computes != me) ++collided;
            computes = me;
          }
          if (i % 10 != 0) continue;
          weft::thread writer([&] {
            const timespec soon{0, 50'000};
            static_cast<void>(::nanosleep(&soon, nullptr));
            lost += ::write(pipe[1], "x", 1) == 1 ? 0 : 1;
          });
          char c = 0;
          lost += ::read(pipe[0], &c, 1) == 1 && c == 'x' ? 0 : 1;
          writer.join();
        }
      });
    }
    for (weft::thread& t : threads) t.join();
  });
  CHECK(collided == 0);
  CHECK(lost == 0);
  CHECK(alarms > 0);
}

namespace {

// Stops one kernel thread of the parent while that computes, lets others look at it, and lets it go on.
int stop_for_a_while(int kernel_thread, int others_run) {
  constexpr int patience_ms = 100;  // for what is not to happen
  int status = 0;
  if (::ptrace(PTRACE_SEIZE, kernel_thread, nullptr, nullptr) != 0) return 2;
  if (::ptrace(PTRACE_INTERRUPT, kernel_thread, nullptr, nullptr) != 0) return 3;
  if (::waitpid(kernel_thread, &status, __WALL) != kernel_thread) return 4;
  pollfd news{others_run, POLLIN, 0};
  const int ran = ::poll(&news, 1, patience_ms);
  return ::ptrace(PTRACE_DETACH, kernel_thread, nullptr, nullptr) == 0 ? ran : 5;
}

}  // namespace

TEST_CASE("a thread that a debugger stops while it computes keeps the processor") {
  if (!all_code_works()) return skip(no_all_code);
  std::array<int, 2> news{};
  REQUIRE(::pipe2(news.data(), O_CLOEXEC) == 0);
  weft::run(all(), [&] {
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    const timespec instant{0, 1'000'000};
    ::nanosleep(&instant, nullptr);  // an activation stands by from here on
    const int me = kernel_thread();
    bool others_ran = false;
    std::atomic<int> result{-1};
    weft::thread other([&] {
      others_ran = true;
      put(news[1], "x");
    });
    std::thread debugger([&, me] {  // its child has no weft stack
      const pid_t child = ::fork();
      if (child == 0) ::_exit(stop_for_a_while(me, news[0]));
      int status = 0;
      CHECK(::waitpid(child, &status, 0) == child);
      result = WIFEXITED(status) ? WEXITSTATUS(status) : 6;
    });
    while (result == -1) {
    }
    CHECK(!others_ran);
    CHECK((result == 0 || result == 2));  // 2: nobody may stop others here
    debugger.join();
    other.join();
  });
  ::close(news[0]);
  ::close(news[1]);
}
