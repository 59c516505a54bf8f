// both-transfers
// Deadlocks: every thread waits and nothing is left that could wake one.
#include <doctest/doctest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "sched/stack.hpp"
#include "tests/in_child.hpp"
#include "tests/report_test.hpp"
#include "tests/skip.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace {

// Runs `fn` and returns the report of the deadlock that it must end in.
template <class F>
std::string report_of_deadlock(F fn) {
  try {
    weft::run(fn);
  } catch (const weft::deadlock& deadlock) {
    return deadlock.what();
  }
  return "no deadlock";
}

// From here on the kernel of this process is out of memory for guard pages (advice 102: MADV_GUARD_INSTALL).
bool refuse_guards() {
  const auto load = [](std::size_t at) { return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(at)); };
  sock_filter filter[] = {
      load(offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
      load(offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t)),  // its lower half: little endian
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

struct counted {
  int& destroyed;
  ~counted() { ++destroyed; }
};

}  // namespace

TEST_CASE("a circle of three mutexes is a deadlock whose report shows the circle, and every thread's destructors run") {
  int destroyed = 0;
  const std::string report = report_of_deadlock([&] {
    weft::mutex m[3];
    const auto take_two = [&](int first) {
      const counted c{destroyed};
      std::lock_guard one(m[first]);
      weft::this_thread::yield();
      std::lock_guard two(m[(first + 1) % 3]);
    };
    weft::jthread a({.name = "a"}, take_two, 0);
    weft::jthread b({.name = "b"}, take_two, 1);
    weft::jthread c({.name = "c"}, take_two, 2);
  });
  INFO(report);
  CHECK(contains(report, "weft: deadlock: every thread waits"));
  CHECK(contains(report, "These wait for one another in a circle:\n  thread "));
  CHECK(contains(report, "  thread 2 \"a\" waits in mutex 0x"));
  CHECK(contains(report, " held by thread 3 \"b\"\n  thread 3 \"b\" waits in mutex 0x"));
  CHECK(contains(report, " held by thread 4 \"c\"\n"));
  CHECK(contains(report, "thread 1 \"main\" parked in join of thread 4 \"c\"\n"));
  CHECK(contains(report, "weft::mutex::lock_slow"));
  CHECK(contains(report, "keep a weft::poster"));
  CHECK(destroyed == 3);
}

TEST_CASE("a deadlock of plain threads is thrown out of run as well, after their destructors ran") {
  int destroyed = 0;
  const std::string report = report_of_deadlock([&] {
    weft::mutex m[2];
    const auto take_two = [&](int first) {
      const counted c{destroyed};
      std::lock_guard one(m[first]);
      weft::this_thread::yield();
      std::lock_guard two(m[1 - first]);
    };
    weft::thread x({.name = "x"}, take_two, 0);
    weft::thread y({.name = "y"}, take_two, 1);
    x.join();
    y.join();
  });
  INFO(report);
  CHECK(contains(report, "  thread 2 \"x\" waits in mutex 0x"));
  CHECK(destroyed == 2);
}

TEST_CASE("two threads that join each other are a circle") {
  const std::string report = report_of_deadlock([] {
    std::optional<weft::jthread> a;
    std::optional<weft::jthread> b;
    a.emplace(weft::attributes{.name = "a"}, [&] { b->join(); });
    b.emplace(weft::attributes{.name = "b"}, [&] { a->join(); });
    weft::channel<int> silent(0);
    parks_in_a_channel(silent);
  });
  INFO(report);
  CHECK(contains(report, "  thread 2 \"a\" waits in join of thread 3 \"b\"\n"));
  CHECK(contains(report, "  thread 3 \"b\" waits in join of thread 2 \"a\"\n"));
}

TEST_CASE("a receive on a channel to which nobody sends is a deadlock without a circle") {
  int ended = 0;
  const std::string report = report_of_deadlock([&] {
    weft::channel<int> silent(0);
    weft::jthread reader({.name = "reader"}, [&] {
      const counted end{ended};
      calls_one_that_parks(silent);
    });
  });
  INFO(report);
  CHECK(contains(report, "thread 2 \"reader\" parked in channel receive 0x"));
  CHECK(contains(report, " calls_one_that_parks+0x"));
  CHECK_FALSE(contains(report, "circle"));
  CHECK(ended == 1);
}

TEST_CASE("threads for which no stack could be made are reported with the reason") {
  if (weft::sched::stack_pool().statistics().guards == weft::sched::guard_method::protect) {
    return skip("this kernel has no MADV_GUARD_INSTALL that could be made to fail");
  }
  const child_end end = in_child([] {
    weft::run([] {
      weft::channel<int> silent(0);
      if (!refuse_guards()) _exit(77);
      std::vector<weft::jthread> threads;
      for (int i = 0; i < 40; ++i) threads.emplace_back([&] { parks_in_a_channel(silent); });
    });
  });
  if (end.exited_with(77)) return skip("seccomp filters are refused here");
  INFO(end.errors);
  CHECK(end.exited_with(child_threw));
  CHECK(end.said("weft: deadlock: "));
  CHECK(end.said("some of those that have not run yet wait for a stack, which could not be made: "));
  CHECK(end.said("thread 41 has not run yet\n"));
}
