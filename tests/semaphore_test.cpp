// counting_semaphore and binary_semaphore: as ISO C++20 says, as far as sync_test.cpp does not tell.
#include "weft/semaphore.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <limits>
#include <memory>
#include <semaphore>
#include <system_error>
#include <type_traits>
#include <utility>

#include "tests/adjustable_clock.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

template <class Semaphore> constexpr bool shaped_as_the_standard_says() {
  using when = std::chrono::system_clock::time_point;
  static_assert(!std::is_copy_constructible_v<Semaphore> && !std::is_move_constructible_v<Semaphore>);
  static_assert(!std::is_copy_assignable_v<Semaphore> && !std::is_move_assignable_v<Semaphore>);
  static_assert(!std::is_default_constructible_v<Semaphore> && !std::is_convertible_v<std::ptrdiff_t, Semaphore>);
  static_assert(std::is_constructible_v<Semaphore, std::ptrdiff_t>);
  static_assert(std::is_void_v<decltype(std::declval<Semaphore&>().release())>);
  static_assert(std::is_void_v<decltype(std::declval<Semaphore&>().release(2))>);
  static_assert(std::is_void_v<decltype(std::declval<Semaphore&>().acquire())>);
  static_assert(std::is_same_v<decltype(std::declval<Semaphore&>().try_acquire()), bool>);
  static_assert(std::is_same_v<decltype(std::declval<Semaphore&>().try_acquire_for(1s)), bool>);
  static_assert(std::is_same_v<decltype(std::declval<Semaphore&>().try_acquire_until(when())), bool>);
  static_assert(noexcept(Semaphore::max()) && Semaphore::max() >= 1);
  return true;
}
static_assert(shaped_as_the_standard_says<std::counting_semaphore<>>());
static_assert(shaped_as_the_standard_says<weft::counting_semaphore<>>());
static_assert(shaped_as_the_standard_says<weft::counting_semaphore<5>>() && weft::counting_semaphore<5>::max() == 5);
static_assert(shaped_as_the_standard_says<weft::binary_semaphore>() && weft::binary_semaphore::max() == 1);
static_assert(std::is_same_v<weft::binary_semaphore, weft::counting_semaphore<1>>);
static_assert(weft::counting_semaphore<>::max() == std::numeric_limits<std::ptrdiff_t>::max());

constinit weft::binary_semaphore made_before_the_program(1);

}  // namespace

TEST_CASE("a count may reach the most that there is, and not exceed it, whoever waits") {
  simulate([] {
    CHECK(made_before_the_program.try_acquire());
    weft::counting_semaphore<> s(weft::counting_semaphore<>::max() - 1);
    s.release();
    CHECK_THROWS_AS(s.release(), std::system_error);
    CHECK_THROWS_AS(s.release(weft::counting_semaphore<>::max()), std::system_error);
    CHECK(s.try_acquire());
    weft::binary_semaphore one(0);
    weft::thread waits({.start = weft::start::now}, [&] { one.acquire(); });
    CHECK_THROWS_AS(one.release(2), std::system_error);  // as if nobody waited
    one.release();
    one.release();  // the first permit is the waiter's already
    waits.join();
    CHECK(one.try_acquire());
  });
}

TEST_CASE("a timed acquire believes the caller's clock, also one that is set back") {
  simulate([] {
    weft::binary_semaphore s(0);
    adjustable_clock::reading = 1000ms;
    weft::thread sets([&] {
      weft::this_thread::sleep_for(15ms);
      adjustable_clock::reading = 900ms;
      weft::this_thread::sleep_for(200ms);
      s.release();
    });
    CHECK(s.try_acquire_until(adjustable_clock::time_point(1020ms)));
    sets.join();
    CHECK_FALSE(s.try_acquire_until(adjustable_clock::time_point(900ms)));
  });
}

TEST_CASE("semaphores work in regions, and are refused off a weft thread") {
  weft::run([] {
    weft::binary_semaphore ping(0);
    weft::binary_semaphore pong(0);
    weft::thread other([&] {
      weft::blocking([&] {
        for (int i = 0; i < 20; ++i) {
          ping.acquire();
          pong.release();
        }
      });
    });
    weft::blocking([&] {
      for (int i = 0; i < 20; ++i) {
        ping.release();
        CHECK(pong.try_acquire_for(1h));
      }
    });
    other.join();
  });
  weft::binary_semaphore s(1);
  CHECK_THROWS_WITH_AS(static_cast<void>(s.try_acquire()), doctest::Contains("was called outside a weft thread"),
                       std::system_error);
  CHECK_THROWS_WITH_AS(s.release(), doctest::Contains("semaphore::release was called outside a weft thread"), std::system_error);
}

TEST_CASE("a semaphore that is destroyed while somebody waits for it ends the program with a sentence") {
  const child_end end = in_child([] {
    weft::run([] {
      auto s = std::make_unique<weft::counting_semaphore<>>(0);
      weft::thread t({.start = weft::start::now}, [&] { s->acquire(); });
      s.reset();
    });
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a semaphore was destroyed while threads wait on it"));
}
