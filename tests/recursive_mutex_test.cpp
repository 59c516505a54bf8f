// What is special about recursive_mutex and recursive_timed_mutex: levels. The rest: all_locks_test, timed_mutex_test.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/mutex.hpp"

using namespace std::chrono_literals;

static_assert(as_standard<weft::recursive_mutex, std::recursive_mutex>);
static_assert(as_standard<weft::recursive_timed_mutex, std::recursive_timed_mutex>);
static_assert(!std::is_convertible_v<weft::recursive_timed_mutex&, weft::recursive_mutex&>);
constinit weft::recursive_timed_mutex usable_before_main;

#define RECURSIVE_LOCKS weft::recursive_mutex, weft::recursive_timed_mutex

TEST_CASE_TEMPLATE("the owner locks again as often as it likes, and others get in after as many unlocks", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    m.lock();
    CHECK(m.try_lock());
    if constexpr (std::is_same_v<Lock, weft::recursive_timed_mutex>) {
      CHECK(m.try_lock_for(-1s));
      CHECK(m.try_lock_for(1h));
      CHECK(m.try_lock_until(weft::time_point::min()));
      for (int i = 0; i < 3; ++i) m.unlock();
    }
    for (int i = 0; i < 3; ++i) {
      CHECK_FALSE(free_for_others(m));
      m.unlock();
    }
    CHECK(free_for_others(m));
    CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
  });
}

TEST_CASE_TEMPLATE("a waiter is served when the last level is left, in the order in which they came", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    std::string order;
    m.lock();
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b', 'c'}) {
      threads.emplace_back([&, c] {
        const std::scoped_lock outer(m);
        const std::scoped_lock inner(m);
        order += c;
        weft::this_thread::yield();
      });
    }
    yield_times(2);
    m.lock();
    m.unlock();
    yield_times(5);
    CHECK(order.empty());
    m.unlock();
    for (auto& t : threads) t.join();
    CHECK(order == "abc");
  });
}

TEST_CASE_TEMPLATE("another thread's unlock is an error and takes no level away", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    m.lock();
    weft::thread([&] { CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted); }).join();
    m.unlock();
    CHECK_FALSE(free_for_others(m));
    m.unlock();
    CHECK(free_for_others(m));
  });
}

TEST_CASE_TEMPLATE("after a million levels lock throws, try_lock says no, and nothing else changes", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    constexpr int most = 1'000'000;
    for (int i = 0; i < most; ++i) m.lock();
    CHECK(code_of([&] { m.lock(); }) == std::errc::resource_unavailable_try_again);
    CHECK_FALSE(m.try_lock());
    if constexpr (std::is_same_v<Lock, weft::recursive_timed_mutex>) {
      CHECK_FALSE(m.try_lock_for(1h));
      CHECK_FALSE(m.try_lock_until(weft::never));
    }
    m.unlock();
    CHECK(m.try_lock());
    for (int i = 0; i < most; ++i) m.unlock();
    CHECK(free_for_others(m));
  });
}

TEST_CASE_TEMPLATE("an owner that came before a chosen waiter may lock again as well", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    bool got = false;
    m.lock();
    weft::thread chosen([&] {
      const std::lock_guard hold(m);
      got = true;
    });
    weft::this_thread::yield();
    m.unlock();
    REQUIRE(m.try_lock());  // before the one that was chosen
    m.lock();
    yield_times(2);
    m.unlock();
    yield_times(2);
    CHECK_FALSE(got);
    m.unlock();
    chosen.join();
    CHECK(got);
  });
}

TEST_CASE_TEMPLATE("levels are those of the thread, inside a region and outside it", Lock, RECURSIVE_LOCKS) {
  weft::run([] {
    Lock m;
    m.lock();
    weft::blocking([&] {
      m.lock();
      CHECK(m.try_lock());
      m.unlock();
    });
    m.unlock();
    CHECK_FALSE(free_for_others(m));
    m.unlock();
    CHECK(free_for_others(m));
  });
  Lock m;
  CHECK(code_of([&] { m.lock(); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { static_cast<void>(m.try_lock()); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
}

TEST_CASE_TEMPLATE("a thread cancelled while it waits leaves no level behind", Lock, RECURSIVE_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    CHECK(cancelled_in([&] {
      const std::lock_guard outer(m);
      const std::lock_guard inner(m);
    }));
    m.unlock();
    CHECK(free_for_others(m));
  });
}
