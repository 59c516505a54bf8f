// The heap of deadlines against a sorted list, and the lists below everything.
#include "sched/timer_queue.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "tests/simulated_source.hpp"

using namespace std::chrono_literals;
using weft::detail::wait_queue;
using weft::detail::waiter;

TEST_CASE("deadlines expire in order, whatever was armed and disarmed in between") {
  for (const std::uint64_t seed : seeds(50)) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    weft::sched::timer_queue queue;
    std::vector<std::unique_ptr<waiter>> waiters;
    std::multimap<weft::time_point, waiter*> model;
    weft::time_point now{};
    for (int step = 0; step < 2000; ++step) {
      switch (random() % 4) {
        case 0:
        case 1: {
          waiters.push_back(std::make_unique<waiter>());
          const weft::time_point when = now + std::chrono::nanoseconds(random() % 500);
          queue.arm(*waiters.back(), when);
          model.emplace(when, waiters.back().get());
          break;
        }
        case 2: {
          if (waiters.empty()) break;
          waiter& w = *waiters[random() % waiters.size()];
          const auto at = std::find_if(model.begin(), model.end(), [&](const auto& entry) { return entry.second == &w; });
          CHECK((w.timer != 0) == (at != model.end()));
          queue.disarm(w);
          if (at != model.end()) model.erase(at);
          break;
        }
        default: {
          now += std::chrono::nanoseconds(random() % 100);
          while (waiter* const w = queue.expire(now)) {
            const auto at = std::find_if(model.begin(), model.end(), [&](const auto& entry) { return entry.second == w; });
            REQUIRE(at != model.end());
            CHECK(at->first == model.begin()->first);
            CHECK(at->first <= now);
            model.erase(at);
          }
          CHECK((model.empty() || model.begin()->first > now));
        }
      }
      CHECK(queue.size() == model.size());
      CHECK(queue.earliest() == (model.empty() ? weft::never : model.begin()->first));
    }
  }
}

TEST_CASE("a wait queue is first in first out and lets go of anybody in the middle") {
  wait_queue queue;
  CHECK(queue.empty());
  CHECK(queue.pop_front() == nullptr);
  waiter a;
  waiter b;
  waiter c;
  for (waiter* const w : {&a, &b, &c}) queue.push_back(*w);
  queue.remove(b);
  CHECK(b.queue == nullptr);
  queue.push_back(b);
  CHECK(queue.pop_front() == &a);
  CHECK(queue.pop_front() == &c);
  CHECK(queue.pop_front() == &b);
  CHECK(queue.empty());
}
