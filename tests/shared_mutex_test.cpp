// What is special about shared_mutex and shared_timed_mutex: readers. In which order they come: shared_mutex_order_test.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/mutex.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

static_assert(as_standard<weft::shared_mutex, std::shared_mutex>);
static_assert(as_standard<weft::shared_timed_mutex, std::shared_timed_mutex>);
static_assert(!std::is_convertible_v<weft::shared_timed_mutex&, weft::shared_mutex&>);
constinit weft::shared_timed_mutex usable_before_main;

#define SHARED_LOCKS weft::shared_mutex, weft::shared_timed_mutex

TEST_CASE_TEMPLATE("readers hold the lock together, a writer alone", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    m.lock_shared();
    CHECK(shares(m));
    CHECK_FALSE(free_for_others(m));
    m.unlock_shared();
    m.lock();
    CHECK_FALSE(shares(m));
    CHECK_FALSE(free_for_others(m));
    m.unlock();
    CHECK(m.try_lock_shared());
    m.unlock_shared();
    CHECK(free_for_others(m));
  });
}

TEST_CASE("timed readers wait for the writer at most their time, on any clock, and share with those who came first") {
  simulate([] {
    weft::shared_timed_mutex m;
    m.lock();
    wall_clock::put(0);
    weft::thread hasty([&] {
      CHECK_FALSE(m.try_lock_shared_for(5ms));
      CHECK_FALSE(m.try_lock_shared_for(0s));
      CHECK_FALSE(m.try_lock_shared_for(-1h));
      CHECK_FALSE(m.try_lock_shared_until(weft::time_point::min()));
      CHECK_FALSE(m.try_lock_shared_until(wall_clock::time_point(-1s)));
      CHECK_FALSE(m.try_lock_shared_until(weft::detail::now() + 1ms));
    });
    hasty.join();
    weft::thread patient([&] {
      const std::shared_lock hold(m, std::chrono::hours::max());
      CHECK(hold.owns_lock());
      CHECK(shares(m));
    });
    weft::thread set_back([&] {
      CHECK(m.try_lock_shared_until(wall_clock::time_point(10s)));
      m.unlock_shared();
    });
    weft::this_thread::yield();
    wall_clock::put(-100);
    weft::this_thread::sleep_for(30s);
    m.unlock();
    patient.join();
    set_back.join();
    CHECK(cancelled_in([&] {
      const std::lock_guard hold(m);
      weft::this_thread::sleep_for(1h);
    }));
    m.lock();
    CHECK(cancelled_in([&] { static_cast<void>(m.try_lock_shared_for(1h)); }));
    CHECK(cancelled_in([&] { m.lock_shared(); }));
    m.unlock();
    CHECK(free_for_others(m));
  });
}

TEST_CASE("a lock that became free after a reader's time came, before the reader ran, is shared") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  weft::run(how, [&source] {
    weft::shared_timed_mutex m;
    weft::thread owner([&] {
      m.lock();
      weft::this_thread::sleep_for(4ms);
      m.unlock();
    });
    weft::thread reader([&] {
      CHECK(m.try_lock_shared_for(5ms));
      m.unlock_shared();
    });
    yield_times(2);
    source.advance(10ms);  // both times have come: the next look makes both ready, the owner first
    reader.join();
    owner.join();
  });
}

