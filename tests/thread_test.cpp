// Threads as std::thread has them, and what is weft's own: attributes, timed join, cancellation, per-thread state.
#include <doctest/doctest.h>

#include <cerrno>
#include <cfenv>
#include <chrono>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <type_traits>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"
#include "weft/channel.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

// A clock that everybody may set, and that advances whenever it is read.
struct settable {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<settable>;
  [[maybe_unused]] static constexpr bool is_steady = false;
  static time_point& hand() {
    static time_point t{};
    return t;
  }
  static time_point now() {
    hand() += 1ms;
    return hand();
  }
};

}  // namespace

TEST_CASE("a thread gets decayed copies of its arguments, references by std::ref, and moves what only moves") {
  simulate([] {
    int target = 0;
    auto owned = std::make_unique<int>(5);
    weft::thread t([](int& to, std::unique_ptr<int> from, const char* text) { to = *from + text[0]; }, std::ref(target),
                   std::move(owned), "a");
    t.join();
    CHECK(target == 5 + 'a');
  });
}

TEST_CASE("a thread calls member functions as std::invoke does") {
  struct counter {
    int n = 0;
    void add(int by) { n += by; }
  };
  simulate([] {
    counter c;
    weft::thread t(&counter::add, &c, 3);
    t.join();
    CHECK(c.n == 3);
  });
}

TEST_CASE("joining what cannot be joined is an error with the standard's code") {
  simulate([] {
    weft::thread none;
    CHECK(code_of([&] { none.join(); }) == std::errc::invalid_argument);
    CHECK(code_of([&] { none.detach(); }) == std::errc::invalid_argument);
    weft::thread self;
    std::error_code seen;
    self = weft::thread([&] { seen = code_of([&] { self.join(); }); });
    weft::this_thread::yield();
    CHECK(seen == std::errc::resource_deadlock_would_occur);
    self.join();
    CHECK_FALSE(self.joinable());
  });
}

TEST_CASE("a join whose handle was joined, moved or detached by another thread meanwhile is an error, not a crash") {
  simulate([] {
    weft::thread t([] { weft::this_thread::sleep_for(5ms); });
    int joined = 0;
    int refused = 0;
    const auto join = [&] {
      if (code_of([&] { t.join(); }) == std::errc::invalid_argument) {
        ++refused;
      } else {
        ++joined;
      }
    };
    weft::thread a(join);
    weft::thread b(join);
    a.join();
    b.join();
    CHECK(joined == 1);
    CHECK(refused == 1);
  });
}

TEST_CASE("a thread that is asked to end while it joins another one takes that one along") {
  bool ended = false;
  simulate([&] {
    weft::thread([&] {
      weft::thread t([&] {
        try {
          weft::this_thread::sleep_for(10h);
        } catch (const weft::cancelled&) {
          ended = true;
          throw;
        }
      });
      t.join();
    }).detach();
    weft::this_thread::sleep_for(1ms);
  });
  CHECK(ended);
}

TEST_CASE("a thread that is asked to end and has its own handle does not wait for itself") {
  bool ended = false;
  simulate([&] {
    weft::thread self;
    self = weft::thread([&] {
      const weft::thread mine = std::move(self);
      try {
        weft::this_thread::sleep_for(10h);
      } catch (const weft::cancelled&) {
        ended = true;
        throw;
      }
    });
    weft::this_thread::sleep_for(1ms);
  });
  CHECK(ended);
}

TEST_CASE("a join whose handle was joined and used again meanwhile is an error, and the new thread is still joinable") {
  simulate([] {
    weft::thread t([] { weft::this_thread::sleep_for(5ms); });
    std::error_code seen;
    weft::thread first([&] {
      t.join();
      t = weft::thread([] { weft::this_thread::sleep_for(5ms); });
    });
    weft::thread second([&] { seen = code_of([&] { t.join(); }); });
    first.join();
    second.join();
    CHECK(seen == std::errc::invalid_argument);
    CHECK(t.joinable());
    t.join();
  });
}

TEST_CASE("a time-out as long as can be said is a deadline, not a deadlock") {
  simulate([] {
    weft::thread sleeper([] { weft::this_thread::sleep_for(std::chrono::hours::max()); });
    weft::this_thread::sleep_for(1ms);
    sleeper.request_cancel();
    sleeper.join();
  });
}

TEST_CASE("a timed join that comes too early leaves the thread joinable") {
  simulate([] {
    weft::thread t([] { weft::this_thread::sleep_for(10ms); });
    CHECK_FALSE(t.try_join_for(1ms));
    CHECK(t.joinable());
    CHECK(t.try_join_for(1h));
    CHECK_FALSE(t.joinable());
  });
}

