// The real source of upcalls, both engines, without a scheduler: sleeping, waking, choosing the engine. needs-libseccomp
#include <seccomp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "tests/engine_fixture.hpp"
#include "upcall/reactor.hpp"

using weft::upcall::opcode;
using weft::upcall::transfer;
using namespace std::chrono_literals;

namespace {

double processor_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_THREAD, &use);
  return static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

// Runs `fn` in a child and says whether it returned true.
template <class F> bool true_in_child(F fn) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(fn() ? 0 : 1);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool deny_io_uring(int error) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  const bool ok =
      seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(error)), 425, 0) == 0 && seccomp_load(filter) == 0;
  seccomp_release(filter);
  return ok;
}

void set(const char* name, const char* value) {
  if (value == nullptr) {
    ::unsetenv(name);
  } else {
    ::setenv(name, value, 1);
  }
}

}  // namespace

TEST_CASE("a wake before a wait ends that wait, and only that one") {
  with_each_engine([](engine& e) {
    e.source().wake();
    e.source().wake();
    e.source().wait(weft::never);
    const weft::time_point end = weft::clock::now() + 2ms;
    while (weft::clock::now() < end) e.source().wait(end);
  });
}

TEST_CASE("no wake from another kernel thread is lost") {
  with_each_engine([](engine& e) {
    constexpr unsigned count = 25'000;  // four times
    std::atomic<unsigned> asked{0};
    std::atomic<unsigned> answered{0};
    std::thread other([&] {
      for (unsigned i = 1; i <= count; ++i) {
        asked.store(i, std::memory_order_relaxed);
        e.source().wake();
        while (answered.load(std::memory_order_relaxed) != i) std::this_thread::yield();
      }
    });
    for (unsigned i = 1; i <= count; ++i) {
      while (asked.load(std::memory_order_relaxed) != i) e.source().wait(weft::never);
      answered.store(i, std::memory_order_relaxed);
    }
    other.join();
  });
}

TEST_CASE("a wake ends a wait also while file operations are in flight") {
  with_each_engine([](engine& e) {
    char path[] = "/tmp/weft-test-XXXXXX";
    const int fd = ::mkstemp(path);
    ::unlink(path);
    for (int i = 0; i < 200; ++i) {
      put(fd, "data");
      request sync(opcode::sync, fd);
      e.start(sync);
      e.poll();
      std::thread other([&] { e.source().wake(); });
      e.source().wait(weft::never);
      other.join();
      CHECK(e.finish(sync) == 0);
    }
    ::close(fd);
  });
}

TEST_CASE("a signal handler may wake, and errno survives it") {
  static weft::upcall::source* to_wake = nullptr;
  static volatile std::sig_atomic_t rang = 0;
  static volatile std::sig_atomic_t kept = 0;
  with_each_engine([](engine& e) {
    to_wake = &e.source();
    struct sigaction act {};
    act.sa_handler = [](int) {
      const int before = errno;
      to_wake->wake();
      kept = errno == before ? 1 : 0;
      rang = 1;
    };
    act.sa_flags = SA_RESTART;
    REQUIRE(::sigaction(SIGALRM, &act, nullptr) == 0);
    for (int i = 0; i < 20; ++i) {
      rang = 0;
      const itimerval soon{{0, 0}, {0, 200}};
      ::setitimer(ITIMER_REAL, &soon, nullptr);
      while (rang == 0) e.source().wait(weft::never);
      CHECK(kept == 1);
    }
    ::signal(SIGALRM, SIG_DFL);
  });
}

TEST_CASE("a wait ends at its deadline, not before, and does not spin") {
  with_each_engine([](engine& e) {
    const double used = processor_seconds();
    const weft::time_point end = weft::clock::now() + 50ms;
    unsigned returns = 0;
    for (; weft::clock::now() < end; ++returns) e.source().wait(end);
    CHECK(returns <= 20);  // a ring of an earlier case that is taken down may interrupt a wait
    CHECK(processor_seconds() - used < 0.025);
    e.source().wait(weft::time_point{});  // long past: no sleep
    e.source().wait(weft::clock::now());
  });
}

