// barrier: as ISO C++20 says, and what it says when it is misused.
#include "weft/barrier.hpp"

#include <doctest/doctest.h>

#include <barrier>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

template <class Barrier> constexpr bool shaped_as_the_standard_says() {
  using token = typename Barrier::arrival_token;
  static_assert(!std::is_copy_constructible_v<Barrier> && !std::is_move_constructible_v<Barrier>);
  static_assert(!std::is_copy_assignable_v<Barrier> && !std::is_move_assignable_v<Barrier>);
  static_assert(!std::is_default_constructible_v<Barrier> && !std::is_convertible_v<std::ptrdiff_t, Barrier>);
  static_assert(std::is_constructible_v<Barrier, std::ptrdiff_t>);
  static_assert(!std::is_copy_constructible_v<token> && !std::is_copy_assignable_v<token>);
  static_assert(std::is_nothrow_move_constructible_v<token> && std::is_nothrow_move_assignable_v<token>);
  static_assert(std::is_same_v<decltype(std::declval<Barrier&>().arrive()), token>);
  static_assert(std::is_void_v<decltype(std::declval<const Barrier&>().wait(std::declval<token>()))>);
  static_assert(noexcept(Barrier::max()) && Barrier::max() > 1'000'000);
  return true;
}
static_assert(shaped_as_the_standard_says<std::barrier<>>() && shaped_as_the_standard_says<weft::barrier<>>());

constinit weft::barrier<> made_before_the_program(1);

}  // namespace

