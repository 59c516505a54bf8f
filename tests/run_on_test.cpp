// both-transfers
// Several schedulers that begin and end together.
#include "weft/run_on.hpp"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/captured_errors.hpp"
#include "tests/in_child.hpp"
#include "tests/refuse.hpp"
#include "tests/simulated_source.hpp"
#include "tests/skip.hpp"
#include "weft/blocking.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

long kernel_thread() { return ::syscall(SYS_gettid); }

std::size_t entries(const char* directory) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
}

/// Where somebody else's scheduler counts: each belongs to one.
struct bells {
  explicit bells(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) of.push_back(std::make_unique<weft::counting_semaphore<>>(0));
  }
  void ring(const weft::processors& all, std::size_t whose) const {
    CHECK(all[whose].post([&bell = *of[whose]] { bell.release(); }));
  }
  void await(const weft::processors& all) const { of[all.index()]->acquire(); }
  std::vector<std::unique_ptr<weft::counting_semaphore<>>> of;
};

std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.what();
  }
  return "none";
}

bool begins(const std::string& text, const char* with) { return text.starts_with(with); }

}  // namespace

TEST_CASE("each scheduler calls the function once, on a kernel thread of its own, the first on the caller's") {
  std::mutex lock;
  std::set<std::size_t> seen;
  std::set<long> kernel_threads;
  long first = 0;
  weft::run_on(4, [&](const weft::processors& all) {
    const std::lock_guard hold(lock);
    CHECK(all.count() == 4);
    CHECK(weft::this_thread::name() == "main");
    seen.insert(all.index());
    kernel_threads.insert(kernel_thread());
    if (all.index() == 0) first = kernel_thread();
  });
  CHECK(seen == std::set<std::size_t>{0, 1, 2, 3});
  CHECK(kernel_threads.size() == 4);
  CHECK(first == kernel_thread());
}

TEST_CASE("all schedulers can be posted to when the first function begins, each by each and by itself") {
  constexpr std::size_t count = 5;
  const bells bell(count);
  weft::run_on(count, [&](const weft::processors& all) {
    for (std::size_t i = 0; i < count; ++i) bell.ring(all, i);
    for (std::size_t i = 0; i < count; ++i) bell.await(all);
  });
}

TEST_CASE("a message goes round three schedulers a thousand times") {
  const bells bell(3);
  int rounds = 0;
  weft::run_on(3, [&](const weft::processors& all) {
    for (int i = 0; i < 1000; ++i) {
      if (all.index() != 0 || i != 0) bell.await(all);
      if (all.index() == 0) ++rounds;
      if (all.index() != 2 || i != 999) bell.ring(all, (all.index() + 1) % 3);
    }
  });
  CHECK(rounds == 1000);
}

TEST_CASE("one scheduler is weft::run, and a message to itself is no deadlock") {
  const bells bell(1);
  weft::run_on(1, [&](const weft::processors& all) {
    CHECK(all.count() == 1);
    bell.ring(all, 0);
    bell.await(all);
  });
}

TEST_CASE("whichever function throws, the others' waits end by weft::cancelled, and what it threw is thrown") {
  for (std::size_t thrower = 0; thrower < 3; ++thrower) {
    std::atomic<int> cancelled = 0;
    const bells bell(3);
    const auto act = [&](const weft::processors& all) {
      if (all.index() == thrower) throw std::runtime_error("from " + std::to_string(thrower));
      try {
        bell.await(all);
      } catch (const weft::cancelled&) {
        ++cancelled;
        throw;
      }
    };
    CHECK_THROWS_WITH_AS(weft::run_on(3, act), ("from " + std::to_string(thrower)).c_str(), std::runtime_error);
    CHECK(cancelled == 2);
  }
}

TEST_CASE("the first exception is the one that counts, also when the others answer it with theirs") {
  const bells bell(3);
  const auto act = [&](const weft::processors& all) {
    if (all.index() == 1) throw std::runtime_error("first");
    try {
      bell.await(all);
    } catch (const weft::cancelled&) {
      throw std::logic_error("second");
    }
  };
  CHECK_THROWS_WITH_AS(weft::run_on(3, act), "first", std::runtime_error);
}

TEST_CASE("an exception after all others have returned is thrown as well") {
  std::atomic<int> returned = 0;
  const bells bell(2);
  const auto act = [&](const weft::processors& all) {
    if (all.index() == 0) return static_cast<void>(++returned);
    while (all[0].post([] {})) weft::this_thread::yield();
    throw std::runtime_error("late");
  };
  CHECK_THROWS_WITH_AS(weft::run_on(2, act), "late", std::runtime_error);
  CHECK(returned == 1);
}

TEST_CASE("weft::cancelled that nobody asked for is rethrown like any other") {
  CHECK_THROWS_AS(weft::run_on(2,
                               [](const weft::processors& all) {
                                 if (all.index() == 1) throw weft::cancelled();
                               }),
                  weft::cancelled);
}

