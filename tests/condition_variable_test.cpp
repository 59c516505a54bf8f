// What condition_variable and condition_variable_any have in common, and misuse of the former.
#include "weft/condition_variable.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"

using namespace std::chrono_literals;

#define CONDITIONS weft::condition_variable, weft::condition_variable_any

TEST_CASE_TEMPLATE("notify_one wakes the longest waiter, notify_all everybody, nobody wakes by itself", Condition, CONDITIONS) {
  simulate([] {
    weft::mutex m;
    Condition c;
    std::string order;
    std::vector<weft::thread> threads;
    for (const char name : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&, name] {
        std::unique_lock hold(m);
        c.wait(hold);
        CHECK(hold.owns_lock());
        order += name;
      });
    }
    yield_times(10);
    CHECK(order.empty());
    c.notify_one();
    yield_times(3);
    CHECK(order == "a");
    c.notify_all();
    for (auto& t : threads) t.join();
    CHECK(order == "abcd");
    c.notify_one();  // nobody: no effect, and not remembered
    std::unique_lock hold(m);
    CHECK(c.wait_for(hold, 1ms) == weft::cv_status::timeout);
  });
}

TEST_CASE_TEMPLATE("a timed wait that times out holds the mutex again and is no longer queued", Condition, CONDITIONS) {
  simulate([] {
    weft::mutex m;
    Condition c;
    std::unique_lock hold(m);
    CHECK(c.wait_for(hold, 5ms) == weft::cv_status::timeout);
    CHECK(hold.owns_lock());
    CHECK_FALSE(c.wait_for(hold, 5ms, [] { return false; }));
    CHECK(c.wait_for(hold, 5ms, [] { return true; }));
    CHECK(c.wait_until(hold, std::chrono::system_clock::now() - 1s) == weft::cv_status::timeout);
    bool notified = false;
    weft::thread waiter([&] {
      std::unique_lock inner(m);
      notified = c.wait_for(inner, 1h) == weft::cv_status::no_timeout;
    });
    hold.unlock();
    weft::this_thread::yield();
    c.notify_one();
    waiter.join();
    CHECK(notified);
  });
}

TEST_CASE_TEMPLATE("a wait that is cancelled holds its mutex when it throws, and steals no notification", Condition, CONDITIONS) {
  simulate([] {
    weft::mutex m;
    Condition c;
    bool held = false;
    bool second_woke = false;
    weft::thread first([&] {
      std::unique_lock hold(m);
      try {
        c.wait(hold);
      } catch (const weft::cancelled&) {
        held = hold.owns_lock();
        throw;
      }
    });
    weft::thread second([&] {
      std::unique_lock hold(m);
      c.wait(hold);
      second_woke = true;
    });
    weft::this_thread::yield();
    first.request_cancel();
    c.notify_one();
    first.join();
    second.join();
    CHECK(held);
    CHECK(second_woke);
  });
}

TEST_CASE_TEMPLATE("what came true without a notification is seen when the time is over", Condition, CONDITIONS) {
  simulate([] {
    weft::mutex m;
    Condition c;
    bool ready = false;
    weft::thread says_nothing([&] { ready = true; });
    std::unique_lock hold(m);
    CHECK(c.wait_for(hold, 1ms, [&] { return ready; }));
    CHECK(c.wait_until(hold, weft::detail::now() + 1ms, [&] { return ready; }));
    CHECK_FALSE(c.wait_for(hold, 1ms, [] { return false; }));
    says_nothing.join();
  });
}

TEST_CASE("waiting with a lock that does not hold its mutex is an error") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable c;
    std::unique_lock hold(m, std::defer_lock);
    CHECK(code_of([&] { c.wait(hold); }) == std::errc::operation_not_permitted);
  });
}
