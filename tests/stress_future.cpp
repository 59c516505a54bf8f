// Seeded schedules of promises and futures: many threads that give, break, wait, give up, and are asked to end, results that come
// from other kernel threads in the middle, functions that run in threads of their own or in those that wait.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/future.hpp"
#include "weft/run_on.hpp"

using namespace std::chrono_literals;
using weft::future_errc;
using weft::future_status;

namespace {

// What became of a promise, as those see it who wait.
enum class end { value, error, broken };

struct result {
  std::optional<weft::promise<int>> promise{std::in_place};
  weft::shared_future<int> future = promise->get_future().share();
  std::optional<end> given;
};

struct world {
  world(simulated_source& k, std::size_t results) : kernel(k), all(results) {}
  simulated_source& kernel;
  std::vector<result> all;
  int waits = 0;
  int cancelled = 0;

  result& any() { return all[kernel.below(all.size())]; }
};

void use_kernel() {
  weft::upcall::operation request;
  request.length = 5;
  static_cast<void>(weft::detail::perform(request));
}

void give(result& r, end how, bool at_exit) {
  r.given = how;
  if (how == end::value && at_exit) return r.promise->set_value_at_thread_exit(42);
  if (how == end::value) return r.promise->set_value(42);
  const auto error = std::make_exception_ptr(std::runtime_error("error"));
  if (how == end::error && at_exit) return r.promise->set_exception_at_thread_exit(error);
  if (how == end::error) return r.promise->set_exception(error);
  r.promise.reset();
}

void give_somehow(world& w, result& r) {
  if (r.given.has_value()) {
    if (!r.promise.has_value()) return;
    try {
      r.promise->set_value(1);
      FAIL_CHECK("given twice");
    } catch (const weft::future_error& error) {
      CHECK(error.code() == future_errc::promise_already_satisfied);
    }
    return;
  }
  const end how = static_cast<end>(w.kernel.below(3));
  switch (w.kernel.below(12)) {
    case 0:
      return std::thread([&] { give(r, how, true); }).join();
    case 1:
      return std::thread([&] { give(r, how, false); }).join();
    case 2:
    case 3:
    case 4: {
      // At the end of one that does nothing else: who waits for its own end waits for ever.
      const weft::jthread gives_at_its_end([&] {
        if (!r.given.has_value()) give(r, how, true);
        weft::this_thread::yield();
      });
      return;
    }
    default:
      return give(r, how, false);
  }
}

void compare(world& w, const result& r) {
  ++w.waits;
  end seen = end::value;
  try {
    const int got = r.future.get();  // what CHECK evaluates it also catches
    CHECK(got == 42);
  } catch (const weft::future_error& error) {
    CHECK(error.code() == future_errc::broken_promise);
    seen = end::broken;
  } catch (const std::runtime_error&) {
    seen = end::error;
  }
  CHECK((seen == r.given));
}

void wait_somehow(world& w, const result& r) {
  if (w.kernel.chance(2)) return compare(w, r);
  const auto limit = std::chrono::microseconds(w.kernel.below(20));
  const auto begin = weft::detail::now();
  if (r.future.wait_for(limit) == future_status::ready) return compare(w, r);
  CHECK(weft::detail::now() - begin >= limit);
}

// A function in a thread of its own, or in this one.
void use_async(world& w) {
  const auto how = w.kernel.chance(2) ? weft::launch::async : weft::launch::deferred;
  auto number = std::make_shared<int>(7);
  auto f = weft::async(how, [number] {
    use_kernel();
    return *number;
  });
  if (w.kernel.chance(3)) return;
  if (w.kernel.chance(2)) static_cast<void>(f.wait_for(2us));
  try {
    const int got = f.get();
    CHECK(got == 7);
    CHECK(number.use_count() == 1);
  } catch (const weft::future_error& error) {
    CHECK(error.code() == future_errc::broken_promise);  // everything is asked to end
  }
}

void act(world& w) {
  switch (w.kernel.below(6)) {
    case 0:
      return give_somehow(w, w.any());
    case 1:
    case 2:
      return wait_somehow(w, w.any());
    case 3:
      return use_async(w);
    case 4:
      return use_kernel();
    default:
      return weft::this_thread::yield();
  }
}

void live(world& w) {
  try {
    for (std::size_t i = 0, actions = 1 + w.kernel.below(8); i < actions; ++i) act(w);
  } catch (const weft::cancelled&) {
    ++w.cancelled;
    throw;
  }
}

}  // namespace

