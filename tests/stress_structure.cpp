// Seeded schedules of structure: nurseries in nurseries, scopes, deadlines and shields in them, with waits of every kind,
// exceptions and cancellations, on a simulated kernel. Nobody is left behind, nobody waits for ever. WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/nursery.hpp"
#include "weft/select.hpp"

using namespace std::chrono_literals;

namespace {

struct failure : std::runtime_error {
  failure() : std::runtime_error("by lot") {}
};

struct world {
  explicit world(simulated_source& k) : kernel(k) {}
  simulated_source& kernel;
  weft::mutex mutex;
  weft::channel<int> channel{1};
  int alive = 0;
  int inside = 0;
  int shielded = 0;
};

struct counted {
  int& count;
  explicit counted(int& c) : count(c) { ++count; }
  ~counted() { --count; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
};

std::chrono::microseconds moment(world& w) { return std::chrono::microseconds(w.kernel.below(40)); }

void wait(world& w) {
  std::optional<int> got;
  switch (w.kernel.below(6)) {
    case 0: return weft::this_thread::sleep_for(moment(w));
    case 1: {
      const std::lock_guard hold(w.mutex);
      const counted here(w.inside);
      CHECK(w.inside == 1);
      return weft::this_thread::sleep_for(moment(w));
    }
    case 2: return static_cast<void>(w.channel.try_send_for(1, moment(w)));
    case 3: return static_cast<void>(w.channel.receive_for(moment(w)));
    case 4: return static_cast<void>(weft::select(weft::on_receive(w.channel, got), weft::on_timeout(moment(w))));
    default: {
      weft::upcall::operation request;
      request.length = 5;
      const std::int32_t result = weft::detail::perform(request);  // not in a CHECK, which catches what it throws
      CHECK(result == 5);
    }
  }
}

void live(world& w, int depth);

// What is asked from outside must not be felt in it.
void be_shielded(world& w) {
  const weft::shield whole;
  const counted here(w.shielded);
  CHECK_FALSE(weft::this_thread::cancel_requested());
  bool ended = true;
  try {
    wait(w);
  } catch (const weft::cancelled&) {
    ended = false;
  }
  CHECK(ended);
}

void have_children(world& w, int depth) {
  weft::nursery n;
  std::vector<weft::nursery::result<int>> values;
  const auto count = 1 + w.kernel.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    const weft::attributes how{.start = w.kernel.chance(2) ? weft::start::now : weft::start::later};
    n.spawn(how, [&w, depth] { live(w, depth + 1); });
    values.push_back(n.start([&w] {
      wait(w);
      return 7;
    }));
  }
  if (w.kernel.chance(4)) n.request_cancel();
  if (w.kernel.chance(3)) return;  // its destructor ends them
  if (w.kernel.chance(2)) static_cast<void>(weft::with_timeout(moment(w), [&] { return values.front().get(); }));
  n.join();
  CHECK(n.size() == 0);
}

void act(world& w, int depth) {
  switch (w.kernel.below(6)) {
    case 0: return static_cast<void>(weft::with_timeout(moment(w), [&] { wait(w); }));
    case 1: return be_shielded(w);
    case 2:
      if (depth < 3) have_children(w, depth);
      return;
    case 3:
      if (w.kernel.chance(4)) throw failure();
      return;
    default: return wait(w);
  }
}

void live(world& w, int depth) {
  const counted here(w.alive);
  for (int step = 0; step < 6; ++step) act(w, depth);
}

}  // namespace

TEST_CASE("nurseries and scopes leave nobody behind and shield what is shielded, for every schedule") {
  for (const std::uint64_t seed : seeds(1000)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(seed % 9);
    weft::run(how, [&] {
      world w(source);
      for (int i = 0; i < 3; ++i) {
        try {
          const bool whole = weft::with_timeout(400us, [&] { weft::with_nursery([&](weft::nursery& n) {
            for (int j = 0; j < 4; ++j) n.spawn([&w] { live(w, 0); });
            act(w, 1);
          }); });
          static_cast<void>(whole);
        } catch (const failure&) {
        }
        CHECK(w.alive == 0);
        CHECK(w.inside == 0);
        CHECK(w.shielded == 0);
        CHECK_FALSE(weft::this_thread::cancel_requested());
      }
    });
  }
}
