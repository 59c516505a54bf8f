// What every lock with a limited wait does for one owner: timed_mutex, recursive_timed_mutex, shared_timed_mutex.
#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/mutex.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

static_assert(as_standard<weft::timed_mutex, std::timed_mutex>);
static_assert(as_standard<weft::mutex, std::mutex>);
static_assert(std::is_nothrow_default_constructible_v<weft::timed_mutex>);
static_assert(!std::is_convertible_v<weft::timed_mutex&, weft::mutex&>);
static_assert(sizeof(weft::timed_mutex) == sizeof(weft::mutex));
constinit weft::timed_mutex usable_before_main;

#define TIMED_LOCKS weft::timed_mutex, weft::recursive_timed_mutex, weft::shared_timed_mutex

TEST_CASE_TEMPLATE("a timed lock that is free is taken at once, by every spelling of the time", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    wall_clock::put(0);
    const auto taken = [&m](bool got) {
      CHECK(got);
      CHECK_FALSE(free_for_others(m));
      m.unlock();
      CHECK(free_for_others(m));
    };
    taken(m.try_lock());
    taken(m.try_lock_for(1ms));
    taken(m.try_lock_for(0s));
    taken(m.try_lock_for(-1h));
    taken(m.try_lock_for(std::chrono::duration<double>(1.5)));
    taken(m.try_lock_for(std::chrono::hours::max()));
    taken(m.try_lock_until(weft::clock::time_point::min()));
    taken(m.try_lock_until(weft::clock::time_point::max()));
    taken(m.try_lock_until(wall_clock::time_point(-1s)));
    taken(m.try_lock_until(std::chrono::system_clock::now() + 1h));
    const weft::time_point before = weft::detail::now();
    CHECK(m.try_lock_for(1h));
    CHECK(weft::detail::now() == before);
    m.unlock();
  });
}

TEST_CASE_TEMPLATE("a timed lock waits for its owner, and gives up when the time has come", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    int got = 0;
    weft::thread patient([&] {
      const std::unique_lock hold(m, 1h);
      got += hold.owns_lock() ? 1 : 0;
    });
    weft::thread hasty([&] {
      const weft::time_point before = weft::detail::now();
      CHECK_FALSE(m.try_lock_for(5ms));
      CHECK(weft::detail::now() - before >= 5ms);
    });
    weft::thread exact([&] {
      const weft::time_point when = weft::detail::now() + 7ms;
      CHECK_FALSE(m.try_lock_until(when));
      CHECK(weft::detail::now() >= when);
    });
    weft::this_thread::sleep_for(10ms);
    CHECK(got == 0);
    m.unlock();
    patient.join();
    CHECK(got == 1);
    hasty.join();
    exact.join();
    CHECK(free_for_others(m));
  });
}

TEST_CASE_TEMPLATE("a time that has come means try_lock: no wait, no turn for others, no cancellation", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    wall_clock::put(100);
    bool others_ran = false;
    weft::thread other;
    weft::thread asker([&] {
      other = weft::thread([&] { others_ran = true; });
      CHECK(weft::this_thread::cancel_requested());
      CHECK_FALSE(m.try_lock_for(0s));
      CHECK_FALSE(m.try_lock_for(-1ms));
      CHECK_FALSE(m.try_lock_for(std::chrono::nanoseconds::min()));
      CHECK_FALSE(m.try_lock_for(std::chrono::duration<double>(-0.5)));
      CHECK_FALSE(m.try_lock_for(std::chrono::duration<double>(std::numeric_limits<double>::quiet_NaN())));
      CHECK_FALSE(m.try_lock_until(weft::detail::now()));
      CHECK_FALSE(m.try_lock_until(weft::clock::time_point::min()));
      CHECK_FALSE(m.try_lock_until(wall_clock::time_point(100s)));
      CHECK_FALSE(m.try_lock_until(std::chrono::system_clock::time_point::min()));
      CHECK_FALSE(others_ran);
    });
    asker.request_cancel();
    asker.join();
    other.join();
    m.unlock();
  });
}

