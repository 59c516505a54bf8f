// What children inherit of their parent's locals, and values bound for a while.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/future.hpp"
#include "weft/local.hpp"
#include "weft/nursery.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

// Counts those alive; copying the one with the fuse throws.
struct counted {
  static inline int alive = 0;
  int value = 0;
  bool fuse = false;
  counted() { ++alive; }
  counted(const counted& other) : value(other.value) {
    if (other.fuse) throw std::runtime_error("copied");
    ++alive;
  }
  counted& operator=(const counted&) = default;
  ~counted() { --alive; }
};

}  // namespace

TEST_CASE("a child begins with a copy of its parent's value, however it is started; each then changes its own") {
  simulate([] {
    weft::local<std::string> name(weft::inherit);
    weft::local<std::string> own;
    *name = "parent";
    *own = "parent";
    int seen = 0;
    const auto child = [&] {
      CHECK(name.has_value());
      CHECK(*name == "parent");
      CHECK_FALSE(own.has_value());
      *name = "child";
      weft::this_thread::yield();
      CHECK(*name == "child");
      ++seen;
    };
    weft::thread(child).join();
    weft::thread({.start = weft::start::now}, child).join();
    weft::jthread(child).join();
    weft::with_nursery([&](weft::nursery& home) { home.spawn(child); });
    weft::nursery home;
    auto started = home.start([&] {
      child();
      return 1;
    });
    CHECK(started.get() == 1);
    home.join();
    weft::async(child).get();
    weft::thread([&] { weft::thread([&] { CHECK(*name == "parent"); }).join(); }).join();
    CHECK(seen == 6);
    CHECK(*name == "parent");
  });
}

TEST_CASE("what is inherited is what the parent has when it starts the child, and nothing where it has nothing") {
  simulate([] {
    weft::local<int> number(weft::inherit, [] { return 7; });
    weft::thread without([&] {
      CHECK_FALSE(number.has_value());
      CHECK(*number == 7);
    });
    *number = 1;
    weft::thread with([&] { CHECK(*number == 1); });
    *number = 2;
    with.join();
    without.join();
  });
}

TEST_CASE("a child's value may be derived from its parent's, by the parent") {
  simulate([] {
    weft::thread::id by;
    weft::local<std::string> path(
        weft::inherit, [] { return std::string("main"); },
        [&](const std::string& parents) {
          by = weft::this_thread::get_id();
          return parents + "/child";
        });
    weft::local<std::unique_ptr<int>> depth(
        weft::inherit, [] { return std::make_unique<int>(0); },
        [](const std::unique_ptr<int>& parents) { return std::make_unique<int>(*parents + 1); });
    CHECK(*path == "main");
    CHECK(**depth == 0);
    weft::thread([&] {
      weft::thread([&] {
        CHECK(*path == "main/child/child");
        CHECK(**depth == 2);
      }).join();
      CHECK(by == weft::this_thread::get_id());
    }).join();
  });
}

TEST_CASE("a post and the first thread inherit nothing") {
  weft::local<int> number(weft::inherit, [] { return 5; });
  weft::run([&] {
    CHECK_FALSE(number.has_value());
    *number = 1;
    weft::promise<int> seen;
    weft::make_poster().post([&] { seen.set_value(*number); });
    CHECK(seen.get_future().get() == 5);
  });
}

TEST_CASE("inherited values are destroyed as if the child had made them in the order in which its parent did") {
  struct says {
    std::string* story;
    char letter;
    ~says() { *story += letter; }
  };
  std::string story;  // main's own values write there, too
  simulate([&] {
    const auto beginning = [&](char letter) { return [&story, letter] { return says{&story, letter}; }; };
    weft::local<says> a(weft::inherit, beginning('a'));
    weft::local<says> b(weft::inherit, beginning('b'));
    weft::local<says> c(weft::inherit, beginning('c'));
    static_cast<void>(c.get());
    static_cast<void>(b.get());
    weft::thread([&] { static_cast<void>(a.get()); }).join();
    CHECK(story == "abc");
  });
  CHECK(story == "abcbc");
}