TEST_CASE("ids are small, ordered, hashable and printable; no thread is 0") {
  simulate([] {
    const weft::thread::id mine = weft::this_thread::get_id();
    weft::thread t([] {});
    CHECK(mine != t.get_id());
    CHECK(mine < t.get_id());
    CHECK(std::hash<weft::thread::id>{}(mine) == std::hash<weft::thread::id>{}(weft::this_thread::get_id()));
    std::ostringstream text;
    text << t.get_id();
    CHECK(text.str() == std::to_string(t.get_id().number()));
    t.join();
    CHECK(t.get_id() == weft::thread::id{});
  });
  CHECK(weft::this_thread::get_id() == weft::thread::id{});
}

TEST_CASE("names are kept up to 31 bytes") {
  simulate([] {
    CHECK(weft::this_thread::name() == "main");
    std::string seen;
    weft::thread t({.name = "a-name-of-more-than-thirty-one-bytes"}, [&] { seen = weft::this_thread::name(); });
    t.join();
    CHECK(seen == "a-name-of-more-than-thirty-one-");
  });
}

TEST_CASE("start::later runs the spawner first, start::now the child") {
  simulate([] {
    std::string order;
    weft::thread later([&] { order += 'l'; });
    order += 'm';
    weft::thread now({.start = weft::start::now}, [&] { order += 'n'; });
    order += 'M';
    later.join();
    now.join();
    CHECK(order == "mnMl");
  });
}

TEST_CASE("stacks are as large as asked for") {
  simulate([] {
    bool deep = false;
    weft::thread t({.stack = 8 * 1024 * 1024}, [&] {
      volatile char big[4 * 1024 * 1024];
      big[0] = 1;
      big[sizeof big - 1] = 1;
      deep = big[0] == big[sizeof big - 1];
    });
    t.join();
    CHECK(deep);
  });
}

TEST_CASE("too many threads is an error for the spawner, and the scheduler goes on") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  how.max_threads = 3;
  weft::run(how, [] {
    weft::thread a([] {});
    weft::thread b([] {});
    CHECK(code_of([] { weft::thread c([] {}); }) == std::errc::resource_unavailable_try_again);
    a.join();
    weft::thread c([] {});
    b.join();
    c.join();
  });
}

TEST_CASE("a copy that throws makes no thread, and a throwing move loses none") {
  struct grenade {
    int fuse;
    explicit grenade(int f) : fuse(f) {}
    grenade(const grenade& other) : fuse(other.fuse) {
      if (fuse == 0) throw std::runtime_error("copied");
    }
    grenade(grenade&& other) : fuse(other.fuse) {}  // NOLINT: may throw as far as the library knows
    void operator()() const {}
  };
  simulate([] {
    const grenade live(0);
    CHECK_THROWS_AS(weft::thread{live}, std::runtime_error);
    const grenade dud(1);
    weft::thread t{dud};
    t.join();
  });
}

TEST_CASE("a jthread asks its function to stop and joins, also in an assignment") {
  simulate([] {
    int stopped = 0;
    {
      weft::jthread t([&](std::stop_token stop) {
        while (!stop.stop_requested()) weft::this_thread::sleep_for(1ms);
        ++stopped;
      });
      t = weft::jthread([&](std::stop_token stop, int by) {
        while (!stop.stop_requested()) weft::this_thread::yield();
        stopped += by;
      }, 10);
      CHECK(stopped == 1);
    }
    CHECK(stopped == 11);
  });
}

static_assert(!std::is_constructible_v<weft::jthread, int>);
static_assert(!std::is_constructible_v<weft::jthread, void (*)(int)>);
static_assert(std::is_constructible_v<weft::jthread, void (*)(std::stop_token, int), int>);

TEST_CASE("a timed join of a jthread that comes too early leaves it joinable") {
  simulate([] {
    weft::jthread t([] { weft::this_thread::sleep_for(10ms); });
    CHECK_FALSE(t.try_join_for(1ms));
    CHECK(t.try_join_for(1h));
    CHECK_FALSE(t.joinable());
  });
}