TEST_CASE_TEMPLATE("times that our unit cannot express are far away or long past", Lock, TIMED_LOCKS) {
  using std::chrono::hours;
  using std::chrono::system_clock;
  using std::chrono::time_point;
  simulate([] {
    Lock m;
    m.lock();
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_for(hours::max())); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_for(weft::duration::max())); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_for(std::chrono::duration<double>(1e300))); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_until(time_point<weft::clock, hours>::max())); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_until(time_point<system_clock, hours>::max())); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_until(wall_clock::time_point::max())); }));
    weft::thread([&] {
      CHECK_FALSE(m.try_lock_until(time_point<weft::clock, hours>::min()));
      CHECK_FALSE(m.try_lock_until(time_point<system_clock, hours>::min()));
    }).join();
    m.unlock();
  });
}

TEST_CASE_TEMPLATE("a clock that is set back while a thread waits is asked again", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    wall_clock::put(0);
    bool ended = false;
    weft::thread waiter([&] {
      CHECK_FALSE(m.try_lock_until(wall_clock::time_point(10s)));
      ended = true;
    });
    weft::this_thread::yield();
    wall_clock::put(-100);
    weft::this_thread::sleep_for(30s);
    CHECK_FALSE(ended);
    CHECK(wall_clock::looks > 0);
    wall_clock::put(10);
    waiter.join();
    weft::thread served([&] {
      CHECK(m.try_lock_until(wall_clock::time_point(20s)));
      m.unlock();
    });
    weft::this_thread::yield();
    wall_clock::put(-100);
    weft::this_thread::sleep_for(30s);
    m.unlock();
    served.join();
  });
}

TEST_CASE_TEMPLATE("those who wait a limited time are served in turn with all others", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    std::string order;
    m.lock();
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&, c] {
        if (c == 'a' || c == 'c') {
          CHECK(m.try_lock_for(1h));
        } else {
          m.lock();
        }
        order += c;
        weft::this_thread::yield();
        m.unlock();
      });
    }
    yield_times(2);
    m.unlock();
    CHECK(m.try_lock_for(1h));  // behind the four, although none of them has run yet
    order += 'm';
    m.unlock();
    for (auto& t : threads) t.join();
    CHECK(order == "abcdm");
  });
}

TEST_CASE_TEMPLATE("a try_lock may come before a timed waiter that was chosen, which still gives up in time", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    std::string order;
    m.lock();
    weft::thread hasty([&] { order += m.try_lock_for(5ms) ? '+' : '-'; });
    weft::thread next([&] {
      const std::lock_guard hold(m);
      order += 'n';
    });
    yield_times(1);
    m.unlock();
    REQUIRE(m.try_lock());  // hasty was chosen, and has not run
    weft::this_thread::sleep_for(10ms);
    CHECK(order == "-");
    m.unlock();
    next.join();
    hasty.join();
    CHECK(order == "-n");
    CHECK(free_for_others(m));
  });
}

TEST_CASE_TEMPLATE("a lock that became free after the time came, before the waiter ran, is taken", Lock, TIMED_LOCKS) {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  weft::run(how, [&source] {
    Lock m;
    weft::thread owner([&] {
      m.lock();
      weft::this_thread::sleep_for(4ms);
      m.unlock();
    });
    weft::thread waiter([&] {
      CHECK(m.try_lock_for(5ms));
      m.unlock();
    });
    yield_times(2);
    source.advance(10ms);  // both times have come: the next look makes both ready, the owner first
    waiter.join();
    owner.join();
  });
}

TEST_CASE_TEMPLATE("a thread cancelled in a timed wait throws and leaves the lock to others", Lock, TIMED_LOCKS) {
  simulate([] {
    Lock m;
    m.lock();
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_for(1h)); }));
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_until(std::chrono::system_clock::now() + 1h)); }));
    CHECK(cancelled_in([&] { m.lock(); }));
    bool got = false;
    weft::thread next([&] {
      const std::lock_guard hold(m);
      got = true;
    });
    yield_times(2);
    m.unlock();
    next.join();
    CHECK(got);
    CHECK(free_for_others(m));
  });
}
