// Interleavings of takeover and hand-back, as many as 800 and 300 seeds find: threads that enter regions, block or not, call
// weft from inside, wait in their own code, are cancelled and throw, on simulated activations. Two threads of one scheduler
// never run at once, whatever step of the protocol a kernel thread stands at. Iterations are counted, never timed. WEFT_SEED=n
// repeats one.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "tests/simulated_activations.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

struct world {
  explicit world(simulated_kernel& k, bool all) : kernel(k), own_code(all) {}
  simulated_kernel& kernel;
  bool own_code;  // threads wait there too
  weft::mutex mutex;
  weft::channel<int> channel{2};
  weft::counting_semaphore<> permits{1};
  long sent = 0;
  long received = 0;
  int running = 0;  // ordinary code of threads: one at a time
  int regions = 0;
};

// Ordinary code of a thread, in the middle of which every other kernel thread may have its turn.
void ordinary(world& w) {
  CHECK(++w.running == 1);
  for (std::size_t steps = w.kernel.below(4); steps > 0; --steps) w.kernel.whose.step();
  CHECK(--w.running == 0);
}

// A system call, as far as the other kernel threads can tell.
void system_call(world& w) {
  for (std::size_t steps = w.kernel.below(8); steps > 0; --steps) w.kernel.whose.step();
}

void weft_call(world& w) {
  switch (w.kernel.below(7)) {
    case 0:
      return weft::this_thread::yield();
    case 1:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(20)));
    case 2: {
      const std::lock_guard hold(w.mutex);
      return weft::this_thread::yield();
    }
    case 3: {
      int one = 1;
      if (w.channel.try_send_for(one, 10us)) w.kernel.whose.step();
      return;
    }
    case 4:
      return static_cast<void>(w.channel.receive_for(10us));
    case 5: {
      if (w.permits.try_acquire_for(10us)) w.permits.release();
      return;
    }
    default: {
      weft::upcall::operation request;
      request.length = 3;
      const std::int32_t result = weft::detail::perform(request);
      CHECK(result == 3);
    }
  }
}

void region(world& w) {
  const weft::thread::id me = weft::this_thread::get_id();
  const int result = weft::blocking([&] {
    const auto here = std::this_thread::get_id();
    for (std::size_t parts = w.kernel.below(4); parts > 0; --parts) {
      system_call(w);
      if (w.kernel.chance(3)) weft_call(w);
      CHECK(std::this_thread::get_id() == here);
      CHECK(weft::this_thread::get_id() == me);
      if (w.kernel.chance(9)) throw std::runtime_error("out of a region");
    }
    return 7;
  });
  CHECK(result == 7);
  ++w.regions;
}

void live(world& w) {
  for (int i = 0; i < 8; ++i) {
    ordinary(w);
    if (w.own_code && w.kernel.chance(2)) w.kernel.wait_in_own_code();
    ordinary(w);
    try {
      if (w.kernel.chance(2)) {
        region(w);
      } else {
        weft_call(w);
      }
    } catch (const std::runtime_error&) {
      ordinary(w);
    }
  }
}

// @returns how often a thread was left behind.
unsigned play(std::uint64_t seed, bool own_code) {
  unsigned left = 0;
  simulated_kernel kernel(seed, own_code);
  weft::options how;
  how.source = &kernel;
  how.activations = own_code ? weft::activations::all : weft::activations::regions;
  how.switches_per_poll = 1 + static_cast<unsigned>(seed % 7);
  how.max_activations = 2 + static_cast<std::uint32_t>(seed % 4);
  weft::run(how, [&] {
    world w(kernel, own_code);
    std::vector<weft::thread> threads;
    for (int i = 0; i < 5; ++i) threads.emplace_back([&w] { live(w); });
    for (weft::thread& t : threads) {
      if (kernel.chance(6)) t.request_cancel();
    }
    for (weft::thread& t : threads) t.join();
    CHECK(w.running == 0);
    CHECK(w.mutex.try_lock());
    w.mutex.unlock();
    using weft::upcall::cause;
    using weft::upcall::kind;
    const weft::upcall::tally counts = weft::upcall::counts();
    for (const cause why : {cause::region, cause::call, cause::page_fault}) {
      CHECK(counts.of(kind::blocked, why) == counts.of(kind::unblocked, why));
      left += static_cast<unsigned>(counts.of(kind::blocked, why));
    }
    CHECK(kernel.pending() == 0);
  });
  return left;
}

}  // namespace

TEST_CASE("two threads of a scheduler never run at once, at whatever step the processor changes hands") {
  unsigned left = 0;
  for (const std::uint64_t seed : seeds(800)) {
    CAPTURE(seed);
    left += play(seed, false);
  }
  CHECK((left > 1000 || seeds(800).size() == 1));
}

TEST_CASE("nor where threads that wait in their own code are left behind, and stopped when they go on") {
  unsigned left = 0;
  for (const std::uint64_t seed : seeds(300)) {
    CAPTURE(seed);
    left += play(seed, true);
  }
  CHECK((left > 1000 || seeds(300).size() == 1));
}
