// Seeded schedules of selects: threads that send, receive, take permits, wait for times and for results by select and without, on
// channels of every kind, with cancellations, on a simulated kernel. Results come from threads and from kernel threads. No value
// and no permit is lost or made, and nobody is told of a result that is not there. WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/future.hpp"
#include "weft/select.hpp"

using namespace std::chrono_literals;

namespace {

struct result {
  std::optional<weft::promise<int>> promise{std::in_place};
  weft::shared_future<int> future = promise->get_future().share();
};

struct world {
  explicit world(simulated_source& k) : kernel(k) {}
  simulated_source& kernel;
  std::array<weft::channel<int>, 4> channels{weft::channel<int>(0), weft::channel<int>(0), weft::channel<int>(1),
                                             weft::channel<int>(3)};
  weft::counting_semaphore<> permits{2};
  long sent = 0;
  long received = 0;
  int inside = 0;

  std::array<result, 3> results;

  weft::channel<int>& any() { return channels[kernel.below(channels.size())]; }
};

void take_permit_back(world& w) {
  CHECK(++w.inside <= 2);
  weft::this_thread::yield();
  --w.inside;
  w.permits.release();
}

// Gives a result, from here or from a kernel thread, whose word then arrives later than the result; a new one takes its place.
void give_result(world& w) {
  result& of = w.results[w.kernel.below(w.results.size())];
  if (w.kernel.chance(2)) {
    std::thread([&] { of.promise->set_value(42); }).join();
  } else if (w.kernel.chance(2)) {
    of.promise->set_value(42);
  }
  of = result();
}

void compare(const weft::shared_future<int>& of) {
  const auto status = of.wait_until(weft::time_point::min());
  CHECK(status == weft::future_status::ready);
  try {
    const int got = of.get();  // what CHECK evaluates it also catches
    CHECK(got == 42);
  } catch (const weft::future_error& error) {
    CHECK(error.code() == weft::future_errc::broken_promise);
  }
}

// What became of a case is known by its index alone.
struct list {
  explicit list(world& of) : w(of) {}

  void add() {
    const std::size_t place = cases.size();
    switch (w.kernel.below(7)) {
      case 0:
      case 1:
        cases.push_back(weft::on_receive(w.any(), got[place]));
        return kinds.push_back('r');
      case 2:
      case 3:
        values[place] = 1 + static_cast<int>(w.kernel.below(1000));
        cases.push_back(weft::on_send(w.any(), values[place]));
        return kinds.push_back('s');
      case 4:
      case 5:
        waited_for[place] = w.results[w.kernel.below(w.results.size())].future;
        cases.push_back(weft::on_ready(waited_for[place]));
        return kinds.push_back('f');
      default:
        cases.push_back(w.kernel.chance(3) ? weft::select_case() : weft::on_acquire(w.permits));
        return kinds.push_back('p');
    }
  }

  void settle(std::size_t chosen) {
    const char kind = chosen < kinds.size() ? kinds[chosen] : 't';
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i].has_value() == (i == chosen && kind == 'r'));
    if (kind == 'r') w.received += *got[chosen];
    if (kind == 's') w.sent += values[chosen];
    if (kind == 'p') take_permit_back(w);
    if (kind == 'f') compare(waited_for[chosen]);
  }

  static constexpr std::size_t most = 6;
  world& w;
  std::vector<weft::select_case> cases;
  std::vector<char> kinds;
  std::array<std::optional<int>, most + 1> got;
  std::array<int, most + 1> values{};
  std::array<weft::shared_future<int>, most + 1> waited_for;
};

void select_once(world& w) {
  list all(w);
  const std::size_t count = 1 + w.kernel.below(list::most);
  for (std::size_t i = 0; i < count; ++i) all.add();
  all.cases.push_back(w.kernel.chance(4) ? weft::otherwise() : weft::on_timeout(std::chrono::microseconds(w.kernel.below(40))));
  all.settle(weft::select(all.cases));
}

void act(world& w) {
  switch (w.kernel.below(8)) {
    case 6:
    case 7:
      return give_result(w);
    case 0: {
      int value = 1 + static_cast<int>(w.kernel.below(1000));
      const int sent = value;
      if (w.any().try_send_for(value, 20us)) w.sent += sent;
      return;
    }
    case 1:
      if (const auto value = w.any().receive_for(20us)) w.received += *value;
      return;
    case 2:
      if (w.permits.try_acquire_for(10us)) take_permit_back(w);
      return;
    default:
      return select_once(w);
  }
}

}  // namespace

TEST_CASE("selects lose nothing, make nothing, and choose one, for every schedule") {
  for (const std::uint64_t seed : seeds(1500)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(seed % 11);
    weft::run(how, [&] {
      world w(source);
      std::vector<weft::thread> threads;
      for (int i = 0; i < 7; ++i) {
        threads.emplace_back([&w] {
          for (int step = 0; step < 15; ++step) act(w);
        });
      }
      for (auto& t : threads) {
        if (source.chance(5)) t.request_cancel();
      }
      for (auto& t : threads) t.join();
      for (auto& each : w.channels) {
        while (const auto left = each.try_receive()) w.received += *left;
      }
      CHECK(w.sent == w.received);
      CHECK(w.permits.try_acquire());
      CHECK(w.permits.try_acquire());
      CHECK_FALSE(w.permits.try_acquire());
    });
  }
}
