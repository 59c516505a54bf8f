// Nurseries: children end before their block does, errors and cancellations reach everybody, values come back.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/nursery.hpp"
#include "weft/runtime.hpp"

using namespace std::chrono_literals;

namespace {

void sleep_long() { weft::this_thread::sleep_for(1h); }

std::string what_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return known.what();
  } catch (...) {
    return "unknown";
  }
}

}  // namespace

TEST_CASE("all children have ended when the nursery's block does") {
  simulate([] {
    int ended = 0;
    weft::with_nursery([&](weft::nursery& n) {
      for (int i = 0; i < 100; ++i) {
        n.spawn([&ended, i] {
          weft::this_thread::sleep_for(std::chrono::milliseconds(i % 7));
          ++ended;
        });
      }
      CHECK(n.size() == 100);
    });
    CHECK(ended == 100);
    weft::with_nursery([](weft::nursery&) {});
  });
}

TEST_CASE("children spawn children, also while the nursery waits") {
  simulate([] {
    int ended = 0;
    weft::nursery n;
    const std::function<void(int)> grow = [&](int depth) {
      if (depth == 0) return static_cast<void>(++ended);
      for (int i = 0; i < 3; ++i) n.spawn(grow, depth - 1);
      weft::this_thread::yield();
    };
    n.spawn(grow, 4);
    n.join();
    CHECK(ended == 81);
  });
}

TEST_CASE("the first exception ends the others and the body, and is thrown from the block") {
  simulate([] {
    bool body_ended = false;
    int cancelled = 0;
    try {
      weft::with_nursery([&](weft::nursery& n) {
        for (int i = 0; i < 5; ++i) {
          n.spawn([&] {
            try {
              sleep_long();
            } catch (const weft::cancelled&) {
              ++cancelled;
              throw;
            }
          });
        }
        n.spawn([] { throw std::runtime_error("first"); });
        try {
          sleep_long();
        } catch (const weft::cancelled&) {
          body_ended = true;
          throw;
        }
      });
      FAIL("no exception");
    } catch (const std::runtime_error& error) {
      CHECK(std::string(error.what()) == "first");
    }
    CHECK(body_ended);
    CHECK(cancelled == 5);
    CHECK_FALSE(weft::this_thread::cancel_requested());
  });
}

TEST_CASE("an exception of the body ends the children and is thrown") {
  simulate([] {
    int cancelled = 0;
    const auto run = [&] {
      weft::with_nursery([&](weft::nursery& n) {
        n.spawn([&] {
          try {
            sleep_long();
          } catch (...) {
            ++cancelled;
            throw;
          }
        });
        weft::this_thread::yield();
        throw std::logic_error("body");
      });
    };
    CHECK_THROWS_AS(run(), std::logic_error);
    CHECK(cancelled == 1);
  });
}

TEST_CASE("the other errors are told of, in their order, until the nursery is used again") {
  simulate([] {
    weft::nursery n;
    for (const char* const name : {"a", "b", "c"}) {
      n.spawn([name] {
        try {
          weft::this_thread::yield();
          sleep_long();
        } catch (const weft::cancelled&) {
          throw std::runtime_error(name);
        }
      });
    }
    n.spawn([] { throw std::runtime_error("first"); });
    CHECK_THROWS_WITH(n.join(), "first");
    REQUIRE(n.errors().size() == 4);
    CHECK(what_of(n.errors()[0]) == "first");
    CHECK(what_of(n.errors()[3]) == "c");
    n.spawn([] { weft::this_thread::sleep_for(1ms); });
    n.join();
    CHECK(n.errors().empty());
  });
}

TEST_CASE("whoever waits is asked to end: the children are too, and have ended when it goes on") {
  simulate([] {
    int cancelled = 0;
    bool passed = false;
    weft::thread parent([&] {
      weft::with_nursery([&](weft::nursery& n) {
        for (int i = 0; i < 3; ++i) {
          n.spawn([&] {
            try {
              sleep_long();
            } catch (const weft::cancelled&) {
              weft::this_thread::yield();
              ++cancelled;
            }
          });
        }
      });
      passed = true;
    });
    weft::this_thread::sleep_for(1ms);
    parent.request_cancel();
    parent.join();
    CHECK(cancelled == 3);
    CHECK_FALSE(passed);
  });
}

