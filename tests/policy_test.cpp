#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/policy.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

// Runs `fn` on the simulated source under a policy; returns what it said, word by word.
template <class Fn> std::string told(weft::policy_maker by, Fn fn) {
  simulated_source source(0);
  std::string story;
  const auto say = [&story](const std::string& word) { story += (story.empty() ? "" : " ") + word; };
  weft::run({.policy = std::move(by), .source = &source}, [&] { fn(say); });
  return story;
}

std::error_code refused(const std::function<void()>& call, std::string* sentence = nullptr) {
  try {
    call();
  } catch (const std::system_error& error) {
    if (sentence != nullptr) *sentence = error.what();
    return error.code();
  }
  return {};
}

struct named_order {
  const char* name;
  weft::policy_maker make;
};
const std::vector<named_order>& all_orders() {
  static const std::vector<named_order> all{{"fifo", weft::policies::fifo},
                                            {"child_first", weft::policies::child_first},
                                            {"priority", weft::policies::priority},
                                            {"deadline", weft::policies::deadline},
                                            {"lifo", weft::policies::lifo}};
  return all;
}

// Three threads of which each says its name twice, yielding in between.
template <class Say> void three_that_yield(const Say& say) {
  std::vector<weft::jthread> threads;
  for (const char* const who : {"a", "b", "c"}) {
    threads.emplace_back([&say, who] {
      say(who);
      weft::this_thread::yield();
      say(who);
    });
  }
}

}  // namespace

TEST_CASE("fifo runs threads in the order in which they became ready, as without a policy") {
  const std::string usual = told({}, [](auto& say) { three_that_yield(say); });
  CHECK(usual == "a b c a b c");
  CHECK(told(weft::policies::fifo, [](auto& say) { three_that_yield(say); }) == usual);
}

TEST_CASE("child_first runs a new thread before its parent goes on, and the parent when it waits") {
  CHECK(told(weft::policies::child_first, [](auto& say) {
          weft::jthread child([&] {
            say("child");
            weft::jthread grandchild([&] { say("grandchild"); });
            say("child");
          });
          say("parent");
        }) == "child grandchild child parent");
}

TEST_CASE("lifo runs the thread that became ready last, and one that yields after all others") {
  CHECK(told(weft::policies::lifo, [](auto& say) { three_that_yield(say); }) == "c b a c b a");
}

TEST_CASE("priority runs the highest first, in turn among equals") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          std::vector<weft::jthread> threads;
          const auto add = [&](const char* who, int priority) {
            threads.emplace_back(weft::attributes{.priority = priority}, [&say, who] {
              say(who);
              weft::this_thread::yield();
              say(who);
            });
          };
          add("low", -32);
          add("usual", 0);
          add("high1", 31);
          add("high2", 31);
        }) == "high1 high2 high1 high2 usual usual low low");
}

TEST_CASE("a thread that yields goes on at once when all others are less urgent") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::jthread other({.priority = -1}, [&] { say("other"); });
          for (int i = 0; i < 200; ++i) weft::this_thread::yield();  // through several looks at upcalls
          say("main");
        }) == "main other");
}

TEST_CASE("deadline runs the earliest first, in turn among equals, and threads without one last") {
  CHECK(told(weft::policies::deadline, [](auto& say) {
          const weft::time_point start{};
          std::vector<weft::jthread> threads;
          const auto add = [&](const char* who, weft::time_point when) {
            threads.emplace_back(weft::attributes{.deadline = when}, [&say, who] {
              say(who);
              weft::this_thread::yield();
              say(who);
            });
          };
          add("never", weft::never);
          add("late", start + 2s);
          add("soon1", start + 1s);
          add("soon2", start + 1s);
        }) == "soon1 soon2 soon1 soon2 late late never never");
}

TEST_CASE("what becomes ready by time, by post or by another thread comes in order too") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::counting_semaphore<> gate(0);
          std::vector<weft::jthread> threads;
          for (const int priority : {1, 3, 2}) {
            threads.emplace_back(weft::attributes{.priority = priority}, [&, priority] {
              weft::this_thread::sleep_for(1ms);
              say("timer" + std::to_string(priority));
              gate.acquire();
              say("gate" + std::to_string(priority));
            });
          }
          weft::jthread opener({.priority = -5}, [&] {
            weft::this_thread::sleep_for(2ms);
            gate.release(3);
          });
          threads.clear();
        }) == "timer3 timer2 timer1 gate3 gate2 gate1");
}

TEST_CASE("a thread started with start::now runs before more urgent ones, and its parent goes back among its equals") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::jthread urgent({.priority = 9}, [&] { say("urgent"); });
          weft::jthread first({.start = weft::start::now, .priority = -9}, [&] {
            say("child");
            weft::this_thread::yield();
            say("child");
          });
          say("parent");
        }) == "child urgent parent child");
}