TEST_CASE("a phase ends when all have arrived: the completion function runs once, in the last one, before anybody goes on") {
  simulate([] {
    std::string story;
    weft::barrier gate(3, [&]() noexcept { story += weft::this_thread::name(); });
    static_assert(!std::is_same_v<decltype(gate), weft::barrier<>>);
    std::vector<weft::thread> threads;
    for (const char* const name : {"a", "b", "c"}) {
      threads.emplace_back(weft::attributes{.name = name}, [&] {
        for (int phase = 0; phase < 2; ++phase) {
          story += '.';
          gate.arrive_and_wait();
          story += '|';
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK(story == "...c|.|.|.b|||");
  });
}

TEST_CASE("who arrives may wait later, by the token of its phase") {
  simulate([] {
    int completed = 0;
    weft::barrier gate(2, [&]() noexcept { ++completed; });
    auto mine = gate.arrive();
    weft::thread other([&] { gate.arrive_and_wait(); });
    gate.wait(std::move(mine));
    CHECK(completed == 1);
    other.join();
    auto both = gate.arrive(2);
    CHECK(completed == 2);
    auto moved = std::move(both);
    both = gate.arrive();
    gate.wait(std::move(moved));  // of a phase that is over
    static_cast<void>(gate.arrive());
    gate.wait(std::move(both));
    CHECK(completed == 3);
    made_before_the_program.arrive_and_wait();
  });
}

TEST_CASE("who drops out is not waited for again, and may be the last to arrive") {
  simulate([] {
    std::string order;
    weft::barrier gate(3, [&]() noexcept { order += '|'; });
    weft::thread stays([&] {
      for (const char c : {'1', '2', '3'}) {
        gate.arrive_and_wait();
        order += c;
      }
    });
    weft::thread leaves([&] {
      gate.arrive_and_wait();
      gate.arrive_and_drop();
    });
    weft::this_thread::yield();
    gate.arrive_and_drop();
    stays.join();
    leaves.join();
    CHECK(order == "|1|2|3");
    gate.arrive_and_drop();
    CHECK(order == "|1|2|3|");
    CHECK(says(refusal_of([&] { gate.arrive_and_drop(); }), "more arrivals than the barrier expects"));
  });
}

TEST_CASE("a barrier used wrongly is an error with a sentence") {
  simulate([] {
    CHECK(says(refusal_of([] { weft::barrier<> below(-1); }), "must not be negative"));
    weft::barrier<> nobody(0);
    CHECK(says(refusal_of([&] { nobody.arrive_and_wait(); }), "more arrivals than the barrier expects in this phase"));
    weft::barrier<> gate(2);
    CHECK(says(refusal_of([&] { static_cast<void>(gate.arrive(3)); }), "more arrivals"));
    CHECK(says(refusal_of([&] { static_cast<void>(gate.arrive(0)); }), "must be positive"));
    CHECK(says(refusal_of([&] { static_cast<void>(gate.arrive(-1)); }), "must be positive"));
    auto token = gate.arrive();
    CHECK(says(refusal_of([&] { nobody.wait(std::move(token)); }), "of another barrier"));
    const auto taken = std::move(token);
    CHECK(says(refusal_of([&] { gate.wait(std::move(token)); }), "moved from"));
    static_cast<void>(gate.arrive());
  });
}

TEST_CASE("who arrives while the completion function waits is one too many") {
  simulate([] {
    weft::binary_semaphore held(0);
    weft::barrier gate(1, [&]() noexcept { held.acquire(); });
    weft::thread last({.start = weft::start::now}, [&] { gate.arrive_and_wait(); });
    CHECK(says(refusal_of([&] { static_cast<void>(gate.arrive()); }), "more arrivals"));
    held.release();
    last.join();
  });
}

TEST_CASE("one who is asked to end while it waits has arrived, may wait again, and can drop out as it unwinds") {
  simulate([] {
    int phases = 0;
    weft::barrier gate(2, [&]() noexcept { ++phases; });
    weft::thread t({.start = weft::start::now}, [&] {
      auto token = gate.arrive();
      try {
        gate.wait(std::move(token));
      } catch (const weft::cancelled&) {
        CHECK_THROWS_AS(gate.wait(std::move(token)), weft::cancelled);
        throw;
      }
    });
    t.request_cancel();
    t.join();
    gate.arrive_and_wait();
    CHECK(phases == 1);
    weft::thread dropping({.start = weft::start::now}, [&] {
      try {
        gate.arrive_and_wait();
      } catch (const weft::cancelled&) {
        gate.arrive_and_drop();
        throw;
      }
    });
    dropping.request_cancel();
    dropping.join();
    CHECK(phases == 2);
    gate.arrive_and_wait();
    CHECK(phases == 3);
  });
}

TEST_CASE("a barrier works in regions, and is refused off a weft thread") {
  int phases = 0;
  weft::run([&] {
    weft::barrier gate(2, [&]() noexcept { ++phases; });
    const auto take_part = [&] {
      weft::blocking([&] {
        for (int i = 0; i < 10; ++i) gate.arrive_and_wait();
        gate.arrive_and_drop();
      });
    };
    weft::thread t(take_part);
    take_part();
    t.join();
  });
  CHECK(phases == 11);
  weft::barrier<> gate(1);
  CHECK(says(refusal_of([&] { static_cast<void>(gate.arrive()); }), "barrier::arrive was called outside a weft thread"));
  CHECK(says(refusal_of([&] { gate.arrive_and_drop(); }), "barrier::arrive_and_drop was called outside a weft thread"));
}

TEST_CASE("a drop that is one arrival too many is refused and drops nothing") {
  simulate([] {
    weft::barrier<std::function<void()>>* self = nullptr;
    int phases = 0;
    weft::barrier<std::function<void()>> b(1, [&] {
      if (++phases == 1) CHECK(says(refusal_of([&] { self->arrive_and_drop(); }), "more arrivals"));
    });
    self = &b;
    b.arrive_and_wait();
    b.arrive_and_wait();
    CHECK(phases == 2);
    b.arrive_and_drop();
    CHECK(says(refusal_of([&] { b.arrive_and_wait(); }), "more arrivals"));
  });
}

TEST_CASE("a token that another one was made of, or assigned from, is refused, and the new one waits") {
  simulate([] {
    weft::barrier<> b(1);
    auto first = b.arrive();
    auto second = b.arrive();
    second = std::move(first);
    CHECK(says(refusal_of([&] { b.wait(std::move(first)); }), "moved from"));
    b.wait(std::move(second));
  });
}

TEST_CASE("what a completion function throws, and a barrier destroyed while somebody waits, end the program") {
  const child_end thrown = in_child([] {
    weft::run([] {
      weft::barrier gate(1, [] { throw std::runtime_error("from the completion"); });
      gate.arrive_and_wait();
    });
  });
  CHECK(thrown.killed_by(SIGABRT));
  CHECK(thrown.said("from the completion"));
  const child_end destroyed = in_child([] {
    weft::run([] {
      auto gate = std::make_unique<weft::barrier<>>(2);
      weft::thread t({.start = weft::start::now}, [&] { gate->arrive_and_wait(); });
      gate.reset();
    });
  });
  CHECK(destroyed.killed_by(SIGABRT));
  CHECK(destroyed.said("weft: a barrier was destroyed while threads wait on it"));
}