TEST_CASE("a deadline over a nursery ends all of it") {
  simulate([] {
    int ended = 0;
    CHECK_FALSE(weft::with_timeout(5ms, [&] {
      weft::with_nursery([&](weft::nursery& n) {
        for (int i = 0; i < 10; ++i) {
          n.spawn([&] {
            struct counts {
              int& to;
              ~counts() { ++to; }
            };
            const counts here{ended};
            sleep_long();
          });
        }
      });
    }));
    CHECK(ended == 10);
  });
}

TEST_CASE("request_cancel ends those that are there and those that come, until join has returned") {
  simulate([] {
    weft::nursery n;
    n.spawn(sleep_long);
    n.request_cancel();
    n.spawn(sleep_long);
    n.join();
    bool slept = false;
    n.spawn([&] {
      weft::this_thread::sleep_for(1ms);
      slept = true;
    });
    n.join();
    CHECK(slept);
  });
}

TEST_CASE("children come and go in any order: a request to end reaches those alive, each once") {
  simulate([] {
    constexpr int rounds = 2'000;
    std::minstd_rand lots(1);
    std::vector<std::unique_ptr<weft::channel<int>>> waiting;  // one for each child alive
    int ended = 0;
    int asked = 0;
    weft::nursery n;
    for (int i = 0; i < rounds; ++i) {
      if (lots() % 2 == 0) {
        weft::channel<int>& goes_on = *waiting.emplace_back(std::make_unique<weft::channel<int>>());
        n.spawn({.start = lots() % 2 == 0 ? weft::start::now : weft::start::later}, [&] {
          try {
            static_cast<void>(goes_on.receive());
            ++ended;
          } catch (const weft::cancelled&) {
            ++asked;
            throw;
          }
        });
      } else if (!waiting.empty()) {
        std::swap(waiting[lots() % waiting.size()], waiting.back());
        waiting.back()->send(0);
        weft::this_thread::yield();
        waiting.pop_back();
      }
      REQUIRE(n.size() == waiting.size());
    }
    const int alive = static_cast<int>(waiting.size());
    REQUIRE(alive > 0);
    n.request_cancel();
    n.join();
    CHECK(asked == alive);
    CHECK(ended > 0);
    CHECK(n.size() == 0);
  });
}

TEST_CASE("a nursery that is destroyed with children ends them and waits") {
  simulate([] {
    int ended = 0;
    try {
      weft::nursery n;
      n.spawn([&] {
        try {
          sleep_long();
        } catch (...) {
          weft::this_thread::yield();
          ++ended;
          throw;
        }
      });
      weft::this_thread::yield();
      throw std::runtime_error("through its block");
    } catch (const std::runtime_error&) {
    }
    CHECK(ended == 1);
  });
}

TEST_CASE("children that run first may end before they were entered") {
  simulate([] {
    int ended = 0;
    weft::nursery n;
    for (int i = 0; i < 10; ++i) {
      n.spawn({.start = weft::start::now}, [&, i] {
        if (i % 2 == 0) weft::this_thread::yield();
        ++ended;
      });
    }
    n.join();
    CHECK(ended == 10);
    CHECK(n.size() == 0);
  });
}

TEST_CASE("values of children, also such that can only be moved, void, and none because of an error") {
  simulate([] {
    weft::nursery n;
    auto five = n.start([](int a, int b) { return a + b; }, 2, 3);
    auto text = n.start([] {
      weft::this_thread::sleep_for(1ms);
      return std::make_unique<std::string>("moved");
    });
    auto nothing = n.start([] {});
    CHECK(five.get() == 5);
    CHECK_THROWS_AS(five.get(), std::bad_optional_access);
    CHECK(*text.get() == "moved");
    nothing.get();
    n.join();

    auto fails = n.start([]() -> int { throw std::runtime_error("no value"); });
    auto ended = n.start([] {
      sleep_long();
      return 1;
    });
    CHECK_THROWS_WITH(fails.get(), "no value");
    CHECK_THROWS_AS(ended.get(), weft::cancelled);
    CHECK_THROWS_WITH(n.join(), "no value");
  });
}

TEST_CASE("in a region, and off a weft thread") {
  weft::run([] {
    int sum = 0;
    weft::blocking([&] {
      weft::nursery n;
      auto value = n.start([] { return 4; });
      sum += value.get();
      n.join();
    });
    CHECK(sum == 4);
  });
  weft::nursery unused;
  try {
    unused.spawn([] {});
    FAIL("no error");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::operation_not_permitted);
  }
}
