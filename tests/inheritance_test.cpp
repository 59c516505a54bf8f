// Priorities that pass through mutexes.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "tests/policy_test.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

// `low` holds the lock, `high` waits for it, and `middle` becomes ready when `low` does.
template <class Lock, class Unlock, class Say> void may_invert(Lock lock, Unlock unlock, const Say& say) {
  const weft::time_point then = weft::detail::now() + 2ms;
  weft::jthread low({.priority = -10}, [&] {
    lock();
    weft::this_thread::sleep_until(then);
    say("low");
    unlock();
    weft::this_thread::yield();
    say("alone");
  });
  weft::this_thread::sleep_for(1ms);
  weft::jthread high({.priority = 10}, [&] {
    lock();
    say("high");
    unlock();
  });
  weft::jthread middle([&] {
    weft::this_thread::sleep_until(then);
    for (int i = 0; i < 3; ++i) {
      say("middle");
      weft::this_thread::yield();
    }
  });
}

}  // namespace

TEST_CASE("who holds a mutex inherits the priority of those who wait for it, until it is unlocked: no inversion") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::mutex lock;
          may_invert([&] { lock.lock(); }, [&] { lock.unlock(); }, say);
        }) == "low high middle middle middle alone");
}

TEST_CASE("through a semaphore, which nobody holds, nothing is inherited: the same threads are inverted") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::binary_semaphore lock(1);
          may_invert([&] { lock.acquire(); }, [&] { lock.release(); }, say);
        }) == "middle middle middle low high alone");
}

TEST_CASE("urgency passes through any number of mutexes, and goes when they are unlocked") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          constexpr int length = 50;
          weft::mutex locks[length];
          std::vector<weft::jthread> chain;
          for (int i = 0; i < length; ++i) {  // each holds its own and waits for the one before
            chain.emplace_back(weft::attributes{.priority = -20}, [&, i] {
              const std::lock_guard own(locks[i]);
              if (i == 0) weft::this_thread::sleep_for(2ms);
              if (i > 0) std::lock_guard before(locks[i - 1]);
              if (i == 0 || i == length - 1) say("chain" + std::to_string(i));
            });
            weft::this_thread::sleep_for(1us);
          }
          weft::jthread high({.priority = 10}, [&] {
            const std::lock_guard last(locks[length - 1]);
            say("high");
          });
          weft::jthread middle([&] {
            weft::this_thread::sleep_for(2ms);
            for (int i = 0; i < 3; ++i) {
              say("middle");
              weft::this_thread::yield();
            }
          });
        }) == "chain0 chain49 high middle middle middle");
}

TEST_CASE("a mutex goes to the most urgent of those who wait, among equals to the longest waiter") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::mutex lock;
          std::unique_lock held(lock);
          std::vector<weft::jthread> threads;
          const auto add = [&](const char* who, int priority) {
            threads.emplace_back(weft::attributes{.priority = priority}, [&, who] {
              const std::lock_guard guard(lock);
              say(who);
            });
            weft::this_thread::sleep_for(1us);
          };
          add("usual1", 0);
          add("high1", 5);
          add("low", -5);
          add("high2", 5);
          add("usual2", 0);
          held.unlock();
        }) == "high1 high2 usual1 usual2 low");
}

TEST_CASE("who was chosen for a mutex and finds it taken by a try_lock comes before its equals again") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::mutex lock;
          std::unique_lock held(lock);
          std::vector<weft::jthread> threads;
          for (const char* const who : {"first", "second"}) {
            threads.emplace_back([&, who] {
              const std::lock_guard guard(lock);
              say(who);
            });
          }
          weft::this_thread::yield();
          held.unlock();
          CHECK(held.try_lock());
          weft::this_thread::yield();
          held.unlock();
        }) == "first second");
}

TEST_CASE("who was chosen and finds the mutex taken keeps nothing of what it was lent: the lender comes before it") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::mutex lock;
          weft::binary_semaphore go_taker(0);
          weft::binary_semaphore go_lender(0);
          std::unique_lock held(lock);
          weft::jthread chosen({.priority = 5}, [&] {
            const std::lock_guard guard(lock);
            say("chosen");
          });
          weft::jthread taker({.priority = 30}, [&] {
            go_taker.acquire();
            const std::unique_lock guard(lock, std::try_to_lock);
            say(guard.owns_lock() ? "taken" : "lost");
            weft::this_thread::sleep_for(1ms);
          });
          weft::jthread lender({.priority = 20}, [&] {
            go_lender.acquire();
            go_taker.release();
            const std::lock_guard guard(lock);
            say("lender");
          });
          weft::this_thread::sleep_for(1us);
          weft::this_thread::set_priority(31);
          go_lender.release();
          held.unlock();  // `chosen` is to have it; before it runs `lender` lends to it, and before that `taker` takes it
          weft::this_thread::set_priority(0);
        }) == "taken lender chosen");
}

TEST_CASE("a waiter whose priority changes while it waits changes its place, and what its holder inherits") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          const weft::time_point then = weft::detail::now() + 1ms;
          weft::mutex lock;
          std::vector<weft::jthread> threads;
          threads.emplace_back(weft::attributes{.priority = -20}, [&] {
            const std::lock_guard guard(lock);
            weft::this_thread::sleep_until(then);
            say("holder");
          });
          weft::this_thread::sleep_for(1us);
          for (const char* const who : {"a", "b"}) {
            threads.emplace_back(weft::attributes{.priority = -10}, [&, who] {
              const std::lock_guard guard(lock);
              say(who);
            });
            weft::this_thread::sleep_for(1us);
          }
          weft::jthread middle([&] {
            weft::this_thread::sleep_until(then);
            say("middle");
          });
          weft::this_thread::sleep_for(1us);
          threads[2].set_priority(10);
        }) == "holder b middle a");
}

