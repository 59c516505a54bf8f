// Seeded schedules for phases and stops: barriers whose phases never mix, notifications and stops that are never lost, with
// cancellations everywhere. Stops come from threads of the scheduler and, as from elsewhere, from the simulated kernel.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/barrier.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/latch.hpp"
#include "weft/mutex.hpp"

using namespace std::chrono_literals;

namespace {

// Requests stops where no thread of the scheduler runs, at moments that the seed decides.
class stopping_source : public simulated_source {
 public:
  using simulated_source::simulated_source;

  void will_stop(std::stop_source what) { stops_.push_back(std::move(what)); }

  void poll() override {
    simulated_source::poll();
    if (!stops_.empty() && chance(4)) stop_one();
  }
  [[nodiscard]] bool wants_poll() const noexcept override { return true; }

 private:
  void wait_for_wake() override {
    if (stops_.empty()) {
      std::cerr << "everybody waits, and everything has happened: something was lost\n";
      std::abort();
    }
    stop_one();
  }
  void stop_one() {
    const std::size_t at = below(stops_.size());
    std::stop_source chosen = std::move(stops_[at]);
    stops_.erase(stops_.begin() + static_cast<std::ptrdiff_t>(at));
    chosen.request_stop();
  }

  std::vector<std::stop_source> stops_;
};

weft::options on(weft::upcall::source& source, std::uint64_t seed) {
  weft::options how;
  how.source = &source;
  how.switches_per_poll = 1 + static_cast<unsigned>(seed % 11);
  how.poll_interval = std::chrono::microseconds(seed % 3);
  return how;
}

void dawdle(stopping_source& kernel) {
  switch (kernel.below(4)) {
    case 0:
      return weft::this_thread::yield();
    case 1:
      return weft::this_thread::sleep_for(std::chrono::microseconds(kernel.below(20)));
    case 2: {
      weft::upcall::operation request;
      request.length = 1;
      static_cast<void>(weft::detail::perform(request));
      return;
    }
    default:
      return;
  }
}

// ---- barriers ----

// What a party at the barrier may see: the phases of all differ by less than one.
struct party {
  stopping_source& kernel;
  int phase = 0;    // completed
  int members = 0;  // who are to arrive in each phase from the next one on
  int due = 0;      // … in this one
  int arrived = 0;
  bool completing = false;

  void arrive(bool for_good) {
    CHECK_FALSE(completing);
    CHECK(++arrived <= due);
    if (for_good) --members;
  }
  void complete() noexcept {
    completing = true;
    CHECK(arrived == due);
    weft::this_thread::yield();
    arrived = 0;
    due = members;
    ++phase;
    completing = false;
  }
};

template <class Barrier> void take_part(party& all, Barrier& gate, int phases) {
  std::optional<int> arrived_in;  // and has not passed yet
  try {
    for (int i = 0; i < phases; ++i) {
      dawdle(all.kernel);
      arrived_in = all.phase;
      all.arrive(false);
      if (all.kernel.chance(2)) {
        gate.arrive_and_wait();
      } else {
        auto token = gate.arrive();
        if (all.kernel.chance(2)) dawdle(all.kernel);
        gate.wait(std::move(token));
      }
      CHECK(all.phase == *arrived_in + 1);
      arrived_in.reset();
    }
  } catch (const weft::cancelled&) {
    // It has arrived in this phase already, perhaps: then it can drop out in the next one only.
    const weft::shield until_it_is_over;
    while (arrived_in && all.phase == *arrived_in) weft::this_thread::sleep_for(1us);
    all.arrive(true);
    gate.arrive_and_drop();
    throw;
  }
  all.arrive(true);
  gate.arrive_and_drop();
}

// ---- notifications and stops ----

// A lock that may let others run at every step.
class restless_lock {
 public:
  explicit restless_lock(stopping_source& kernel) : kernel_(kernel) {}
  void lock() {
    if (kernel_.chance(3)) weft::this_thread::yield();
    inner_.lock();
    CHECK(++inside_ == 1);
    if (kernel_.chance(5)) weft::this_thread::yield();
  }
  void unlock() {
    --inside_;
    inner_.unlock();
    if (kernel_.chance(3)) weft::this_thread::yield();
  }

