// What all locks have in common, from mutex to shared_timed_mutex: misuse, calls from elsewhere, several locks at once.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/mutex.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

#define LOCKS \
  weft::mutex, weft::timed_mutex, weft::recursive_mutex, weft::recursive_timed_mutex, weft::shared_mutex, weft::shared_timed_mutex

namespace {

template <class Lock>
constexpr bool is_timed = requires(Lock& m) { m.try_lock_for(1ms); };

}  // namespace

TEST_CASE_TEMPLATE("unlocking what one does not hold is an error with the standard's code", Lock, LOCKS) {
  simulate([] {
    Lock m;
    CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
    m.lock();
    weft::thread([&] { CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted); }).join();
    CHECK_FALSE(free_for_others(m));
    m.unlock();
    CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
  });
}

TEST_CASE_TEMPLATE("a lock that is not recursive, locked again by its owner, is a deadlock that is reported", Lock,
                   weft::mutex, weft::timed_mutex, weft::shared_mutex, weft::shared_timed_mutex) {
  simulate([] {
    Lock m;
    m.lock();
    CHECK(code_of([&] { m.lock(); }) == std::errc::resource_deadlock_would_occur);
    CHECK_FALSE(m.try_lock());
    if constexpr (is_timed<Lock>) {
      CHECK(code_of([&] { static_cast<void>(m.try_lock_for(1h)); }) == std::errc::resource_deadlock_would_occur);
      CHECK(code_of([&] { static_cast<void>(m.try_lock_until(weft::never)); }) == std::errc::resource_deadlock_would_occur);
      CHECK_FALSE(m.try_lock_for(0s));
    }
    m.unlock();
  });
}

TEST_CASE_TEMPLATE("off a weft thread every call is an error with a sentence", Lock, LOCKS) {
  Lock m;
  CHECK(code_of([&] { m.lock(); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { static_cast<void>(m.try_lock()); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
  if constexpr (is_timed<Lock>) {
    CHECK(code_of([&] { static_cast<void>(m.try_lock_for(1ms)); }) == std::errc::operation_not_permitted);
    CHECK(code_of([&] { static_cast<void>(m.try_lock_for(0ms)); }) == std::errc::operation_not_permitted);
    CHECK(code_of([&] { static_cast<void>(m.try_lock_until(weft::never)); }) == std::errc::operation_not_permitted);
    CHECK(code_of([&] { static_cast<void>(m.try_lock_until(weft::time_point::min())); }) == std::errc::operation_not_permitted);
  }
}

TEST_CASE_TEMPLATE("in a region every call works, also one that has to wait", Lock, LOCKS) {
  weft::run([] {
    Lock m;
    weft::blocking([&] {
      m.lock();
      m.unlock();
      CHECK(m.try_lock());
      m.unlock();
      if constexpr (is_timed<Lock>) {
        CHECK(m.try_lock_for(1h));
        m.unlock();
        CHECK(m.try_lock_until(std::chrono::system_clock::now() + 1h));
        m.unlock();
      }
      CHECK(code_of([&] { m.unlock(); }) == std::errc::operation_not_permitted);
    });
    m.lock();
    const auto lock_and_unlock = [&] { const std::lock_guard hold(m); };
    CHECK(comes_in_a_region(lock_and_unlock, [&] { m.unlock(); }));
    CHECK(free_for_others(m));
  });
}

TEST_CASE_TEMPLATE("std::scoped_lock, std::lock and std::try_lock take several of them in any order", Lock, LOCKS) {
  for (const std::uint64_t seed : seeds(20)) {
    CAPTURE(seed);
    simulate(seed, [] {
      Lock a;
      Lock b;
      weft::mutex c;
      int inside = 0;
      int rounds = 0;
      std::vector<weft::thread> threads;
      for (int i = 0; i < 9; ++i) {
        threads.emplace_back([&, i] {
          for (int k = 0; k < 20; ++k) {
            std::unique_lock first(a, std::defer_lock);
            std::unique_lock second(b, std::defer_lock);
            i % 2 == 0 ? std::lock(first, second, c) : std::lock(c, second, first);
            CHECK(++inside == 1);
            weft::this_thread::yield();
            --inside;
            ++rounds;
            c.unlock();
          }
        });
      }
      for (auto& t : threads) t.join();
      CHECK(rounds == 180);
      CHECK(std::try_lock(a, b) == -1);
      weft::thread([&] { CHECK(std::try_lock(a, b) == 0); }).join();
      a.unlock();
      b.unlock();
    });
  }
}

TEST_CASE_TEMPLATE("a lock that is destroyed while it is held ends the program with a sentence", Lock, LOCKS) {
  const child_end end = destroyed_after<Lock>([](Lock& m) { m.lock(); });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("mutex was destroyed while a thread holds it; unlock it first, or let it outlive its users"));
}

TEST_CASE_TEMPLATE("a lock that another scheduler's thread finds held ends the program with a sentence", Lock, LOCKS) {
  const child_end end = used_by_two_schedulers<Lock>([](Lock& m) { m.lock(); }, [](Lock& m) { m.lock(); });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("mutex was used by threads of two schedulers"));
}
