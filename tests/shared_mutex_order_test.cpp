// In which order shared_mutex and shared_timed_mutex let readers and writers in.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

#define SHARED_LOCKS weft::shared_mutex, weft::shared_timed_mutex

namespace {

// Threads that lock in the order of `kinds` (r: shared, w: alone), yield inside, and tell when they came in and went.
template <class Lock> std::vector<weft::thread> queue_up(Lock& m, const std::string& kinds, std::string& story) {
  std::vector<weft::thread> threads;
  for (const char kind : kinds) {
    threads.emplace_back([&m, &story, kind] {
      const auto inside = [&] {
        story += kind;
        weft::this_thread::yield();
        story += '.';
      };
      if (kind == 'r') {
        const std::shared_lock hold(m);
        inside();
      } else {
        const std::unique_lock hold(m);
        inside();
      }
    });
  }
  return threads;
}

void join_all(std::vector<weft::thread>& threads) {
  for (weft::thread& t : threads) t.join();
}

}  // namespace

TEST_CASE_TEMPLATE("first come, first served: readers side by side get in together, between writers", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    std::string story;
    m.lock();
    auto threads = queue_up(m, "rrwrrrwwr", story);
    yield_times(2);
    CHECK(story.empty());
    m.unlock();
    join_all(threads);
    CHECK(story == "rr..w.rrr...w.w.r.");
  });
}

TEST_CASE_TEMPLATE("a reader that comes while a writer waits goes behind it, by lock and by try_lock", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    std::string story;
    m.lock_shared();
    auto first = queue_up(m, "w", story);
    yield_times(2);
    CHECK_FALSE(shares(m));
    auto later = queue_up(m, "rr", story);
    yield_times(3);
    CHECK(story.empty());
    m.unlock_shared();
    join_all(first);
    join_all(later);
    CHECK(story == "w.rr..");
  });
}

TEST_CASE_TEMPLATE("readers that overlap for ever do not keep a writer out", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    bool written = false;
    int rounds = 0;
    std::vector<weft::thread> readers;
    for (int i = 0; i < 4; ++i) {
      readers.emplace_back([&, i] {
        yield_times(i);
        while (!written) {
          const std::shared_lock hold(m);
          yield_times(3);
          REQUIRE(++rounds < 1000);
        }
      });
    }
    weft::thread tries([&] {
      while (!written) {
        const std::shared_lock hold(m, std::try_to_lock);
        yield_times(2);
      }
    });
    yield_times(20);
    weft::thread writer([&] {
      const std::lock_guard hold(m);
      written = true;
    });
    join_all(readers);
    tries.join();
    writer.join();
    CHECK(written);
  });
}

TEST_CASE_TEMPLATE("writers that follow one another do not keep a reader out", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    bool read = false;
    int rounds = 0;
    std::vector<weft::thread> writers;
    for (int i = 0; i < 4; ++i) {
      writers.emplace_back([&] {
        while (!read) {
          const std::lock_guard hold(m);
          weft::this_thread::yield();
          REQUIRE(++rounds < 1000);
        }
      });
    }
    yield_times(10);
    weft::thread reader([&] {
      const std::shared_lock hold(m);
      read = true;
    });
    join_all(writers);
    reader.join();
    CHECK(read);
  });
}

TEST_CASE_TEMPLATE("a cancelled writer at the head of the queue lets the readers behind it in", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    std::string story;
    m.lock_shared();
    weft::thread writer([&] { const std::lock_guard hold(m); });
    yield_times(2);
    auto readers = queue_up(m, "rr", story);
    yield_times(2);
    CHECK(story.empty());
    writer.request_cancel();
    writer.join();
    join_all(readers);
    CHECK(story == "rr..");
    m.unlock_shared();
    CHECK(free_for_others(m));
  });
}

TEST_CASE("a writer whose time comes at the head of the queue lets the readers behind it in") {
  simulate([] {
    weft::shared_timed_mutex m;
    std::string story;
    m.lock_shared();
    weft::thread writer([&] { CHECK_FALSE(m.try_lock_for(5ms)); });
    yield_times(2);
    auto readers = queue_up(m, "rr", story);
    weft::this_thread::sleep_for(1ms);
    CHECK(story.empty());
    weft::this_thread::sleep_for(10ms);
    CHECK(story == "rr..");
    writer.join();
    join_all(readers);
    m.unlock_shared();
    CHECK(free_for_others(m));
  });
}

TEST_CASE("a writer is woken once, by the last reader") {
  simulation sim;
  weft::shared_mutex m;
  for (const char* const name : {"a", "b", "c"}) {
    sim.spawn(name, [&m, name] {
      const std::shared_lock hold(m);
      yield_times(*name - 'a' + 1);
    });
  }
  sim.spawn("writer", [&m] { const std::lock_guard hold(m); });
  sim.run();
  const std::string story = sim.trace();
  INFO(story);
  const std::size_t first = story.find("run writer | park writer");
  REQUIRE(first != std::string::npos);
  CHECK(story.find("run writer | exit writer") != std::string::npos);
  CHECK(story.find("park writer", first + 24) == std::string::npos);
}

TEST_CASE_TEMPLATE("a try may come before those who were chosen, who are next all the same", Lock, SHARED_LOCKS) {
  simulate([] {
    for (const bool writer_tries : {true, false}) {
      Lock m;
      std::string story;
      m.lock();
      auto threads = queue_up(m, writer_tries ? "rrw" : "wr", story);
      yield_times(2);
      m.unlock();
      if (writer_tries) {
        REQUIRE(m.try_lock());
      } else {
        REQUIRE(m.try_lock_shared());
        CHECK_FALSE(shares(m));  // one came before the writer that was chosen: no more
      }
      CHECK_FALSE(free_for_others(m));
      yield_times(5);
      CHECK(story.empty());
      writer_tries ? m.unlock() : m.unlock_shared();
      join_all(threads);
      CHECK(story == (writer_tries ? "rr..w." : "w.r."));
      CHECK(free_for_others(m));
    }
  });
}

TEST_CASE_TEMPLATE("a writer that was chosen in vain and is cancelled lets the readers behind it in", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    std::string story;
    m.lock();
    weft::thread writer([&] { const std::lock_guard hold(m); });
    yield_times(2);
    auto readers = queue_up(m, "rr", story);
    yield_times(2);
    m.unlock();
    REQUIRE(m.try_lock_shared());
    writer.request_cancel();
    writer.join();
    join_all(readers);
    CHECK(story == "rr..");
    m.unlock_shared();
  });
}