 private:
  stopping_source& kernel_;
  weft::mutex inner_;
  int inside_ = 0;
};

struct store {
  explicit store(stopping_source& k) : kernel(k), lock(k) {}
  stopping_source& kernel;
  restless_lock lock;
  weft::condition_variable_any filled;
  int items = 0;
  int made = 0;
  int taken = 0;
};

// One notification an item, as a program would do it: a lost one leaves somebody waiting for ever.
void produce(store& s, int count) {
  for (int i = 0; i < count; ++i) {
    dawdle(s.kernel);
    {
      const std::lock_guard hold(s.lock);
      ++s.items;
      ++s.made;
    }
    s.filled.notify_one();
  }
}

bool take_one(store& s, const std::stop_token& stop) {
  std::unique_lock hold(s.lock);
  const auto filled = [&s] { return s.items > 0; };
  bool there = false;
  if (s.kernel.chance(2)) {
    there = s.filled.wait(hold, stop, filled);
  } else {
    there = s.filled.wait_for(hold, stop, std::chrono::microseconds(s.kernel.below(30)), filled);
  }
  CHECK(hold.owns_lock());
  if (!there) return false;
  --s.items;
  ++s.taken;
  if (s.items > 0) s.filled.notify_one();  // a notification may have gone to one who gave up
  return true;
}

void consume(store& s, const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    static_cast<void>(take_one(s, stop));
    if (s.kernel.chance(3)) dawdle(s.kernel);
  }
}

}  // namespace

TEST_CASE("the phases of a barrier never mix, whoever drops out or is asked to end, for every schedule") {
  for (const std::uint64_t seed : seeds(1200)) {
    CAPTURE(seed);
    stopping_source source(seed);
    weft::run(on(source, seed), [&] {
      const int members = 1 + static_cast<int>(source.below(7));
      party all{.kernel = source, .members = members, .due = members};
      weft::barrier gate(members, [&all]() noexcept { all.complete(); });
      weft::latch over(members);
      std::vector<weft::thread> threads;
      for (int i = 0; i < members; ++i) {
        threads.emplace_back([&] {
          struct count_down {
            weft::latch& what;
            ~count_down() { what.count_down(); }
          } at_end{over};
          take_part(all, gate, static_cast<int>(source.below(12)));
        });
      }
      for (auto& t : threads) {
        if (source.chance(4)) dawdle(source);
        if (source.chance(4)) t.request_cancel();
      }
      over.wait();
      for (auto& t : threads) t.join();
      CHECK(all.members == 0);
      CHECK(all.arrived == 0);
    });
  }
}

TEST_CASE("no notification and no stop is lost, whatever the lock does and whoever asks, for every schedule") {
  for (const std::uint64_t seed : seeds(1200)) {
    CAPTURE(seed);
    stopping_source source(seed);
    weft::run(on(source, seed), [&] {
      store s(source);
      std::vector<std::stop_source> stops(3);
      std::vector<weft::thread> consumers;
      for (int i = 0; i < 6; ++i) {
        consumers.emplace_back([&s, token = stops[static_cast<std::size_t>(i) % 3].get_token()] { consume(s, token); });
      }
      std::vector<weft::thread> producers;
      for (int i = 0; i < 3; ++i) producers.emplace_back([&s] { produce(s, 10); });
      if (source.chance(2)) source.will_stop(stops[0]);
      for (auto& t : consumers) {
        if (source.chance(6)) t.request_cancel();
      }
      if (source.chance(4)) producers[0].request_cancel();
      for (auto& t : producers) t.join();
      dawdle(source);
      for (auto& stop : stops) {
        if (source.chance(2)) {
          source.will_stop(stop);
        } else {
          stop.request_stop();
        }
        if (source.chance(2)) dawdle(source);
      }
      for (auto& t : consumers) t.join();
      CHECK(s.items == s.made - s.taken);
    });
  }
}

TEST_CASE("who waits without end for an item gets it, as long as there are as many items as takers, for every schedule") {
  for (const std::uint64_t seed : seeds(1200)) {
    CAPTURE(seed);
    stopping_source source(seed);
    weft::run(on(source, seed), [&] {
      store s(source);
      std::stop_source impatient;
      source.will_stop(impatient);
      std::vector<weft::thread> threads;
      for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {  // gives up when it is stopped, and passes on what it was notified of
          std::unique_lock hold(s.lock);
          static_cast<void>(s.filled.wait(hold, impatient.get_token(), [] { return false; }));
          s.filled.notify_one();
        });
      }
      int got = 0;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
          for (int k = 0; k < 5; ++k) {
            std::unique_lock hold(s.lock);
            s.filled.wait(hold, [&s] { return s.items > 0; });
            --s.items;
            ++got;
            if (s.items > 0) s.filled.notify_one();
          }
        });
      }
      threads.emplace_back([&s] { produce(s, 20); });
      for (auto& t : threads) t.join();
      CHECK(got == 20);
      CHECK(s.items == 0);
    });
  }
}