TEST_CASE_TEMPLATE("misuse is an error with the standard's code", Lock, SHARED_LOCKS) {
  simulate([] {
    Lock m;
    CHECK(code_of([&] { m.unlock_shared(); }) == std::errc::operation_not_permitted);
    m.lock();
    CHECK(code_of([&] { m.lock_shared(); }) == std::errc::resource_deadlock_would_occur);
    CHECK(code_of([&] { m.unlock_shared(); }) == std::errc::operation_not_permitted);
    CHECK_FALSE(m.try_lock_shared());
    m.unlock();
    m.lock_shared();
    CHECK(code_of([&] { m.lock(); }) == std::errc::resource_deadlock_would_occur);
    CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
    weft::thread([&] { CHECK(code_of([&] { m.unlock_shared(); }) == std::errc::operation_not_permitted); }).join();
    weft::thread writer([&] { const std::lock_guard hold(m); });
    weft::this_thread::yield();
    CHECK(code_of([&] { m.lock_shared(); }) == std::errc::resource_deadlock_would_occur);  // behind the writer
    m.unlock_shared();
    writer.join();
    CHECK(free_for_others(m));
  });
  Lock m;
  CHECK(code_of([&] { m.lock_shared(); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { static_cast<void>(m.try_lock_shared()); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { m.unlock_shared(); }) == std::errc::operation_not_permitted);
}

TEST_CASE_TEMPLATE("regions share with threads, and wait for them", Lock, SHARED_LOCKS) {
  weft::run([] {
    Lock m;
    m.lock_shared();
    weft::blocking([&] {
      CHECK(m.try_lock_shared());
      m.unlock_shared();
      m.lock_shared();
      m.unlock_shared();
    });
    const auto lock_and_unlock = [&] { const std::lock_guard hold(m); };
    CHECK(comes_in_a_region(lock_and_unlock, [&] { m.unlock_shared(); }));
  });
}

TEST_CASE_TEMPLATE("std::lock takes two for readers and for writers in any order, with others in between", Lock, SHARED_LOCKS) {
  for (const std::uint64_t seed : seeds(20)) {
    CAPTURE(seed);
    simulate(seed, [] {
      Lock a;
      Lock b;
      int alone = 0;
      int sharing = 0;
      int rounds = 0;
      const auto as_writer = [&](Lock& first, Lock& second) {
        const std::scoped_lock both(first, second);
        CHECK(++alone == 1);
        CHECK(sharing == 0);
        weft::this_thread::yield();
        --alone;
      };
      const auto as_reader = [&](Lock& first, Lock& second) {
        std::shared_lock one(first, std::defer_lock);
        std::shared_lock two(second, std::defer_lock);
        std::lock(one, two);
        ++sharing;
        CHECK(alone == 0);
        weft::this_thread::yield();
        --sharing;
      };
      std::vector<weft::thread> threads;
      for (int i = 0; i < 12; ++i) {
        threads.emplace_back([&, i] {
          for (int k = 0; k < 20; ++k) {
            Lock& first = i % 2 == 0 ? a : b;
            Lock& second = i % 2 == 0 ? b : a;
            i % 3 == 0 ? as_writer(first, second) : as_reader(first, second);
            ++rounds;
          }
        });
      }
      weft::thread waits_for_one([&] {
        for (int i = 0; i < 20; ++i) {
          const std::lock_guard hold(i % 2 == 0 ? a : b);
          weft::this_thread::yield();
        }
      });
      for (auto& t : threads) t.join();
      waits_for_one.join();
      CHECK(rounds == 240);
    });
  }
}

TEST_CASE_TEMPLATE("a lock that is destroyed while readers hold it ends the program with a sentence", Lock, SHARED_LOCKS) {
  const child_end end = destroyed_after<Lock>([](Lock& m) { m.lock_shared(); });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a shared_mutex was destroyed while a thread holds it"));
}

TEST_CASE_TEMPLATE("a lock that another scheduler's thread waits for ends the program with a sentence", Lock, SHARED_LOCKS) {
  const child_end one_reader = used_by_two_schedulers<Lock>([](Lock& m) { m.lock_shared(); }, [](Lock& m) { m.lock(); });
  INFO(one_reader.errors);
  CHECK(one_reader.said("weft: a shared_mutex was used by threads of two schedulers"));
  const auto writer_waits = [](Lock& m) {
    m.lock_shared();
    weft::thread([&] {
      m.lock_shared();
      weft::this_thread::sleep_for(1h);
    }).detach();
    weft::thread([&] { m.lock(); }).detach();
    yield_times(2);
  };
  const child_end who_waits = used_by_two_schedulers<Lock>(writer_waits, [](Lock& m) { m.lock_shared(); });
  INFO(who_waits.errors);
  CHECK(who_waits.killed_by(SIGABRT));
  CHECK(who_waits.said("weft: a shared_mutex was used by threads of two schedulers"));
}

TEST_CASE("a deadlock of readers and writers is reported with who holds what") {
  std::string report;
  try {
    weft::run([] {
      weft::shared_mutex a;
      weft::shared_mutex b;
      weft::jthread reader({.name = "reader"}, [&] {
        const std::shared_lock one(a);
        weft::this_thread::yield();
        const std::lock_guard two(b);
      });
      weft::jthread writer({.name = "writer"}, [&] {
        const std::lock_guard one(b);
        weft::this_thread::yield();
        const std::lock_guard two(a);
      });
    });
  } catch (const weft::deadlock& deadlock) {
    report = deadlock.what();
  }
  INFO(report);
  CHECK(report.find("These wait for one another in a circle:\n") != std::string::npos);
  CHECK(report.find("\"reader\" waits in shared_mutex 0x") != std::string::npos);
  CHECK(report.find(" held by thread 3 \"writer\"\n") != std::string::npos);
  CHECK(report.find(" held by thread 2 \"reader\"\n") != std::string::npos);
}
