// condition_variable_any: any lock, deadlines, cancellation. Stops: condition_variable_any_stop_test.cpp.
#include "weft/condition_variable_any.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "tests/adjustable_clock.hpp"
#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

template <class Condition, class Lock> constexpr bool shaped_as_the_standard_says() {
  using any = Condition&;
  using lock = Lock&;
  using when = std::chrono::system_clock::time_point;
  using ready = bool (*)();
  static_assert(std::is_default_constructible_v<Condition>);
  static_assert(!std::is_copy_constructible_v<Condition> && !std::is_copy_assignable_v<Condition>);
  static_assert(noexcept(std::declval<any>().notify_one()) && noexcept(std::declval<any>().notify_all()));
  static_assert(std::is_void_v<decltype(std::declval<any>().wait(std::declval<lock>()))>);
  static_assert(std::is_void_v<decltype(std::declval<any>().wait(std::declval<lock>(), ready()))>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_for(std::declval<lock>(), 1s)), std::cv_status>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_for(std::declval<lock>(), 1.5s, ready())), bool>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_until(std::declval<lock>(), when())), std::cv_status>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_until(std::declval<lock>(), when(), ready())), bool>);
  using token = std::stop_token;
  static_assert(std::is_same_v<decltype(std::declval<any>().wait(std::declval<lock>(), token(), ready())), bool>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_for(std::declval<lock>(), token(), 1s, ready())), bool>);
  static_assert(std::is_same_v<decltype(std::declval<any>().wait_until(std::declval<lock>(), token(), when(), ready())), bool>);
  return true;
}
static_assert(shaped_as_the_standard_says<std::condition_variable_any, std::mutex>());
static_assert(shaped_as_the_standard_says<weft::condition_variable_any, weft::mutex>());

// A lock that lets others run whenever it is taken or released.
class polite_lock {
 public:
  void lock() {
    yield_times(2);
    inner_.lock();
    held = true;
  }
  void unlock() {
    held = false;
    inner_.unlock();
    ++released;
    yield_times(3);
  }
  bool held = false;
  int released = 0;

 private:
  weft::mutex inner_;
};

}  // namespace

TEST_CASE("notify_one wakes the longest waiter, notify_all everybody, nobody wakes by itself, whatever the lock") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::string order;
    std::vector<weft::thread> threads;
    for (const char name : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&, name] {
        if (name < 'c') {
          std::unique_lock hold(m);
          c.wait(hold);
          CHECK(hold.owns_lock());
        } else {
          m.lock();
          c.wait(m);
          m.unlock();
        }
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

TEST_CASE("what is notified while a lock of the program's own is being released is not lost") {
  simulate([] {
    polite_lock lock;
    weft::condition_variable_any c;
    bool ready = false;
    weft::thread waits({.start = weft::start::now}, [&] {
      const std::lock_guard hold(lock);
      c.wait(lock, [&] { return ready; });
      CHECK(lock.held);
    });
    while (lock.released == 0) weft::this_thread::yield();
    ready = true;  // it is in the middle of its unlock
    c.notify_one();
    waits.join();
  });
}

TEST_CASE("a timed wait times out on any clock, holds the lock again and is no longer queued") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::unique_lock hold(m);
    CHECK(c.wait_for(hold, 5ms) == weft::cv_status::timeout);
    CHECK(hold.owns_lock());
    CHECK(c.wait_for(hold, -5ms) == weft::cv_status::timeout);
    CHECK_FALSE(c.wait_for(hold, 5ms, [] { return false; }));
    CHECK(c.wait_for(hold, 5ms, [] { return true; }));
    CHECK(c.wait_until(hold, std::chrono::system_clock::now() - 1s) == weft::cv_status::timeout);
    CHECK(c.wait_until(hold, std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>::min()) ==
          weft::cv_status::timeout);
    adjustable_clock::reading = 1000ms;
    CHECK(c.wait_until(hold, adjustable_clock::time_point(1010ms)) == weft::cv_status::no_timeout);  // it stands still
    weft::thread sets([&] {
      adjustable_clock::reading = 1020ms;
      c.notify_all();
    });
    CHECK_FALSE(c.wait_until(hold, adjustable_clock::time_point(1010ms), [] { return false; }));
    sets.join();
    bool notified = false;
    weft::thread waiter([&] {
      std::unique_lock inner(m);
      notified = c.wait_for(inner, std::chrono::hours::max()) == weft::cv_status::no_timeout;
    });
    hold.unlock();
    weft::this_thread::yield();
    c.notify_one();
    waiter.join();
    CHECK(notified);
  });
}

TEST_CASE("a cancellation that comes while the lock is taken again is for the next wait") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    bool came_back = false;
    bool thrown = false;
    weft::thread waits({.start = weft::start::now}, [&] {
      std::unique_lock hold(m);
      c.wait(hold);
      came_back = hold.owns_lock();
      try {
        c.wait(hold);
      } catch (const weft::cancelled&) {
        thrown = hold.owns_lock();
        throw;
      }
    });
    m.lock();
    c.notify_one();
    yield_times(2);
    waits.request_cancel();  // it waits for the mutex
    yield_times(2);
    m.unlock();
    waits.join();
    CHECK(came_back);
    CHECK(thrown);
  });
}