TEST_CASE("an operation that waits costs nothing while it waits") {
  with_each_engine([](engine& e) {
    socket_pair s;
    const auto r = made(opcode::receive, s[0], 1);
    e.start(r);
    const double used = processor_seconds();
    const weft::time_point end = weft::clock::now() + 50ms;
    unsigned returns = 0;
    for (; weft::clock::now() < end; ++returns) e.source().wait(end);
    CHECK(returns <= 20);  // a ring of an earlier case that is taken down may interrupt a wait
    CHECK(processor_seconds() - used < 0.025);
    CHECK(e.close(s.take(0)) == 0);
  });
}

TEST_CASE("where io_uring is denied, direct transfers take over and the report says why") {
  for (const int error : {EPERM, ENOSYS}) {
    CHECK(true_in_child([error] {
      if (!deny_io_uring(error)) return false;
      set("WEFT_TRANSFER", nullptr);
      engine e(transfer::automatic);
      const std::string report(weft::upcall::reactor_report(e.source()));
      pipe_pair p;
      const auto r = made(opcode::read, p[0], 10);
      e.start(r);
      e.carry_out(made(opcode::write, p[1], "works"));
      return e.finish(r) == 5 && report.starts_with("transfers direct: io_uring_setup refused") && e.source().name() == "direct";
    }));
  }
}

TEST_CASE("demanding the ring where it is denied is an error that says so") {
  CHECK(true_in_child([] {
    if (!deny_io_uring(EPERM)) return false;
    try {
      static_cast<void>(weft::upcall::make_reactor(transfer::ring));
    } catch (const std::system_error& refused) {
      return refused.code().value() == EPERM && std::string(refused.what()).find("seccomp") != std::string::npos;
    }
    return false;
  }));
}

TEST_CASE("the environment decides what automatic means") {
  CHECK(true_in_child([] {
    set("WEFT_TRANSFER", "direct");
    const bool direct = weft::upcall::make_reactor(transfer::automatic)->name() == "direct";
    set("WEFT_TRANSFER", "both");
    try {
      static_cast<void>(weft::upcall::make_reactor(transfer::automatic));
    } catch (const std::system_error& wrong) {
      return direct && std::string(wrong.what()).find("must be ring, direct or automatic") != std::string::npos;
    }
    return false;
  }));
}

TEST_CASE("WEFT_VERBOSE=1 says in one line how transfers are made") {
  pipe_pair p;
  CHECK(true_in_child([&] {
    set("WEFT_VERBOSE", "1");
    set("WEFT_TRANSFER", "direct");
    ::dup2(p[1], STDERR_FILENO);
    return weft::upcall::make_reactor(transfer::automatic) != nullptr;
  }));
  char line[200] = {};
  CHECK(::read(p[0], line, sizeof(line) - 1) > 0);
  CHECK(std::string(line) == "weft: transfers direct: WEFT_TRANSFER asks for it\n");
}

TEST_CASE("a forked child may destroy the source without harm to the parent's") {
  with_each_engine([](engine& e) {
    socket_pair s;
    char path[] = "/tmp/weft-test-XXXXXX";
    const int fd = ::mkstemp(path);
    ::unlink(path);
    request sync(opcode::sync, fd);
    CHECK(e.carry_out(sync) == 0);  // ring or workers exist now
    const auto r = made(opcode::receive, s[0], 10);
    e.start(r);
    e.poll();
    CHECK(true_in_child([&] {
      e.forget();
      return true;
    }));
    put(s[1], "alive");
    CHECK(e.finish(r) == 5);
    request again(opcode::sync, fd);
    CHECK(e.carry_out(again) == 0);
    ::close(fd);
  });
}
