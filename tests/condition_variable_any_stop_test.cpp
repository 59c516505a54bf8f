// both-transfers
// condition_variable_any: stops that come from anywhere, and threads whose own code is open to upcalls.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/barrier.hpp"
#include "weft/blocking.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/latch.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

TEST_CASE("a wait with a token whose time is over says whether it is ready by then") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::stop_source stop;
    bool ready = false;
    weft::thread says_nothing([&] { ready = true; });
    std::unique_lock hold(m);
    CHECK(c.wait_for(hold, stop.get_token(), 1ms, [&] { return ready; }));
    CHECK_FALSE(c.wait_for(hold, stop.get_token(), 1ms, [] { return false; }));
    says_nothing.join();
  });
}

TEST_CASE("a stop requested by another thread wakes who waits, which says whether it is ready") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::stop_source stop;
    std::string results;
    std::vector<weft::thread> threads;
    for (const bool ready : {false, true}) {
      threads.emplace_back([&, ready] {
        std::unique_lock hold(m);
        results += c.wait(hold, stop.get_token(), [&] { return ready && stop.stop_requested(); }) ? 'r' : 's';
        CHECK(hold.owns_lock());
      });
    }
    weft::jthread timed([&](const std::stop_token& token) {
      std::unique_lock hold(m);
      CHECK_FALSE(c.wait_for(hold, token, 1ms, [] { return false; }));
      CHECK_FALSE(token.stop_requested());
      CHECK_FALSE(c.wait_until(hold, token, std::chrono::system_clock::now() + 1h, [] { return false; }));
      CHECK(token.stop_requested());
    });
    weft::this_thread::sleep_for(10ms);
    CHECK(results.empty());
    c.notify_all();
    yield_times(5);
    CHECK(results.empty());
    CHECK(timed.request_stop());
    CHECK(stop.request_stop());
    for (auto& t : threads) t.join();
    CHECK((results == "sr" || results == "rs"));  // stop callbacks come in no order
    std::unique_lock hold(m);
    CHECK_FALSE(c.wait(hold, stop.get_token(), [] { return false; }));  // long since
    CHECK(c.wait(hold, stop.get_token(), [] { return true; }));
  });
}

TEST_CASE("a stop that the condition itself requests, between two waits, ends the next one") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::stop_source stop;
    int asked = 0;
    weft::thread notifies([&] { c.notify_one(); });
    std::unique_lock hold(m);
    CHECK_FALSE(c.wait(hold, stop.get_token(), [&] {
      if (++asked == 2) stop.request_stop();
      return false;
    }));
    hold.unlock();
    notifies.join();
    CHECK(asked == 3);
  });
}

TEST_CASE("one whom a stop has woken is no longer queued: the next notification is for another one") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::stop_source stop;
    bool woke = false;
    weft::thread first({.start = weft::start::now}, [&] {
      std::unique_lock hold(m);
      CHECK_FALSE(c.wait(hold, stop.get_token(), [] { return false; }));
    });
    weft::thread second({.start = weft::start::now}, [&] {
      std::unique_lock hold(m);
      c.wait(hold);
      woke = true;
    });
    stop.request_stop();
    c.notify_one();
    first.join();
    second.join();
    CHECK(woke);
  });
}

TEST_CASE("a token that can never be stopped costs nothing, and a wait that can be is not taken for a deadlock") {
  simulate([] {
    weft::mutex m;
    weft::condition_variable_any c;
    bool ready = false;
    weft::thread sets([&] {
      ready = true;
      c.notify_one();
    });
    std::unique_lock hold(m);
    CHECK(c.wait(hold, std::stop_token(), [&] { return ready; }));
    hold.unlock();
    sets.join();
  });
  const child_end stuck = in_child([] {
    weft::run([] {
      weft::mutex m;
      weft::condition_variable_any c;
      std::unique_lock hold(m);
      c.wait(hold, std::stop_token(), [] { return false; });
    });
  });
  CHECK(stuck.exited_with(child_threw));
  INFO(stuck.errors);
  CHECK(stuck.said("condition_variable"));
}

TEST_CASE("a stop requested by another kernel thread wakes who waits, also one that idles, in either order") {
  for (int round = 0; round < 200; ++round) {
    std::stop_source stop;
    std::atomic<bool> asked = false;
    std::thread other([&] {
      asked.wait(false);
      stop.request_stop();
    });
    weft::run([&] {
      weft::mutex m;
      weft::condition_variable_any c;
      std::unique_lock hold(m);
      CHECK_FALSE(c.wait(hold, stop.get_token(), [&] {
        asked = true;
        asked.notify_one();
        return false;
      }));
      CHECK(hold.owns_lock());
    });
    other.join();
  }
}

