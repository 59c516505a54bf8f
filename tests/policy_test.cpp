#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/policy_test.hpp"
#include "weft/blocking.hpp"
#include "weft/condition_variable.hpp"
#include "weft/future.hpp"
#include "weft/mutex.hpp"
#include "weft/policy.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

std::string sentence_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.what();
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
        const weft::start when = i % 3 == 0 ? weft::start::now : weft::start::later;
        threads.emplace_back(weft::attributes{.start = when, .priority = i % 5 - 2}, [&] {
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

TEST_CASE("what async starts may end, wait or fail before async returns: child_first") {
  weft::run({.policy = weft::policies::child_first}, [] {
    auto ended = weft::async(std::launch::async, [] { return 1; });
    CHECK(ended.wait_for(0s) == weft::future_status::ready);
    CHECK(ended.get() == 1);
    weft::binary_semaphore gate(0);
    auto waits = weft::async([&] {
      gate.acquire();
      return 2;
    });
    CHECK(waits.wait_for(0s) == weft::future_status::timeout);
    gate.release();
    CHECK(waits.get() == 2);
    auto fails = weft::async([]() -> int { throw std::logic_error("mine"); });
    CHECK_THROWS_AS(fails.get(), std::logic_error);
    CHECK(weft::blocking([] { return weft::async([] { return 3; }); }).get() == 3);
    SUBCASE("and its thread is asked to end with the one that started it") {
      weft::thread parent([&] {
        const auto never = weft::async([] { weft::binary_semaphore(0).acquire(); });
        gate.acquire();
      });
      parent.request_cancel();
      parent.join();
    }
  });
}

TEST_CASE("a result given elsewhere ends an urgent thread's wait, though a post waits for its turn") {
  weft::run({.switches_per_poll = 1, .policy = weft::policies::priority}, [] {
    weft::promise<int> result;
    bool done = false;
    bool post_ran = false;
    weft::jthread urgent({.priority = 10}, [&] {
      result.get_future().wait();
      done = true;
    });
    weft::this_thread::set_priority(5);
    weft::this_thread::yield();
    weft::make_poster().post([&] { post_ran = true; });
    weft::this_thread::yield();  // the post is a thread by now, and less urgent than this one
    std::thread([&] { result.set_value(1); }).join();
    for (int i = 0; i < 100 && !done; ++i) weft::this_thread::yield();
    CHECK(done);
    CHECK_FALSE(post_ran);
  });
}

// ---- bad input ----

TEST_CASE("a priority out of range is an error that names the range (invalid_argument)") {
  weft::run({.policy = weft::policies::priority}, [] {
    const auto too_high = [] { weft::thread({.priority = 32}, [] {}).join(); };
    CHECK(code_of(too_high) == std::errc::invalid_argument);
    CHECK(sentence_of(too_high).find("attributes::priority is 32; give one from -32 to 31") != std::string::npos);
    CHECK(code_of([] { weft::this_thread::set_priority(-33); }) == std::errc::invalid_argument);
    weft::thread t([] {});
    CHECK(code_of([&] { t.set_priority(1000); }) == std::errc::invalid_argument);
    t.join();
    CHECK(code_of([&] { t.set_priority(1); }) == std::errc::invalid_argument);
    CHECK(code_of([&] { t.set_deadline(weft::never); }) == std::errc::invalid_argument);
  });
}

TEST_CASE("off a weft thread there is no priority to change (operation_not_permitted)") {
  CHECK(code_of([] { weft::this_thread::set_priority(1); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { static_cast<void>(weft::this_thread::priority()); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { weft::this_thread::set_deadline(weft::never); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { static_cast<void>(weft::this_thread::deadline()); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { weft::this_thread::set_name("x"); }) == std::errc::operation_not_permitted);
}

TEST_CASE("a policy that is not made, or that throws, ends run() before anything ran") {
  bool ran = false;
  const auto with_none = [&] { weft::run({.policy = [] { return std::unique_ptr<weft::policy>(); }}, [&] { ran = true; }); };
  CHECK(code_of(with_none) == std::errc::invalid_argument);
  CHECK(sentence_of(with_none).find("options::policy made no policy") != std::string::npos);
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
    CHECK(code_of([] { weft::this_thread::set_priority(99); }) == std::errc::invalid_argument);
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
  CHECK(told([] { return std::make_unique<in_turn>(); },
             [](auto& say) {
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
  CHECK(came ==
        "main:created sleeper:created main:yielded main:displaced moved:created moved:changed main:woken sleeper:woken "
        "main:woken ");
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