TEST_CASE("cancellation reaches a thread that waits for anything") {
  simulate([] {
    int cancelled = 0;
    weft::channel<int> channel;
    weft::channel<int> unheard;
    weft::channel<int> full(1);
    full.send(0);
    weft::binary_semaphore semaphore(0);
    weft::thread endless([] { weft::this_thread::sleep_for(100h); });
    std::vector<weft::thread> threads;
    const auto spawn = [&](std::function<void()> wait) {
      threads.emplace_back([&cancelled, wait = std::move(wait)] {
        try {
          wait();
        } catch (const weft::cancelled&) {
          ++cancelled;
          throw;
        }
      });
    };
    spawn([&] { channel.receive(); });
    spawn([&] { unheard.send(1); });
    spawn([&] { full.send(1); });
    spawn([&] { semaphore.acquire(); });
    spawn([&] { endless.join(); });
    spawn([&] { weft::this_thread::sleep_for(50h); });
    for (int i = 0; i < 3; ++i) weft::this_thread::yield();
    for (auto& t : threads) t.request_cancel();
    for (auto& t : threads) t.join();
    CHECK(cancelled == 6);
    endless.request_cancel();
    endless.join();
  });
}

TEST_CASE("errno belongs to the thread") {
  simulate([] {
    errno = 1;
    weft::thread t([] {
      CHECK(errno == 0);
      errno = 2;
      weft::this_thread::yield();
      CHECK(errno == 2);
    });
    weft::this_thread::yield();
    CHECK(errno == 1);
    t.join();
    CHECK(errno == 1);
  });
}

TEST_CASE("an exception thrown in one thread while another is parked inside a catch reaches the right handler") {
  simulate([] {
    std::vector<std::string> caught;
    const auto body = [&](const char* name) {
      try {
        throw std::runtime_error(name);
      } catch (const std::runtime_error& outer) {
        weft::this_thread::yield();
        try {
          throw std::logic_error(std::string(name) + "-inner");
        } catch (const std::logic_error& inner) {
          weft::this_thread::yield();
          CHECK(std::string(inner.what()) == std::string(name) + "-inner");
        }
        weft::this_thread::yield();
        try {
          throw;  // the one this thread is handling
        } catch (const std::runtime_error& again) {
          caught.emplace_back(again.what());
          CHECK(again.what() == std::string(outer.what()));
        }
      }
      CHECK(std::uncaught_exceptions() == 0);
    };
    weft::thread a(body, "a");
    weft::thread b(body, "b");
    weft::thread c(body, "c");
    a.join();
    b.join();
    c.join();
    CHECK(caught == std::vector<std::string>{"a", "b", "c"});
  });
}

TEST_CASE("unwinding runs through a park, and other threads see no exception in flight meanwhile") {
  simulate([] {
    struct parks {
      ~parks() {
        CHECK(std::uncaught_exceptions() == 1);
        weft::this_thread::yield();
        CHECK(std::uncaught_exceptions() == 1);
      }
    };
    bool caught = false;
    weft::thread other([] {
      for (int i = 0; i < 4; ++i) {
        CHECK(std::uncaught_exceptions() == 0);
        weft::this_thread::yield();
      }
    });
    try {
      const parks p;
      throw std::runtime_error("through");
    } catch (const std::runtime_error&) {
      caught = true;
    }
    CHECK(caught);
    other.join();
  });
}

TEST_CASE("threads that ask for it keep their own rounding mode") {
  simulate([] {
    const int before = std::fegetround();
    weft::thread up({.floating_point_control = true}, [] {
      std::fesetround(FE_UPWARD);
      weft::this_thread::yield();
      CHECK(std::fegetround() == FE_UPWARD);
    });
    weft::thread plain([before] {
      CHECK(std::fegetround() == before);
      weft::this_thread::yield();
      CHECK(std::fegetround() == before);
    });
    weft::this_thread::yield();
    CHECK(std::fegetround() == before);
    up.join();
    plain.join();
    CHECK(std::fegetround() == before);
  });
}

TEST_CASE("sleeping on a clock that is set back waits until that clock says so") {
  simulate([] {
    const settable::time_point due = settable::now() + 10ms;
    weft::thread meddler([] { settable::hand() -= 5ms; });
    weft::this_thread::sleep_until(due);
    CHECK(settable::hand() >= due);
    meddler.join();
  });
}

TEST_CASE("a hundred thousand threads one after the other need one stack") {
  simulate([] {
    std::uintptr_t lowest = ~std::uintptr_t{0};
    std::uintptr_t highest = 0;
    for (int i = 0; i < 100'000; ++i) {
      weft::thread t([&] {
        char here = 0;
        const auto address = reinterpret_cast<std::uintptr_t>(&here);
        lowest = std::min(lowest, address);
        highest = std::max(highest, address);
      });
      t.join();
    }
    CHECK(highest - lowest < 8 * 256 * 1024);
  });
}
