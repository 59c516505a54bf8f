// latch: as ISO C++20 says, and what it says when it is misused.
#include "weft/latch.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <system_error>
#include <type_traits>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace {

template <class Latch> constexpr bool shaped_as_the_standard_says() {
  static_assert(!std::is_copy_constructible_v<Latch> && !std::is_move_constructible_v<Latch>);
  static_assert(!std::is_copy_assignable_v<Latch> && !std::is_move_assignable_v<Latch>);
  static_assert(!std::is_default_constructible_v<Latch> && !std::is_convertible_v<std::ptrdiff_t, Latch>);
  static_assert(std::is_constructible_v<Latch, std::ptrdiff_t>);
  static_assert(std::is_void_v<decltype(std::declval<Latch&>().count_down())>);
  static_assert(std::is_void_v<decltype(std::declval<Latch&>().arrive_and_wait(2))>);
  static_assert(std::is_void_v<decltype(std::declval<const Latch&>().wait())>);
  static_assert(std::is_same_v<decltype(std::declval<const Latch&>().try_wait()), bool>);
  static_assert(noexcept(Latch::max()) && Latch::max() > 1'000'000);
  return true;
}
static_assert(shaped_as_the_standard_says<std::latch>() && shaped_as_the_standard_says<weft::latch>());

constinit weft::latch made_before_the_program(0);

}  // namespace

TEST_CASE("all who wait for a latch go on when the last one has arrived, in the order in which they came") {
  simulate([] {
    weft::latch gate(3);
    std::string order;
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b'}) {
      threads.emplace_back([&, c] {
        gate.wait();
        order += c;
      });
    }
    threads.emplace_back([&] {
      gate.arrive_and_wait();
      order += 'c';
    });
    weft::this_thread::yield();
    CHECK_FALSE(gate.try_wait());
    gate.count_down(0);
    gate.count_down();
    CHECK(order.empty());
    gate.count_down();
    CHECK(gate.try_wait());
    gate.wait();
    for (auto& t : threads) t.join();
    CHECK(order == "abc");
    CHECK(made_before_the_program.try_wait());
  });
}

TEST_CASE("a latch for nobody is open, and one for several may be counted down at once") {
  simulate([] {
    weft::latch open(0);
    CHECK(open.try_wait());
    open.wait();
    open.arrive_and_wait(0);
    weft::latch three(3);
    three.arrive_and_wait(3);
    CHECK(three.try_wait());
    weft::latch most(weft::latch::max());
    most.count_down(weft::latch::max());
    CHECK(most.try_wait());
  });
}

TEST_CASE("a latch that is counted down too far, or backwards, is an error and stays what it was") {
  simulate([] {
    CHECK(says(refusal_of([] { weft::latch below(-1); }), "must not be negative"));
    weft::latch gate(2);
    CHECK(says(refusal_of([&] { gate.count_down(3); }), "more arrivals than the latch was made for"));
    CHECK(says(refusal_of([&] { gate.arrive_and_wait(3); }), "more arrivals"));
    CHECK(says(refusal_of([&] { gate.count_down(-1); }), "must not be negative"));
    gate.count_down(2);
    CHECK(says(refusal_of([&] { gate.count_down(); }), "more arrivals"));
  });
}

TEST_CASE("one who is asked to end while it waits for a latch has counted down all the same") {
  simulate([] {
    weft::latch gate(2);
    bool passed = false;
    weft::thread t({.start = weft::start::now}, [&] {
      gate.arrive_and_wait();
      passed = true;
    });
    t.request_cancel();
    t.join();
    CHECK_FALSE(passed);
    gate.arrive_and_wait();
  });
}

TEST_CASE("a latch works in a region, and is refused off a weft thread") {
  weft::run([] {
    weft::latch gate(2);
    weft::thread t([&] { weft::blocking([&] { gate.arrive_and_wait(); }); });
    weft::blocking([&] {
      gate.count_down();
      gate.wait();
      CHECK(gate.try_wait());
    });
    t.join();
  });
  weft::latch gate(1);
  CHECK(says(refusal_of([&] { gate.count_down(); }), "latch::count_down was called outside a weft thread"));
  CHECK(says(refusal_of([&] { gate.wait(); }), "latch::wait was called outside"));
  CHECK(says(refusal_of([&] { static_cast<void>(gate.try_wait()); }), "latch::try_wait was called outside"));
}

TEST_CASE("a latch that is destroyed while somebody waits for it ends the program with a sentence") {
  const child_end end = in_child([] {
    weft::run([] {
      auto gate = std::make_unique<weft::latch>(1);
      weft::thread t({.start = weft::start::now}, [&] { gate->wait(); });
      gate.reset();
    });
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a latch was destroyed while threads wait on it"));
}
