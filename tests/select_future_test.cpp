// Select on results: which is chosen, who may give it, and that nothing of the wait is left behind.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/cancel.hpp"
#include "weft/future.hpp"
#include "weft/run_on.hpp"
#include "weft/select.hpp"

using namespace std::chrono_literals;

TEST_CASE("a result that is there is chosen without a wait, stays where it is, and may be an error") {
  simulate([] {
    weft::promise<int> seven;
    weft::promise<void> broken;
    weft::promise<int> nothing;
    const auto value = seven.get_future().share();
    auto error = broken.get_future();
    auto none = nothing.get_future();
    CHECK(weft::select(weft::on_ready(value), weft::on_ready(error), weft::otherwise()) == 2);
    seven.set_value(7);
    for (int i = 0; i < 2; ++i) CHECK(weft::select(weft::on_ready(none), weft::on_ready(value)) == 1);
    CHECK(value.get() == 7);
    broken.set_exception(std::make_exception_ptr(std::runtime_error("mine")));
    CHECK(weft::select(weft::on_ready(none), weft::on_ready(error), weft::otherwise()) == 1);
    CHECK_THROWS_AS(error.get(), std::runtime_error);
  });
}

TEST_CASE("a result that is given, or that nobody will give any more, ends the wait, and the other cases are left") {
  simulate([] {
    for (const bool breaks : {false, true}) {
      std::optional<weft::promise<int>> from(std::in_place);
      auto result = from->get_future();
      weft::channel<int> channel;
      weft::binary_semaphore permit(0);
      weft::thread giver([&] {
        if (!breaks) from->set_value(4);
        from.reset();
      });
      std::optional<int> got;
      CHECK(weft::select(weft::on_receive(channel, got), weft::on_acquire(permit), weft::on_ready(result),
                         weft::on_timeout(1h)) == 2);
      CHECK(got == std::nullopt);
      giver.join();
      CHECK_FALSE(channel.try_send(1));
      permit.release();
      CHECK(permit.try_acquire());
      if (!breaks) CHECK(result.get() == 4);
      if (breaks) CHECK_THROWS_AS(result.get(), weft::future_error);
    }
  });
}

TEST_CASE("another case that comes first ends the wait for a result, which may be given, taken and destroyed as ever") {
  simulate([] {
    weft::channel<int> channel;
    std::optional<int> got;
    std::optional<weft::promise<int>> from(std::in_place);
    std::optional<weft::future<int>> result = from->get_future();
    weft::thread sender([&] { channel.send(1); });
    CHECK(weft::select(weft::on_ready(*result), weft::on_receive(channel, got)) == 1);
    sender.join();
    CHECK(weft::select(weft::on_ready(*result), weft::on_timeout(1ms)) == 1);
    CHECK_FALSE(weft::with_timeout(1ms, [&] { static_cast<void>(weft::select(weft::on_ready(*result))); }));
    from->set_value(2);
    CHECK(result->get() == 2);

    from.emplace();
    result = from->get_future();
    CHECK(weft::select(weft::on_ready(*result), weft::on_timeout(1ms)) == 1);
    result.reset();
    from->set_value(3);
  });
}

TEST_CASE("futures without a state are never ready, deferred functions always, and run in get()") {
  simulate([] {
    const weft::future<int> none;
    const weft::shared_future<void> none_shared;
    CHECK(weft::select(weft::on_ready(none), weft::on_ready(none_shared), weft::otherwise()) == 2);
    CHECK(weft::select(weft::on_ready(none), weft::on_timeout(1ms), weft::on_ready(none_shared)) == 1);
    bool called = false;
    auto later = weft::async(weft::launch::deferred, [&] { called = true; });
    CHECK(weft::select(weft::on_ready(later), weft::on_ready(none)) == 0);
    CHECK_FALSE(called);
    later.get();
    CHECK(called);
  });
}

TEST_CASE("a deferred function that runs in another thread is waited for") {
  simulate([] {
    const auto later = weft::async(weft::launch::deferred, [] { weft::this_thread::sleep_for(5ms); }).share();
    weft::thread runs({.start = weft::start::now}, [&] { later.wait(); });
    CHECK(weft::select(weft::on_ready(later), weft::otherwise()) == 1);
    const auto begin = weft::detail::now();
    CHECK(weft::select(weft::on_ready(later), weft::on_timeout(1h)) == 0);
    CHECK(weft::detail::now() == begin + 5ms);
    runs.join();
  });
}

TEST_CASE("one result in several cases and several selects: each select chooses one case, all are woken") {
  simulate([] {
    weft::promise<int> from;
    const auto result = from.get_future().share();
    int chosen = 0;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        if (weft::select(weft::on_ready(result), weft::on_ready(result), weft::on_timeout(1h)) < 2) ++chosen;
      });
    }
    weft::this_thread::yield();
    from.set_value(1);
    for (auto& t : threads) t.join();
    CHECK(chosen == 3);
  });
}

