// Seeded schedules: programs that use everything at once on a simulated kernel whose completions come in any order, with
// deadlines, cancellations and inline completions thrown in. Iterations are counted, never timed. WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <numeric>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

// Everything the threads share, with the figures that must come out right.
struct world {
  explicit world(simulated_source& k) : kernel(k) {}
  simulated_source& kernel;
  weft::mutex mutex;
  weft::condition_variable changed;
  weft::counting_semaphore<> permits{2};
  weft::channel<int> buffered{3};
  weft::channel<int> unbuffered;
  int inside_mutex = 0;
  int inside_semaphore = 0;
  long sent = 0;
  long received = 0;
  int generation = 0;
};

// One permit, given back whatever happens meanwhile.
class permit {
 public:
  explicit permit(world& w) : world_(w) {
    world_.permits.acquire();
    CHECK(++world_.inside_semaphore <= 2);
  }
  ~permit() {
    --world_.inside_semaphore;
    world_.permits.release();
  }
  permit(const permit&) = delete;
  permit& operator=(const permit&) = delete;

 private:
  world& world_;
};

void use_kernel(world& w) {
  weft::upcall::operation request;
  request.length = 5;
  const bool hurry = w.kernel.chance(3);
  const std::int32_t result =
      weft::detail::perform(request, hurry ? weft::detail::now() + std::chrono::microseconds(w.kernel.below(5)) : weft::never);
  CHECK((result == 5 || (hurry && result == -ETIMEDOUT)));
}

void use_mutex(world& w) {
  const std::lock_guard hold(w.mutex);
  CHECK(++w.inside_mutex == 1);
  if (w.kernel.chance(2)) {
    try {
      use_kernel(w);
    } catch (...) {
      --w.inside_mutex;
      throw;
    }
  }
  --w.inside_mutex;
}

void use_condition(world& w) {
  std::unique_lock hold(w.mutex);
  const int seen = w.generation;
  w.changed.wait_for(hold, 10us, [&] { return w.generation != seen; });
  CHECK(hold.owns_lock());
  ++w.generation;
  if (w.kernel.chance(2))
    w.changed.notify_all();
  else
    w.changed.notify_one();
}

void send(world& w, weft::channel<int>& to) {
  int value = static_cast<int>(w.kernel.below(1000));
  const int sent = value;
  if (to.try_send_for(value, std::chrono::microseconds(w.kernel.below(20)))) w.sent += sent;
}

void receive(world& w, weft::channel<int>& from) {
  if (const auto value = from.receive_for(std::chrono::microseconds(w.kernel.below(20)))) w.received += *value;
}

void act(world& w) {
  switch (w.kernel.below(9)) {
    case 0:
      return use_kernel(w);
    case 1:
      return use_mutex(w);
    case 2:
      return use_condition(w);
    case 3:
      return send(w, w.buffered);
    case 4:
      return send(w, w.unbuffered);
    case 5:
      return receive(w, w.buffered);
    case 6:
      return receive(w, w.unbuffered);
    case 7:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(30)));
    default: {
      const permit p(w);
      weft::this_thread::yield();
      use_kernel(w);
    }
  }
}

void live(world& w, int depth) {
  for (int step = 0; step < 12; ++step) {
    act(w);
    if (depth < 2 && w.kernel.chance(6)) {
      weft::thread child({.start = w.kernel.chance(2) ? weft::start::now : weft::start::later},
                         [&w, depth] { live(w, depth + 1); });
      if (w.kernel.chance(4)) child.request_cancel();
      weft::jthread joins_when_unwound([t = std::move(child)]() mutable { t.join(); });
    }
  }
}

}  // namespace

TEST_CASE("programs that use everything at once come out right for every schedule") {
  for (const std::uint64_t seed : seeds(3000)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(seed % 13);
    how.poll_interval = std::chrono::microseconds(seed % 3);
    weft::run(how, [&] {
      world w(source);
      std::vector<weft::thread> threads;
      for (int i = 0; i < 6; ++i) {
        threads.emplace_back([&w] { live(w, 0); });
      }
      for (auto& t : threads) {
        if (source.chance(8)) t.request_cancel();
      }
      for (auto& t : threads) t.join();
      while (const auto left = w.buffered.try_receive()) w.received += *left;
      CHECK(w.sent == w.received);
      CHECK(w.inside_mutex == 0);
      CHECK(w.inside_semaphore == 0);
      CHECK(w.mutex.try_lock());
      w.mutex.unlock();
      const weft::upcall::tally counts = weft::upcall::counts();
      CHECK(counts.of(weft::upcall::kind::blocked) == counts.of(weft::upcall::kind::unblocked));
      CHECK(source.pending() == 0);
    });
  }
}
