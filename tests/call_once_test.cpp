// call_once: once for all threads, also where calls throw, wait, are cancelled or come back to the flag.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/call_once.hpp"
#include "weft/mutex.hpp"

static_assert(as_standard<weft::once_flag, std::once_flag>);
static_assert(std::is_nothrow_default_constructible_v<weft::once_flag>);
constinit weft::once_flag usable_before_main;

namespace {

// Tells how it was called, and whether anything was copied on the way.
struct object {
  std::string seen;
  void add(const std::string& text) { seen += text; }
};
struct only_as_rvalue {
  void operator()(std::unique_ptr<int> given, int& counts) && { counts += *given; }
  void operator()(std::unique_ptr<int>, int&) & = delete;
};

}  // namespace

TEST_CASE("of many threads one makes the call, and all return when it has returned") {
  simulate([] {
    weft::once_flag flag;
    int calls = 0;
    bool done = false;
    int seen_done = 0;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 100; ++i) {
      threads.emplace_back([&] {
        weft::call_once(flag, [&] {
          ++calls;
          yield_times(5);
          done = true;
        });
        seen_done += done ? 1 : 0;
      });
    }
    for (auto& t : threads) t.join();
    CHECK(calls == 1);
    CHECK(seen_done == 100);
    weft::call_once(flag, [&] { ++calls; });
    CHECK(calls == 1);
  });
}