TEST_CASE("of several results that come in the same instant each is drawn as often as the others") {
  simulate([] {
    constexpr int rounds = 3000;
    std::array<int, 3> drawn{};
    for (int i = 0; i < rounds; ++i) {
      std::array<weft::promise<void>, 3> from;
      std::vector<weft::future<void>> results;
      std::vector<weft::select_case> cases;
      for (auto& p : from) results.push_back(p.get_future());
      for (auto& f : results) cases.push_back(weft::on_ready(f));
      weft::thread giver([&] {
        for (auto& p : from) p.set_value();
      });
      ++drawn[weft::select(cases)];
      giver.join();
    }
    for (const int each : drawn) CHECK(std::abs(each - rounds / 3) < rounds / 15);
  });
}

TEST_CASE("a thousand results in one list, used again until all have come") {
  simulate([] {
    constexpr std::size_t count = 1000;
    std::vector<weft::promise<std::size_t>> from(count);
    std::vector<weft::future<std::size_t>> results;
    std::vector<weft::select_case> cases;
    for (auto& p : from) results.push_back(p.get_future());
    for (auto& f : results) cases.push_back(weft::on_ready(f));
    weft::thread giver([&] {
      for (std::size_t i = 0; i < count; ++i) {
        from[(i * 7) % count].set_value((i * 7) % count);
        if (i % 3 == 0) weft::this_thread::yield();
      }
    });
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t chosen = weft::select(cases);
      CHECK(results[chosen].get() == chosen);
      cases[chosen] = weft::select_case();
    }
    giver.join();
  });
}

TEST_CASE("a cancelled select has taken no result and waits for none any more") {
  simulate([] {
    weft::promise<int> from;
    auto result = from.get_future();
    CHECK(cancelled_in([&] { static_cast<void>(weft::select(weft::on_ready(result), weft::on_timeout(1h))); }));
    from.set_value(9);
    CHECK(result.get() == 9);
  });
}

TEST_CASE("select on results in a region of blocking()") {
  weft::run([] {
    weft::promise<int> from;
    auto result = from.get_future();
    weft::thread giver([&] { from.set_value(4); });
    CHECK(weft::blocking([&] { return weft::select(weft::on_ready(result), weft::on_timeout(1h)); }) == 0);
    giver.join();
    weft::promise<int> other;
    auto second = other.get_future();
    weft::thread gives_in_region([&] { weft::blocking([&] { other.set_value(5); }); });
    CHECK(weft::select(weft::on_ready(second), weft::on_timeout(1h)) == 0);
    gives_in_region.join();
  });
}

TEST_CASE("results that a kernel thread or another scheduler gives end a select; meanwhile there is no deadlock") {
  weft::promise<int> first;
  weft::promise<int> second;
  auto one = first.get_future();
  auto two = second.get_future();
  weft::run_on(2, [&](const weft::processors& all) {
    if (all.index() == 1) return first.set_value(1);
    CHECK(weft::select(weft::on_ready(one)) == 0);
    std::thread kernel([&] { second.set_value(2); });
    weft::channel<int> nobody_sends;
    std::optional<int> got;
    CHECK(weft::select(weft::on_receive(nobody_sends, got), weft::on_ready(two)) == 1);
    kernel.join();
  });
}

TEST_CASE("a deadlock names the results of functions in threads of its own that are selected from") {
  try {
    weft::run([] {
      weft::binary_semaphore never(0);
      auto result = weft::async([&] { never.acquire(); });
      static_cast<void>(weft::select(weft::on_ready(result)));
    });
    FAIL("no deadlock");
  } catch (const weft::deadlock& deadlock) {
    CHECK(std::string(deadlock.what()).find("parked in select of future 0x") != std::string::npos);
  }
}

namespace {

// Results that kernel threads and another scheduler give, in a race with channels, times and cancellations. All of `given` are
// there at the end: each must be seen by who waits for it, each value that was sent be received.
struct race {
  static constexpr std::size_t rounds = 1500;
  explicit race(std::uint64_t of) : seed(of), promises(rounds * 2) {
    for (auto& p : promises) futures.push_back(p.get_future().share());
  }

  void give() {
    for (std::size_t i = next.fetch_add(1); i < promises.size(); i = next.fetch_add(1)) promises[i].set_value(i);
  }