namespace {

struct fails_to_unlock {
  void lock() {}
  void unlock() {
    weft::this_thread::yield();
    throw std::runtime_error("unlock");
  }
};

}  // namespace

TEST_CASE("what unlock throws leaves the wait, and a notification meanwhile goes to the next one who waits") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    fails_to_unlock bad;
    weft::thread fails({.start = weft::start::now}, [&] { CHECK_THROWS_AS(c.wait(bad), std::runtime_error); });
    bool woke = false;
    weft::thread waits({.start = weft::start::now}, [&] {
      std::unique_lock hold(m);
      c.wait(hold);
      woke = true;
    });
    c.notify_one();
    fails.join();
    waits.join();
    CHECK(woke);
    std::unique_lock not_held(m, std::defer_lock);
    CHECK_THROWS_AS(c.wait(not_held), std::system_error);
    c.notify_all();
  });
}

TEST_CASE("a wait whose unlock throws after notify_all wakes nobody who came later") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    fails_to_unlock bad;
    weft::thread fails({.start = weft::start::now}, [&] { CHECK_THROWS_AS(c.wait(bad), std::runtime_error); });
    c.notify_all();
    int woke = 0;
    weft::thread waits({.start = weft::start::now}, [&] {
      std::unique_lock hold(m);
      c.wait(hold);
      ++woke;
    });
    fails.join();
    yield_times(3);
    CHECK(woke == 0);
    c.notify_one();
    waits.join();
    CHECK(woke == 1);
  });
}

namespace {

// A lock whose unlock waits until somebody says so.
struct slow_lock {
  weft::binary_semaphore go{0};
  void lock() {}
  void unlock() { go.acquire(); }
};

}  // namespace

TEST_CASE("a notification that comes while unlock waits does not end that wait, and is not lost") {
  simulate([] {
    weft::condition_variable_any c;
    slow_lock lock;
    bool woke = false;
    weft::thread waits({.start = weft::start::now}, [&] {
      c.wait(lock);
      woke = true;
    });
    c.notify_one();
    yield_times(3);
    CHECK_FALSE(woke);
    lock.go.release();
    waits.join();
    CHECK(woke);
  });
}

TEST_CASE("a notification that came before the cancellation is not lost: the wait returns, and the next one is cancelled") {
  simulate([] {
    weft::condition_variable_any c;
    polite_lock lock;
    std::string story;
    weft::thread waits({.start = weft::start::now}, [&] {
      lock.lock();
      c.wait(lock);
      story += "notified ";
      lock.unlock();
      weft::this_thread::sleep_for(1h);
      story += "not here";
    });
    while (lock.released == 0) weft::this_thread::yield();
    c.notify_one();
    waits.request_cancel();
    waits.join();
    CHECK(story == "notified ");
  });
}

TEST_CASE("a wait in a destructor, while an exception passes, is not ended by a cancellation") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::string story;
    struct waits_at_its_end {
      weft::mutex& m;
      weft::condition_variable_any& c;
      std::string& story;
      ~waits_at_its_end() {
        std::unique_lock hold(m);
        c.wait(hold);
        story += "waited ";
      }
    };
    weft::thread t({.start = weft::start::now}, [&] {
      try {
        const waits_at_its_end here{m, c, story};
        throw std::runtime_error("out");
      } catch (const std::runtime_error&) {
        story += "caught";
      }
    });
    t.request_cancel();
    yield_times(3);
    CHECK(story.empty());
    c.notify_one();
    t.join();
    CHECK(story == "waited caught");
  });
}

TEST_CASE("what lock throws ends the program, as the standard says") {
  struct fails_to_lock {
    void lock() { throw std::runtime_error("cannot lock"); }
    void unlock() {}
  };
  const child_end end = in_child([] {
    weft::run([] {
      fails_to_lock bad;
      weft::condition_variable_any c;
      c.wait_for(bad, 1ms);
    });
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("cannot lock"));
}

TEST_CASE("misuse of a condition_variable_any is an error or ends the program, with a sentence") {
  weft::condition_variable_any c;
  polite_lock lock;
  c.notify_all();
  CHECK_THROWS_WITH_AS(c.wait(lock), doctest::Contains("condition_variable_any::wait was called outside a weft thread"),
                       std::system_error);
  const auto while_one_waits = [](const std::function<void(std::unique_ptr<weft::condition_variable_any>&)>& act) {
    return in_child([&] {
      weft::run([&] {
        auto condition = std::make_unique<weft::condition_variable_any>();
        weft::mutex m;
        weft::thread t({.start = weft::start::now}, [&] {
          std::unique_lock hold(m);
          condition->wait(hold);
        });
        act(condition);
      });
    });
  };
  const child_end destroyed = while_one_waits([](auto& condition) { condition.reset(); });
  CHECK(destroyed.killed_by(SIGABRT));
  CHECK(destroyed.said("weft: a condition_variable_any was destroyed while threads wait on it"));
  const child_end off_weft = while_one_waits([](auto& condition) { std::thread([&] { condition->notify_one(); }).join(); });
  CHECK(off_weft.said("condition_variable_any::notify_one was called outside a weft thread"));
  const child_end foreign =
      while_one_waits([](auto& condition) { std::thread([&] { weft::run([&] { condition->notify_all(); }); }).join(); });
  CHECK(foreign.said("weft: a condition_variable_any was used by threads of two schedulers"));
}
