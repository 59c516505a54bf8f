// mutex, counting_semaphore: order, errors, deadlines, cancellation.
#include <doctest/doctest.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

TEST_CASE("a mutex is handed to its waiters in the order in which they came") {
  simulate([] {
    weft::mutex m;
    std::string order;
    m.lock();
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b', 'c'}) {
      threads.emplace_back([&, c] {
        const std::lock_guard hold(m);
        order += c;
        weft::this_thread::yield();
      });
    }
    yield_times(2);
    m.unlock();
    m.lock();  // behind the three
    order += 'm';
    m.unlock();
    for (auto& t : threads) t.join();
    CHECK(order == "abcm");
  });
}

TEST_CASE("only one thread at a time is inside a mutex") {
  for (const std::uint64_t seed : seeds(50)) {
    CAPTURE(seed);
    simulate(seed, [] {
      weft::mutex m;
      int inside = 0;
      int worst = 0;
      std::vector<weft::thread> threads;
      for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
          for (int k = 0; k < 20; ++k) {
            const std::scoped_lock hold(m);
            worst = std::max(worst, ++inside);
            weft::this_thread::yield();
            --inside;
          }
        });
      }
      for (auto& t : threads) t.join();
      CHECK(worst == 1);
    });
  }
}

TEST_CASE("misuse of a mutex is an error with the standard's code") {
  simulate([] {
    weft::mutex m;
    CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
    m.lock();
    CHECK(code_of([&] { m.lock(); }) == std::errc::resource_deadlock_would_occur);
    CHECK_FALSE(m.try_lock());
    weft::thread other([&] {
      CHECK_FALSE(m.try_lock());
      CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
    });
    other.join();
    m.unlock();
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("a thread cancelled while it waits for a mutex does not get it, and the others do") {
  simulate([] {
    weft::mutex m;
    m.lock();
    bool got = false;
    weft::thread first([&] { const std::lock_guard hold(m); });
    weft::thread second([&] {
      const std::lock_guard hold(m);
      got = true;
    });
    weft::this_thread::yield();
    first.request_cancel();
    m.unlock();
    first.join();
    second.join();
    CHECK(got);
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("std::lock takes two weft mutexes without deadlock") {
  simulate([] {
    weft::mutex a;
    weft::mutex b;
    int rounds = 0;
    weft::thread one([&] {
      for (int i = 0; i < 100; ++i) {
        const std::scoped_lock both(a, b);
        ++rounds;
        weft::this_thread::yield();
      }
    });
    weft::thread two([&] {
      for (int i = 0; i < 100; ++i) {
        const std::scoped_lock both(b, a);
        ++rounds;
        weft::this_thread::yield();
      }
    });
    one.join();
    two.join();
    CHECK(rounds == 200);
  });
}

TEST_CASE("any number of threads get two mutexes by std::scoped_lock in either order, with others in between") {
  for (const std::uint64_t seed : seeds(20)) {
    CAPTURE(seed);
    simulate(seed, [] {
      weft::mutex a;
      weft::mutex b;
      int inside = 0;
      int rounds = 0;
      const auto transfer = [&](weft::mutex& first, weft::mutex& second) {
        for (int i = 0; i < 20; ++i) {
          const std::scoped_lock both(first, second);
          CHECK(++inside == 1);
          weft::this_thread::yield();
          --inside;
          ++rounds;
        }
      };
      std::vector<weft::thread> threads;
      for (int i = 0; i < 9; ++i) {
        threads.emplace_back([&, i] { i % 2 == 0 ? transfer(a, b) : transfer(b, a); });
      }
      weft::thread waits_for_one([&] {
        for (int i = 0; i < 20; ++i) {
          const std::lock_guard hold(i % 2 == 0 ? a : b);
          weft::this_thread::yield();
        }
      });
      for (auto& t : threads) t.join();
      waits_for_one.join();
      CHECK(rounds == 180);
    });
  }
}

TEST_CASE("a try_lock may come before the waiter that was chosen, which is the next one all the same") {
  simulate([] {
    weft::mutex m;
    std::string order;
    m.lock();
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b'}) {
      threads.emplace_back([&, c] {
        const std::lock_guard hold(m);
        order += c;
      });
    }
    yield_times(1);
    m.unlock();
    REQUIRE(m.try_lock());  // a was chosen, and has not run
    CHECK(code_of([&] { m.lock(); }) == std::errc::resource_deadlock_would_occur);
    yield_times(1);
    CHECK(order.empty());
    m.unlock();
    for (auto& t : threads) t.join();
    CHECK(order == "ab");
    CHECK(m.try_lock());
    m.unlock();
  });
}

TEST_CASE("a waiter that is cancelled after a try_lock came before it leaves the mutex to the others") {
  simulate([] {
    weft::mutex m;
    bool got = false;
    m.lock();
    weft::thread first([&] { const std::lock_guard hold(m); });
    weft::thread second([&] {
      const std::lock_guard hold(m);
      got = true;
    });
    yield_times(1);
    m.unlock();
    REQUIRE(m.try_lock());
    first.request_cancel();
    first.join();
    CHECK_FALSE(got);
    m.unlock();
    second.join();
    CHECK(got);
  });
}

TEST_CASE("permits go to the longest waiter, and none is lost or made") {
  for (const std::uint64_t seed : seeds(30)) {
    CAPTURE(seed);
    simulate(seed, [] {
      weft::counting_semaphore<> s(3);
      int inside = 0;
      int worst = 0;
      std::vector<weft::thread> threads;
      for (int i = 0; i < 10; ++i) {
        threads.emplace_back([&] {
          for (int k = 0; k < 10; ++k) {
            s.acquire();
            worst = std::max(worst, ++inside);
            weft::this_thread::sleep_for(1ms);
            --inside;
            s.release();
          }
        });
      }
      for (auto& t : threads) t.join();
      CHECK(worst == 3);
      CHECK(s.try_acquire());
      CHECK(s.try_acquire());
      CHECK(s.try_acquire());
      CHECK_FALSE(s.try_acquire());
    });
  }
}

TEST_CASE("misuse of a semaphore is an error") {
  simulate([] {
    CHECK(code_of([] { weft::binary_semaphore s(2); }) == std::errc::invalid_argument);
    CHECK(code_of([] { weft::binary_semaphore s(-1); }) == std::errc::invalid_argument);
    weft::binary_semaphore s(1);
    CHECK(code_of([&] { s.release(); }) == std::errc::value_too_large);
    CHECK(code_of([&] { s.release(-1); }) == std::errc::invalid_argument);
    s.release(0);
    CHECK(s.try_acquire());
  });
}

TEST_CASE("a timed acquire waits for its time on any clock, also infinite and negative ones") {
  simulate([] {
    weft::binary_semaphore s(0);
    CHECK_FALSE(s.try_acquire_for(1ms));
    CHECK_FALSE(s.try_acquire_for(-1ms));
    CHECK_FALSE(s.try_acquire_until(std::chrono::system_clock::now() - 1h));
    weft::thread giver([&] { s.release(); });
    CHECK(s.try_acquire_for(std::chrono::hours::max()));
    giver.join();
  });
}

TEST_CASE("points in time that our unit cannot express are deadlines far away or long past, on every clock") {
  using std::chrono::hours;
  using std::chrono::system_clock;
  using std::chrono::time_point;
  simulate([] {
    weft::binary_semaphore s(0);
    CHECK_FALSE(s.try_acquire_until(time_point<weft::clock, hours>::min()));
    CHECK_FALSE(s.try_acquire_until(time_point<system_clock, hours>::min()));
    weft::mutex m;
    weft::condition_variable c;
    std::unique_lock hold(m);
    CHECK(c.wait_until(hold, time_point<system_clock, hours>::min()) == weft::cv_status::timeout);
    int early = 0;
    const auto cancelled_in = [&](const std::function<void()>& wait) {
      weft::thread t([&] {
        wait();
        ++early;
      });
      weft::this_thread::sleep_for(1ms);
      t.request_cancel();
      t.join();
    };
    cancelled_in([] { weft::this_thread::sleep_until(time_point<weft::clock, hours>::max()); });
    cancelled_in([] { weft::this_thread::sleep_until(time_point<system_clock, hours>::max()); });
    cancelled_in([] { weft::this_thread::sleep_until(system_clock::time_point::max()); });
    cancelled_in([&] { static_cast<void>(s.try_acquire_until(time_point<weft::clock, std::chrono::seconds>::max())); });
    cancelled_in([&] { static_cast<void>(s.try_acquire_until(time_point<system_clock, std::chrono::seconds>::max())); });
    hold.unlock();
    cancelled_in([&] {
      std::unique_lock inner(m);
      static_cast<void>(c.wait_until(inner, time_point<weft::clock, std::chrono::seconds>::max()));
    });
    cancelled_in([&] {
      std::unique_lock inner(m);
      static_cast<void>(c.wait_until(inner, time_point<system_clock, std::chrono::seconds>::max()));
    });
    CHECK(early == 0);
    weft::this_thread::sleep_until(time_point<weft::clock, hours>::min());
  });
}