TEST_CASE("threads that are left when a function returns are asked to end and waited for, in each scheduler") {
  std::atomic<int> ended = 0;
  weft::run_on(2, [&](const weft::processors&) {
    weft::thread({.start = weft::start::now}, [&] {
      try {
        weft::counting_semaphore<> never(0);
        never.acquire();
      } catch (const weft::cancelled&) {
        ++ended;
        throw;
      }
    }).detach();
  });
  CHECK(ended == 2);
}

TEST_CASE("a scheduler that waits for nobody is a deadlock when all others have ended, and its report has its number") {
  const captured_errors errors;
  std::string report;
  try {
    weft::run_on(3, [](const weft::processors& all) {
      weft::counting_semaphore<> never(0);
      if (all.index() == 1) never.acquire();
    });
  } catch (const weft::deadlock& found) {
    report = found.what();
  }
  CHECK(report.find("scheduler \"weft 1\": 1 thread") != std::string::npos);
  CHECK(errors.count("deadlock") != 0);
}

TEST_CASE("schedulers in regions are woken by one another") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const bells bell(2);
  weft::run_on(2, [&](const weft::processors& all) {
    char byte = 'x';
    if (all.index() == 0) {
      weft::thread answers([&] { bell.await(all), bell.ring(all, 1); });
      CHECK(weft::blocking([&] { return ::read(ends[0], &byte, 1); }) == 1);
      answers.join();
    } else {
      bell.ring(all, 0);
      bell.await(all);  // it answers although its main thread blocks
      CHECK(::write(ends[1], &byte, 1) == 1);
    }
  });
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("processors may be kept: afterwards posts are refused, and there is no scheduler beyond the last") {
  std::unique_ptr<weft::processors> kept;
  weft::run_on(2, [&](const weft::processors& all) {
    if (all.index() == 1) kept = std::make_unique<weft::processors>(all);
    CHECK(begins(refusal_of([&] { static_cast<void>(all[2]); }), "weft::processors: there is no scheduler of that number"));
  });
  REQUIRE(kept);
  CHECK(kept->index() == 1);
  CHECK_FALSE((*kept)[0].post([] {}));
  CHECK_FALSE((*kept)[1].post([] {}));
}

TEST_CASE("what makes no sense is refused with a sentence, and no function is called") {
  bool called = false;
  const auto fn = [&](const weft::processors&) { called = true; };
  CHECK(begins(refusal_of([&] { weft::run_on(0, fn); }), "weft::run_on: no scheduler is asked for"));
  CHECK(begins(refusal_of([&] { weft::run_on(4097, fn); }), "weft::run_on: more than 4096 schedulers"));
  simulated_source source(1);
  weft::options one_source;
  one_source.source = &source;
  CHECK(begins(refusal_of([&] { weft::run_on(2, one_source, fn); }), "weft::run_on: options::source serves one scheduler"));
  weft::options bad_signal;
  bad_signal.stall_report = std::chrono::seconds(1);
  bad_signal.preemption_signal = 1000;
  CHECK(refusal_of([&] { weft::run_on(3, bad_signal, fn); }) != "none");
  CHECK_FALSE(called);
}

TEST_CASE("inside run, and inside run_on, it is refused as run is") {
  const char* const sentence = "weft::run_on: this kernel thread already runs a scheduler; spawn a weft::thread instead";
  const auto refused = [=] { CHECK(begins(refusal_of([] { weft::run_on(2, [](const weft::processors&) {}); }), sentence)); };
  weft::run([&] {
    refused();
    weft::blocking(refused);
  });
  weft::run_on(2, [&](const weft::processors&) { refused(); });
}

TEST_CASE("where a scheduler or a kernel thread is not to be had, no function is called and the error says what to change") {
  const auto fails = [](const char* with) {
    bool called = false;
    const std::string said = refusal_of([&] { weft::run_on(16, [&](const weft::processors&) { called = true; }); });
    _exit(!called && said.find(with) != std::string::npos ? 0 : 1);
  };
  CHECK(in_child([&] {
          const rlimit few{20, 20};
          setrlimit(RLIMIT_NOFILE, &few);
          fails("Too many open files");
        }).exited_with(0));
  const child_end end = in_child([&] {
    if (!refuse({{SYS_clone, EAGAIN}, {SYS_clone3, EAGAIN}})) _exit(77);
    fails("weft::run_on: the kernel gives no kernel thread (ulimit -u");
  });
  if (end.exited_with(77)) return skip("this user may not install a seccomp filter");
  CHECK(end.exited_with(0));
}

TEST_CASE("nothing is left behind: no descriptor, no kernel thread") {
  const auto fn = [](const weft::processors& all) {
    if (all.index() == 2) throw std::runtime_error("ends the others");
    weft::this_thread::yield();
  };
  CHECK_THROWS_AS(weft::run_on(4, fn), std::runtime_error);
  const std::size_t descriptors = entries("/proc/self/fd");
  const std::size_t kernel_threads = entries("/proc/self/task");
  for (int i = 0; i < 20; ++i) CHECK_THROWS_AS(weft::run_on(4, fn), std::runtime_error);
  CHECK(entries("/proc/self/fd") == descriptors);
  while (entries("/proc/self/task") != kernel_threads) ::sched_yield();  // one that was waited for may still be on its way out
}