TEST_CASE("under every order but lifo a parent that gave way to its child comes before its equals") {
  const auto family = [](auto& say) {
    const weft::jthread other([&] { say("other"); });
    const weft::jthread first({.start = weft::start::now}, [&] { say("child"); });
    say("parent");
  };
  for (const named_order& order : all_orders()) {
    CAPTURE(order.name);
    const bool runs_new_ones_first = std::string_view(order.name) == "child_first";
    CHECK(told(order.make, family) == (runs_new_ones_first ? "other child parent" : "child parent other"));
  }
}

TEST_CASE("a change of priority moves a thread that is ready, at once") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::jthread a([&] { say("a"); });
          weft::jthread b([&] { say("b"); });
          weft::jthread c([&] { say("c"); });
          c.set_priority(2);
          a.set_priority(-1);
        }) == "c b a");
}

TEST_CASE("a change of deadline moves a thread that is ready, at once") {
  CHECK(told(weft::policies::deadline, [](auto& say) {
          weft::jthread a([&] { say("a"); });
          weft::jthread b([&] { say("b"); });
          b.set_deadline(weft::time_point{} + 1s);
        }) == "b a");
}

TEST_CASE("a running and a waiting thread keep what they were given while they did not stand in the queue") {
  CHECK(told(weft::policies::priority, [](auto& say) {
          weft::counting_semaphore<> gate(0);
          std::vector<weft::jthread> threads;
          for (const char* const who : {"a", "b"}) {
            threads.emplace_back([&, who] {
              gate.acquire();
              say(who);
            });
          }
          weft::this_thread::yield();
          threads[1].set_priority(4);
          weft::this_thread::set_priority(5);
          CHECK(weft::this_thread::priority() == 5);
          gate.release(2);
          weft::this_thread::yield();  // the most urgent: nobody else runs
          say("main");
        }) == "main b a");
}

TEST_CASE("threads of every kind get on under every policy") {
  for (const named_order& order : all_orders()) {
    CAPTURE(order.name);
    int sum = 0;
    weft::run({.policy = order.make}, [&] {
      weft::mutex lock;
      weft::condition_variable done;
      std::vector<weft::jthread> threads;
      for (int i = 0; i < 100; ++i) {
        threads.emplace_back(weft::attributes{.start = i % 3 == 0 ? weft::start::now : weft::start::later, .priority = i % 5 - 2}, [&] {
          for (int turn = 0; turn < 10; ++turn) {
            const std::lock_guard guard(lock);
            weft::this_thread::yield();
            ++sum;
          }
          done.notify_all();
        });
      }
      std::unique_lock guard(lock);
      done.wait(guard, [&] { return sum == 1000; });
    });
    CHECK(sum == 1000);
  }
}

// ---- bad input ----

TEST_CASE("a priority out of range is an error that names the range (invalid_argument)") {
  weft::run({.policy = weft::policies::priority}, [] {
    std::string sentence;
    CHECK(refused([] { weft::thread({.priority = 32}, [] {}).join(); }, &sentence) == std::errc::invalid_argument);
    CHECK(sentence.find("attributes::priority is 32; give one from -32 to 31") != std::string::npos);
    CHECK(refused([] { weft::this_thread::set_priority(-33); }) == std::errc::invalid_argument);
    weft::thread t([] {});
    CHECK(refused([&] { t.set_priority(1000); }) == std::errc::invalid_argument);
    t.join();
    CHECK(refused([&] { t.set_priority(1); }) == std::errc::invalid_argument);
    CHECK(refused([&] { t.set_deadline(weft::never); }) == std::errc::invalid_argument);
  });
}

TEST_CASE("off a weft thread there is no priority to change (operation_not_permitted)") {
  CHECK(refused([] { weft::this_thread::set_priority(1); }) == std::errc::operation_not_permitted);
  CHECK(refused([] { static_cast<void>(weft::this_thread::priority()); }) == std::errc::operation_not_permitted);
  CHECK(refused([] { weft::this_thread::set_deadline(weft::never); }) == std::errc::operation_not_permitted);
  CHECK(refused([] { static_cast<void>(weft::this_thread::deadline()); }) == std::errc::operation_not_permitted);
  CHECK(refused([] { weft::this_thread::set_name("x"); }) == std::errc::operation_not_permitted);
}

TEST_CASE("a policy that is not made, or that throws, ends run() before anything ran") {
  bool ran = false;
  std::string sentence;
  const auto none = [] { return std::unique_ptr<weft::policy>(); };
  CHECK(refused([&] { weft::run({.policy = none}, [&] { ran = true; }); }, &sentence) == std::errc::invalid_argument);
  CHECK(sentence.find("options::policy made no policy") != std::string::npos);
  const auto throwing = []() -> std::unique_ptr<weft::policy> { throw std::runtime_error("no"); };
  CHECK_THROWS_AS(weft::run({.policy = throwing}, [&] { ran = true; }), std::runtime_error);
  CHECK(!ran);
}