TEST_CASE("a deadline or a cancellation that ends a wait for a mutex ends the loan with it") {
  for (const bool cancels : {false, true}) {
    CAPTURE(cancels);
    CHECK(told(weft::policies::priority, [&](auto& say) {
            const weft::time_point then = weft::detail::now() + 5ms;
            weft::timed_mutex lock;
            weft::jthread low({.priority = -10}, [&] {
              const std::lock_guard guard(lock);
              weft::this_thread::sleep_until(then);
              say("low");
            });
            weft::this_thread::sleep_for(1us);
            weft::jthread high({.priority = 10}, [&] {
              if (cancels) {
                lock.lock();
              } else if (!lock.try_lock_for(1ms)) {
                say("gave up");
              }
            });
            weft::this_thread::sleep_for(2ms);
            if (cancels) high.request_cancel();
            weft::jthread middle([&] {
              weft::this_thread::sleep_until(then);  // ready when `low` is
              say("middle");
              weft::this_thread::yield();
              say("middle");
            });
          }) == (cancels ? "middle middle low" : "gave up middle middle low"));
  }
}

TEST_CASE("a loan ends when the lender gives up, also if the mutex was unlocked before the lender ran") {
  simulated_source source(0);
  std::string story;
  weft::run({.switches_per_poll = 1, .policy = weft::policies::priority, .source = &source}, [&] {
    weft::timed_mutex lock;
    weft::binary_semaphore gate(0);
    weft::jthread low({.priority = -10}, [&] {
      lock.lock();
      weft::this_thread::sleep_for(500us);
      source.advance(2ms);         // the time of `high` is over,
      weft::this_thread::yield();  // which makes it ready, as urgent as this thread, and behind it
      lock.unlock();
      gate.release();
      weft::this_thread::yield();
      story += "low";
    });
    weft::this_thread::sleep_for(1us);
    weft::jthread high({.priority = 10}, [&] {
      const std::unique_lock guard(lock, 1ms);  // too late by the clock; but the mutex is free by then
      story += guard.owns_lock() ? "high " : "gave up ";
    });
    weft::jthread middle([&] {
      gate.acquire();
      story += "middle ";
    });
  });
  CHECK(story == "high middle low");
}

TEST_CASE("recursive and timed mutexes, and the lock of a condition variable, are inherited through") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::recursive_timed_mutex lock;
          weft::mutex inner;
          weft::condition_variable changed;
          bool there = false;
          const auto hold_both = [&] {
            const std::lock_guard guard(lock);
            const std::lock_guard again(lock);
            std::unique_lock waiting(inner);
            changed.wait(waiting, [&] { return there; });
            for (int i = 0; i < 5; ++i) weft::this_thread::yield();
            say("low");
          };
          weft::thread low({.priority = -10}, hold_both);
          weft::this_thread::sleep_for(1us);
          {
            const std::lock_guard guard(inner);
            there = true;
            changed.notify_one();
          }
          weft::jthread high({.priority = 10}, [&] {
            const std::unique_lock guard(lock, 1h);
            say(guard.owns_lock() ? "high" : "lost");
          });
          weft::jthread middle([&] { say("middle"); });
          low.join();
        }) == "low high middle");
}

TEST_CASE("five threads with two mutexes each get on by std::scoped_lock under priorities") {
  int turns = 0;
  weft::run({.policy = weft::policies::priority}, [&] {
    weft::mutex a;
    weft::mutex b;
    std::vector<weft::jthread> threads;
    for (int i = 0; i < 5; ++i) {
      threads.emplace_back(weft::attributes{.priority = i}, [&, i] {
        for (int turn = 0; turn < 100; ++turn) {
          if (i % 2 == 0) {
            const std::scoped_lock both(a, b);
            weft::this_thread::sleep_for(1us);
            ++turns;
          } else {
            const std::scoped_lock both(b, a);
            weft::this_thread::sleep_for(1us);
            ++turns;
          }
        }
      });
    }
  });
  CHECK(turns == 500);
}

TEST_CASE("a thread that ends with a mutex it holds leaves its lenders nothing to hang on") {
  simulated_source source(0);
  weft::run({.policy = weft::policies::priority, .source = &source}, [] {
    alignas(weft::timed_mutex) static std::byte memory[sizeof(weft::timed_mutex)];
    auto* const lock = ::new (memory) weft::timed_mutex;  // never destroyed: it stays locked
    weft::thread careless({.priority = -3}, [&] {
      lock->lock();
      weft::this_thread::sleep_for(1ms);
    });
    weft::this_thread::sleep_for(1us);
    weft::thread waiting({.priority = 3}, [&] { CHECK(!lock->try_lock_for(5ms)); });
    weft::this_thread::sleep_for(1us);
    careless.join();
    std::string story;
    weft::thread heir({.priority = -3}, [&] { story += "heir "; });  // in the same record
    heir.set_priority(-2);
    weft::thread other([&] { story += "other "; });
    weft::this_thread::sleep_for(1us);
    CHECK(story == "other heir ");
    heir.join();
    other.join();
    waiting.join();
  });
}