namespace {

// Results that kernel threads and two schedulers give and wait for at the same time.
struct exchange {
  static constexpr std::size_t results = 300;
  explicit exchange(std::uint64_t of) : seed(of), promises(results) {
    for (auto& p : promises) futures.push_back(p.get_future().share());
  }
  // Each result is given once, by whoever comes first.
  void give() {
    for (std::size_t i = next.fetch_add(1); i < results; i = next.fetch_add(1)) promises[i].set_value(i);
  }
  // Some waits have no limit, others one that may end together with the result.
  void take(std::uint64_t who) {
    std::mt19937_64 random(seed * 100 + who);
    for (std::size_t i = 0; i < results; ++i) {
      if (random() % 2 == 0) {
        while (futures[i].wait_for(std::chrono::microseconds(random() % 50)) != future_status::ready) {
        }
      }
      if (futures[i].get() != i) wrong.fetch_add(1);
    }
  }
  // Threads that are asked to end again and again while they wait.
  void wait_in_vain(std::uint64_t who) {
    std::mt19937_64 random(seed * 1000 + who);
    for (std::size_t i = 0; i < results; ++i) {
      weft::thread t({.start = weft::start::now}, [&] { futures[i].wait(); });
      if (random() % 2 == 0) weft::this_thread::yield();
      t.request_cancel();
      t.join();
    }
  }

  std::uint64_t seed;
  std::vector<weft::promise<std::size_t>> promises;
  std::vector<weft::shared_future<std::size_t>> futures;
  std::atomic<std::size_t> next{0};
  std::atomic<int> wrong{0};
};

}  // namespace

TEST_CASE("kernel threads and threads of two schedulers that give, wait, time out and are asked to end lose no result") {
  for (const std::uint64_t seed : seeds(10)) {
    CAPTURE(seed);
    exchange x(seed);
    std::vector<std::thread> kernel;
    kernel.emplace_back([&] { x.give(); });
    kernel.emplace_back([&] { x.take(1); });
    weft::run_on(2, [&x](const weft::processors& all) {
      const std::uint64_t first = 10 * (all.index() + 1);
      std::vector<weft::thread> threads;
      for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back([&x, i, first] { x.take(first + i); });
      threads.emplace_back([&x, first] { x.wait_in_vain(first); });
      threads.emplace_back([&x] { x.give(); });
      for (auto& t : threads) t.join();
    });
    for (auto& t : kernel) t.join();
    CHECK(x.wrong == 0);
  }
}

TEST_CASE("whatever the order of events, everybody who waits sees the one result that was given, and nobody is left waiting") {
  for (const std::uint64_t seed : seeds(1500)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(source.below(8));
    weft::run(how, [&source] {
      world w(source, 1 + source.below(4));
      std::vector<weft::thread> threads;
      for (int i = 0; i < 8; ++i) threads.emplace_back([&w] { live(w); });
      for (std::size_t i = source.below(4); i > 0; --i) weft::this_thread::yield();
      for (auto& t : threads) {
        if (source.chance(6)) t.request_cancel();
      }
      // Those that still wait when the clock would have to move wait for what nobody gave.
      weft::this_thread::sleep_for(1ms);
      for (result& r : w.all) {
        if (!r.given.has_value()) give(r, end::broken, false);
      }
      for (auto& t : threads) t.join();
      for (const result& r : w.all) compare(w, r);
      CHECK(source.pending() == 0);
    });
  }
}