  void take() {
    std::mt19937_64 random(seed);
    weft::channel<std::size_t> channel(1);
    weft::thread sender([&] {
      for (std::size_t i = 0; i < rounds; ++i) channel.send(i);
      channel.close();
    });
    std::vector<weft::thread> vain;
    for (std::size_t i = 0; i < rounds; ++i) {
      std::vector<weft::select_case> cases{weft::on_ready(futures[2 * i]), weft::on_ready(futures[2 * i + 1])};
      std::optional<std::size_t> got;
      if (random() % 2 == 0) cases.push_back(weft::on_receive(channel, got));
      if (random() % 2 == 0) cases.push_back(weft::on_timeout(std::chrono::microseconds(random() % 30)));
      weft::thread ended([&cases_of = futures, i] {
        static_cast<void>(weft::select(weft::on_ready(cases_of[2 * i + 1]), weft::on_ready(cases_of[2 * i])));
      });
      if (random() % 2 == 0) weft::this_thread::yield();
      const std::size_t chosen = weft::select(cases);
      if (chosen < 2 && futures[2 * i + chosen].wait_for(0s) != weft::future_status::ready) ++wrong;
      if (got.has_value()) ++received;
      if (got.has_value() && (chosen != 2 || *got != expected++)) ++wrong;
      ended.request_cancel();
      ended.join();
    }
    while (const auto left = channel.receive()) {
      if (*left != expected++) ++wrong;
    }
    sender.join();
    if (expected != rounds) ++wrong;
  }

  std::uint64_t seed;
  std::vector<weft::promise<std::size_t>> promises;
  std::vector<weft::shared_future<std::size_t>> futures;
  std::atomic<std::size_t> next{0};
  std::size_t expected = 0;
  std::size_t received = 0;
  int wrong = 0;
};

}  // namespace

TEST_CASE(
    "a race of kernel threads and another scheduler with channels, times and cancellations: one case wins, nothing is lost") {
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    CAPTURE(seed);
    race r(seed);
    std::vector<std::thread> kernel;
    for (int i = 0; i < 2; ++i) kernel.emplace_back([&] { r.give(); });
    weft::run_on(2, [&](const weft::processors& all) { all.index() == 0 ? r.take() : r.give(); });
    for (auto& t : kernel) t.join();
    CHECK(r.wrong == 0);
    CHECK(r.next >= r.promises.size());
  }
}

// Another case ends each select, and who gives the result is on the way to this one for as long as it wakes the others before it.
TEST_CASE("a select that another case ends waits for whoever is on the way to it, and takes that for no deadlock") {
  constexpr int others = 3000;
  for (int round = 0; round < 10; ++round) {
    weft::promise<int> from;
    const weft::shared_future<int> result = from.get_future().share();
    std::atomic<int> waiting{0};
    std::thread crowd([&] {
      weft::run([&] {
        std::vector<weft::jthread> threads;
        for (int i = 0; i < others; ++i) {
          threads.emplace_back([&] {
            ++waiting;
            result.wait();
          });
        }
      });
    });
    while (waiting < others) std::this_thread::yield();
    std::thread kernel([&] { from.set_value(round); });
    weft::run([&] {
      while (weft::select(weft::on_ready(result), weft::on_timeout(1us)) != 0) {
      }
      CHECK(result.get() == round);
    });
    kernel.join();
    crowd.join();
  }
}

// Between the look at all cases and the wait there is room for a kernel thread.
TEST_CASE("a result that comes while a long list is looked through is chosen, in every instant") {
  constexpr int rounds = 400;
  constexpr std::size_t others = 5000;
  std::vector<weft::promise<void>> never(others);
  std::vector<weft::future<void>> results;
  for (auto& p : never) results.push_back(p.get_future());
  std::optional<weft::promise<int>> from;
  std::atomic<int> asked{0};
  std::thread kernel([&] {
    for (int round = 1; round <= rounds; ++round) {
      while (asked.load(std::memory_order_acquire) < round) std::this_thread::yield();
      for (int wait = round * 211 % 40'000; wait > 0; --wait) asm volatile("" ::: "memory");
      from->set_value(round);
    }
  });
  const auto body = [&] {
    weft::channel<int> nobody_sends;
    std::optional<int> got;
    for (int round = 1; round <= rounds; ++round) {
      from.emplace();
      auto result = from->get_future();
      std::vector<weft::select_case> cases{weft::on_receive(nobody_sends, got), weft::on_ready(result), weft::on_timeout(1h)};
      for (auto& f : results) cases.push_back(weft::on_ready(f));
      asked.store(round, std::memory_order_release);
      CHECK(weft::select(cases) == 1);
      CHECK(result.get() == round);
      CHECK_FALSE(nobody_sends.try_send(1));
    }
    weft::binary_semaphore nobody_releases(0);
    nobody_releases.acquire();  // a deadlock, because no deadline was left behind
  };
  CHECK_THROWS_AS(weft::run(body), weft::deadlock);
  kernel.join();
}