TEST_CASE("waits that end by themselves just when another kernel thread requests the stop end once") {
  for (int round = 0; round < 200; ++round) {
    std::stop_source stop;
    std::atomic<bool> go = false;
    std::thread other([&] {
      go.wait(false);
      stop.request_stop();
    });
    weft::run([&] {
      weft::mutex m;
      weft::condition_variable_any c;
      weft::thread notifies([&] {
        go = true;
        go.notify_one();
        c.notify_all();
      });
      for (int i = 0; i < 3; ++i) {
        std::unique_lock hold(m);
        bool notified = false;
        static_cast<void>(c.wait_for(hold, stop.get_token(), 20us, [&] { return std::exchange(notified, true); }));
      }
      notifies.join();
    });
    other.join();
  }
}

TEST_CASE("a stop requested by a thread of another scheduler, or in a region of the same one, wakes who waits") {
  for (const bool elsewhere : {true, false}) {
    for (int round = 0; round < 50; ++round) {
      weft::run([&] {
        weft::mutex m;
        weft::condition_variable_any c;
        std::stop_source stop;
        weft::counting_semaphore<> waits(0);
        weft::thread asks([&] {
          waits.acquire();
          weft::blocking([&] {
            if (!elsewhere) return static_cast<void>(stop.request_stop());
            std::thread([&] { weft::run([&] { stop.request_stop(); }); }).join();
          });
        });
        std::unique_lock hold(m);
        CHECK_FALSE(c.wait(hold, stop.get_token(), [&] {
          waits.release();
          return false;
        }));
        hold.unlock();
        asks.join();
      });
    }
  }
}

TEST_CASE("threads wait and notify in regions, with any lock and with stops") {
  weft::run([] {
    weft::mutex m;
    weft::condition_variable_any c;
    std::stop_source stop;
    int turn = 0;
    const auto play = [&](int mine) {
      weft::blocking([&] {
        for (int i = 0; i < 20; ++i) {
          std::unique_lock hold(m);
          CHECK(c.wait(hold, stop.get_token(), [&] { return turn % 2 == mine; }));
          ++turn;
          c.notify_all();
        }
      });
    };
    weft::thread other(play, 1);
    play(0);
    other.join();
    CHECK(turn == 40);
    weft::blocking([&] {
      std::unique_lock hold(m);
      CHECK(c.wait_for(hold, 1ms) == weft::cv_status::timeout);
      stop.request_stop();
      CHECK_FALSE(c.wait(hold, stop.get_token(), [] { return false; }));
    });
  });
}

TEST_CASE("threads in their own code, open to upcalls, wait and notify, meet, stop and end like others") {
  for (const bool all : {false, true}) {
    weft::options how;
    if (all) how.activations = weft::activations::all;  // where it is refused, they are as others
    if (!all) how.time_slice = 1ms;
    int good = 0;
    weft::run(how, [&] {
      weft::mutex m;
      weft::condition_variable_any c;
      weft::condition_variable ended;
      std::stop_source stop;
      weft::barrier gate(4, [&]() noexcept { ++good; });
      weft::latch over(4);
      int turn = 0;
      std::vector<weft::thread> threads;
      for (int mine = 0; mine < 4; ++mine) {
        threads.emplace_back(weft::attributes{.time_slice = true}, [&, mine] {
          for (int i = 0; i < 25; ++i) {
            std::unique_lock hold(m);
            if (c.wait(hold, stop.get_token(), [&] { return turn % 4 == mine; })) ++good;
            ++turn;
            c.notify_all();
          }
          gate.arrive_and_wait();
          if (mine == 0) {
            const weft::no_preemption whole;
            stop.request_stop();
          } else {
            std::unique_lock hold(m);
            if (!c.wait(hold, stop.get_token(), [] { return false; })) ++good;
          }
          over.arrive_and_wait();
          if (mine == 0) weft::notify_all_at_thread_exit(ended, std::unique_lock(m));
        });
      }
      over.wait();
      std::unique_lock hold(m);
      ended.wait_for(hold, 1ms);
      hold.unlock();
      for (auto& t : threads) t.join();
    });
    CHECK(good == 100 + 1 + 3);
  }
}