TEST_CASE("where the policy is built in a priority is checked and has no effect") {
  weft::run([] {
    weft::this_thread::set_priority(7);
    CHECK(weft::this_thread::priority() == 0);
    weft::this_thread::set_deadline(weft::time_point{});
    CHECK(weft::this_thread::deadline() == weft::never);
    CHECK(refused([] { weft::this_thread::set_priority(99); }) == std::errc::invalid_argument);
  });
}

TEST_CASE("a finished thread's priority may be set in vain") {
  weft::run({.policy = weft::policies::priority}, [] {
    weft::thread t([] {});
    weft::this_thread::set_priority(-1);
    weft::this_thread::yield();
    t.set_priority(3);
    t.join();
    weft::thread again([] { CHECK(weft::this_thread::priority() == 0); });  // in the same record
    again.join();
  });
}

// ---- a policy of one's own ----

namespace {

class in_turn : public weft::policy {
  weft::ready_list groups_[3];
  unsigned turn_ = 0;

  weft::ready_list& group_of(weft::ready_thread& t) { return groups_[t.priority()]; }

  void put(weft::ready_thread& t, came) noexcept override { group_of(t).push_back(t); }
  void remove(weft::ready_thread& t) noexcept override { group_of(t).remove(t); }
  weft::ready_thread* take() noexcept override {
    for (int tries = 0; tries < 3; ++tries) {
      if (weft::ready_thread* const t = groups_[turn_++ % 3].pop_front()) return t;
    }
    return nullptr;
  }
};

// Writes down how threads come, in the order of the built-in policy.
class scribe : public weft::policy {
 public:
  explicit scribe(std::string& into) : into_(into) {}
  void put(weft::ready_thread& t, came how) noexcept override {
    static const char* const names[] = {"created", "woken", "yielded", "displaced", "changed"};
    into_ += std::string(t.name()) + ":" + names[static_cast<int>(how)] + " ";
    list_.push_back(t);
  }
  weft::ready_thread* take() noexcept override { return list_.pop_front(); }
  void remove(weft::ready_thread& t) noexcept override { list_.remove(t); }

 private:
  std::string& into_;
  weft::ready_list list_;
};

}  // namespace

TEST_CASE("a program's own policy decides: one thread in turn of each group") {
  CHECK(told([] { return std::make_unique<in_turn>(); }, [](auto& say) {
          std::vector<weft::jthread> threads;
          for (int i = 0; i < 3; ++i) threads.emplace_back(weft::attributes{.priority = 1}, [&] { say("one"); });
          for (int i = 0; i < 2; ++i) threads.emplace_back(weft::attributes{.priority = 2}, [&] { say("two"); });
          threads.emplace_back([&] { say("zero"); });
        }) == "one two zero one two one");
}

TEST_CASE("a policy is told how each thread became ready") {
  std::string came;
  simulated_source source(0);
  weft::run({.policy = [&] { return std::make_unique<scribe>(came); }, .source = &source}, [&] {
    weft::thread sleeper({.name = "sleeper"}, [] { weft::this_thread::sleep_for(1ms); });
    weft::this_thread::yield();
    weft::thread child({.name = "child", .start = weft::start::now}, [] {});
    weft::thread moved({.name = "moved"}, [] {});
    moved.set_priority(3);
    child.join();
    moved.join();
    sleeper.join();
  });
  CHECK(came == "main:created sleeper:created main:yielded main:displaced moved:created moved:changed main:woken sleeper:woken main:woken ");
}

TEST_CASE("threads keep their names for a policy when they change them") {
  std::string came;
  weft::run({.policy = [&] { return std::make_unique<scribe>(came); }}, [&] {
    weft::this_thread::set_name("renamed by itself to something that is longer than what is kept");
    CHECK(weft::this_thread::name() == "renamed by itself to something ");
    weft::this_thread::set_name(weft::this_thread::name().substr(8, 9));
    CHECK(weft::this_thread::name() == "by itself");
    const weft::jthread other([] {});
    weft::this_thread::yield();
  });
  CHECK(came.find("by itself:yielded ") != std::string::npos);
}

// ---- mutexes ----

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
          weft::jthread low({.priority = -10}, [&] {
            const std::lock_guard guard(lock);
            const std::lock_guard again(lock);
            std::unique_lock waiting(inner);
            changed.wait(waiting, [&] { return there; });
            for (int i = 0; i < 5; ++i) weft::this_thread::yield();
            say("low");
          });
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