TEST_CASE("when a call throws, its caller gets the exception and the longest waiter makes the next one") {
  simulate([] {
    weft::once_flag flag;
    std::string story;
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&, c] {
        try {
          weft::call_once(flag, [&] {
            weft::this_thread::yield();
            story += c;
            if (c < 'c') throw std::runtime_error("not yet");
          });
          story += '+';
        } catch (const std::runtime_error& error) {
          CHECK(std::string(error.what()) == "not yet");
          story += '-';
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK(story == "a-b-c++");
  });
}

TEST_CASE("a call that throws while nobody waits leaves the flag as it was") {
  simulate([] {
    weft::once_flag flag;
    int calls = 0;
    for (int i = 0; i < 3; ++i) {
      CHECK_THROWS_AS(weft::call_once(flag, [&] { throw ++calls; }), int);
    }
    weft::call_once(flag, [&] { ++calls; });
    weft::call_once(flag, [&] { ++calls; });
    CHECK(calls == 4);
  });
}

TEST_CASE("the function is called by std::invoke, with everything forwarded as it was given") {
  simulate([] {
    object o;
    weft::once_flag member;
    weft::call_once(member, &object::add, o, "by reference ");
    weft::once_flag through_pointer;
    weft::call_once(through_pointer, &object::add, &o, "by pointer");
    CHECK(o.seen == "by reference by pointer");  // into o itself, no copy of it
  });
}

TEST_CASE("what can only be moved is moved, and only when the call is made") {
  simulate([] {
    weft::once_flag flag;
    int sum = 0;
    auto five = std::make_unique<int>(5);
    weft::call_once(flag, only_as_rvalue{}, std::move(five), sum);
    CHECK(sum == 5);
    CHECK(five == nullptr);
    auto six = std::make_unique<int>(6);
    weft::call_once(flag, only_as_rvalue{}, std::move(six), sum);
    CHECK(sum == 5);
    REQUIRE(six != nullptr);
    CHECK(*six == 6);
    weft::once_flag discards;
    weft::call_once(discards, [] { return 7; });
  });
}

TEST_CASE("a function that comes back to its own flag gets an error, and may go on or fail with it") {
  simulate([] {
    weft::once_flag flag;
    weft::call_once(flag, [&] {
      CHECK(code_of([&] { weft::call_once(flag, [] { FAIL("called within the call"); }); }) ==
            std::errc::resource_deadlock_would_occur);
    });
    weft::once_flag other;
    CHECK(code_of([&] { weft::call_once(other, [&] { weft::call_once(other, [] {}); }); }) ==
          std::errc::resource_deadlock_would_occur);
    bool called = false;
    weft::call_once(other, [&] { called = true; });
    CHECK(called);
  });
}

TEST_CASE("a flag may be used within the call of another one") {
  simulate([] {
    weft::once_flag outer;
    weft::once_flag inner;
    int calls = 0;
    const auto both = [&] { weft::call_once(outer, [&] { weft::call_once(inner, [&] { ++calls; }); }); };
    weft::thread one(both);
    weft::thread two(both);
    one.join();
    two.join();
    CHECK(calls == 1);
  });
}

TEST_CASE("a thread cancelled while it waits for a call throws; one cancelled in its call leaves it to the next") {
  simulate([] {
    weft::once_flag flag;
    std::string story;
    weft::thread first([&] {
      weft::call_once(flag, [&] {
        story += '1';
        weft::this_thread::sleep_for(std::chrono::hours(1));
        story += '!';
      });
    });
    weft::this_thread::yield();
    CHECK(cancelled_in([&] { weft::call_once(flag, [&] { story += '2'; }); }));
    weft::thread third([&] { weft::call_once(flag, [&] { story += '3'; }); });
    weft::this_thread::yield();
    first.request_cancel();
    first.join();
    third.join();
    CHECK(story == "13");
    weft::call_once(flag, [&] { story += '4'; });
    CHECK(story == "13");
  });
}

TEST_CASE("off a weft thread a call is an error, except with a flag that is done: that returns at once, anywhere") {
  weft::once_flag flag;
  CHECK(code_of([&] { weft::call_once(flag, [] {}); }) == std::errc::operation_not_permitted);
  int result = 0;
  weft::run([&] { weft::call_once(flag, [&] { result = 5; }); });
  weft::call_once(flag, [&] { result = 6; });
  std::thread([&] {
    weft::call_once(flag, [&] { result = 7; });
    weft::run([&] { weft::call_once(flag, [&] { result = 8; }); });
  }).join();
  CHECK(result == 5);
}

TEST_CASE("in a region the function runs in the region, and others wait for it on their own threads") {
  weft::run([] {
    weft::once_flag flag;
    int calls = 0;
    std::atomic<bool> began = false;
    std::atomic<bool> let_go = false;
    weft::thread one([&] {
      weft::blocking([&] {
        weft::call_once(flag, [&] {
          CHECK(weft::in_blocking_region());
          ++calls;
          began = true;
          while (!let_go) weft::this_thread::yield();
        });
      });
    });
    while (!began) weft::this_thread::yield();
    weft::thread two([&] { weft::call_once(flag, [&] { ++calls; }); });
    weft::thread three([&] { weft::blocking([&] { weft::call_once(flag, [&] { ++calls; }); }); });
    yield_times(10);
    let_go = true;
    one.join();
    two.join();
    three.join();
    CHECK(calls == 1);
    weft::once_flag fails;
    weft::blocking([&] { CHECK_THROWS_AS(weft::call_once(fails, [] { throw 1; }), int); });
    weft::call_once(fails, [&] { ++calls; });
    CHECK(calls == 2);
  });
}

TEST_CASE("a flag destroyed while its call is under way, or used by two schedulers then, ends the program with a sentence") {
  const child_end destroyed = in_child([] {
    weft::run([] {
      auto flag = std::make_unique<weft::once_flag>();
      weft::thread caller({.start = weft::start::now}, [&] { weft::call_once(*flag, [] { weft::this_thread::yield(); }); });
      flag.reset();
    });
  });
  INFO(destroyed.errors);
  CHECK(destroyed.killed_by(SIGABRT));
  CHECK(destroyed.said("a once_flag was destroyed while a call with it is under way"));
  const child_end shared = in_child([] {
    weft::once_flag flag;
    weft::run([&] {
      weft::call_once(flag, [&] { std::thread([&] { weft::run([&] { weft::call_once(flag, [] {}); }); }).join(); });
    });
  });
  INFO(shared.errors);
  CHECK(shared.killed_by(SIGABRT));
  CHECK(shared.said("a once_flag was used by threads of two schedulers"));
}

TEST_CASE("two calls that wait for one another are a circle in the deadlock's report") {
  std::string report;
  try {
    weft::run([] {
      weft::once_flag flag;
      weft::mutex m;
      weft::jthread caller({.name = "caller"}, [&] {
        weft::call_once(flag, [&] {
          weft::this_thread::yield();
          const std::lock_guard hold(m);
        });
      });
      weft::jthread holder({.name = "holder"}, [&] {
        const std::lock_guard hold(m);
        weft::call_once(flag, [] {});
      });
    });
  } catch (const weft::deadlock& deadlock) {
    report = deadlock.what();
  }
  INFO(report);
  CHECK(report.find("These wait for one another in a circle:\n") != std::string::npos);
  CHECK(report.find("\"holder\" waits in once_flag 0x") != std::string::npos);
  CHECK(report.find(" called by thread 2 \"caller\"\n") != std::string::npos);
}