TEST_CASE("what copying throws leaves the call that starts the thread, which does not start, and nothing is left") {
  simulate([] {
    CHECK(counted::alive == 0);
    weft::local<counted> first(weft::inherit);
    weft::local<counted> second(weft::inherit);
    first->value = 1;
    second->fuse = true;
    const auto captured = std::make_shared<int>(0);
    bool ran = false;
    CHECK_THROWS_AS(weft::thread([captured, &ran] { ran = true; }), std::runtime_error);
    weft::nursery home;
    CHECK_THROWS_AS(home.spawn([captured, &ran] { ran = true; }), std::runtime_error);
    CHECK(home.size() == 0);
    home.join();
    CHECK_THROWS_AS(static_cast<void>(weft::async([captured, &ran] { ran = true; })), std::runtime_error);
    CHECK(captured.use_count() == 1);
    CHECK(counted::alive == 2);
    CHECK_FALSE(ran);
    second->fuse = false;
    weft::thread([&] { CHECK(counted::alive == 4); }).join();
    CHECK(counted::alive == 2);
  });
  CHECK(counted::alive == 0);
}

TEST_CASE("where the scheduler refuses a thread, what it would have inherited is destroyed") {
  weft::options how;
  how.max_threads = 1;
  weft::run(how, [] {
    weft::local<counted> value(weft::inherit);
    value->value = 1;
    const auto captured = std::make_shared<int>(0);
    CHECK(code_of([&] { weft::thread([captured] {}); }) == std::errc::resource_unavailable_try_again);
    CHECK(captured.use_count() == 1);
    CHECK(counted::alive == 1);
  });
}

TEST_CASE("deriving a value may wait, start threads, and be cancelled: then the thread is not started") {
  simulate([] {
    bool ran = false;
    weft::local<int> slow(
        weft::inherit, [] { return 1; },
        [](const int& parents) {
          if (parents == 0) weft::this_thread::sleep_for(1h);
          if (parents == 1) weft::thread([] { weft::this_thread::yield(); }).join();
          return parents + 1;
        });
    slow.set(2);
    weft::thread([&] { CHECK(*slow == 3); }).join();
    slow.set(0);
    CHECK(code_of([&] {
            weft::thread t([&] {
              slow.set(0);
              weft::thread([&] { ran = true; }).join();
            });
            t.request_cancel();
            t.join();
          }) == std::error_code());
    CHECK_FALSE(ran);
  });
}

TEST_CASE("threads started in a region inherit, too") {
  weft::run([] {
    weft::local<int> number(weft::inherit);
    *number = 4;
    weft::blocking([&] { weft::thread([&] { CHECK(*number == 4); }).join(); });
  });
}

TEST_CASE("of a local that is gone nothing is inherited") {
  simulate([] {
    auto first = std::make_unique<weft::local<counted>>(weft::inherit);
    (*first)->value = 1;
    first.reset();
    weft::local<counted> second(weft::inherit);
    weft::thread([&] {
      CHECK(counted::alive == 1);
      CHECK_FALSE(second.has_value());
    }).join();
  });
}

TEST_CASE("a bound value stands for the thread's until its scope ends, by an exception too, and children inherit it") {
  simulate([] {
    weft::local<std::string> request(weft::inherit, [] { return std::string("none"); });
    {
      const weft::bound first(request, "first");
      CHECK(*request == "first");
      try {
        const weft::bound second(request, std::string("second"));
        weft::thread([&] {
          CHECK(*request == "second");
          *request = "child's";
        }).join();
        CHECK(*request == "second");
        request.set("changed");
        throw std::runtime_error("out");
      } catch (const std::runtime_error&) {
        CHECK(*request == "first");
      }
    }
    CHECK_FALSE(request.has_value());
    *request = "own";
    {
      const weft::bound again(request, "again");
      weft::this_thread::yield();
      CHECK(*request == "again");
    }
    CHECK(*request == "own");
  });
}

TEST_CASE("a cancelled thread leaves its bound values") {
  simulate([] {
    weft::local<int> number;
    int after = 0;
    weft::thread t({.start = weft::start::now}, [&] {
      *number = 1;
      try {
        const weft::bound here(number, 2);
        weft::this_thread::sleep_for(1h);
      } catch (const weft::cancelled&) {
        after = *number;
        throw;
      }
    });
    t.request_cancel();
    t.join();
    CHECK(after == 1);
  });
}

TEST_CASE("a bound value that ends out of turn ends the program with a sentence") {
  const child_end end = in_child([] {
    weft::run([] {
      weft::local<int> number;
      auto first = std::make_unique<weft::bound<int>>(number, 1);
      const weft::bound second(number, 2);
      first.reset();
    });
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("make it an object of a block"));
}
