// every-privilege
// Locks in regions of weft::blocking, on the real kernel: a region runs in parallel with all other threads, so what a lock
// protects is plain memory that only the lock keeps in order (ThreadSanitizer looks on). Iterations are counted, never timed.
#include <doctest/doctest.h>
#include <poll.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <vector>

#include "weft/blocking.hpp"
#include "weft/call_once.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/shared_mutex.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

struct world {
  weft::shared_timed_mutex shared;
  weft::recursive_timed_mutex recursive;
  long written = 0;  // under `shared`
  long counted = 0;  // under `recursive`
  std::atomic<int> writers = 0;
  std::atomic<int> readers = 0;
  std::atomic<bool> broken = false;
  std::array<weft::once_flag, 40> flags;
  std::array<long, 40> once{};

  void check(bool holds) {
    if (!holds) broken = true;
  }
};

// One thread's choices.
class actor {
 public:
  actor(world& w, unsigned seed) : world_(w), random_(seed) {}

  void live(int steps) {
    for (int step = 0; step < steps; ++step) {
      if (chance(3)) {
        act(step);
      } else {
        weft::blocking([&] { act(step); });
      }
    }
  }
  [[nodiscard]] long writes() const { return writes_; }
  [[nodiscard]] long counts() const { return counts_; }

 private:
  bool chance(unsigned one_in) { return random_() % one_in == 0; }

  // Work, the kernel, or another thread's turn.
  void linger() {
    if (chance(6)) {
      static_cast<void>(::poll(nullptr, 0, 1));
    } else if (chance(2)) {
      ::sched_yield();
    } else {
      weft::this_thread::yield();
    }
  }

  void act(int step) {
    if (chance(3)) return write();
    if (chance(3)) return count(3);
    if (chance(4)) return make_once(static_cast<std::size_t>(step) % world_.flags.size());
    read();
  }

  void write() {
    const std::unique_lock hold(world_.shared, chance(2) ? 1h : 50us);
    if (!hold.owns_lock()) return;
    world_.check(world_.writers.fetch_add(1) == 0 && world_.readers == 0);
    ++world_.written;
    ++writes_;
    linger();
    --world_.writers;
  }

  void read() {
    const std::shared_lock hold(world_.shared, chance(2) ? 1h : 50us);
    if (!hold.owns_lock()) return;
    ++world_.readers;
    const long before = world_.written;
    linger();
    world_.check(world_.writers == 0 && world_.written == before);
    --world_.readers;
  }

  void count(int levels) {
    const std::lock_guard hold(world_.recursive);
    ++world_.counted;
    ++counts_;
    linger();
    if (levels > 1) count(levels - 1);
  }

  void make_once(std::size_t which) {
    try {
      weft::call_once(world_.flags[which], [&] {
        linger();
        if (chance(3)) throw which;
        ++world_.once[which];
      });
      world_.check(world_.once[which] == 1);
    } catch (std::size_t) {
    }
  }

  world& world_;
  std::minstd_rand random_;
  long writes_ = 0;
  long counts_ = 0;
};

}  // namespace

TEST_CASE("locks keep regions apart that run in parallel, and order what they protect") {
  weft::run([] {
    world w;
    std::vector<actor> actors;
    for (unsigned i = 0; i < 12; ++i) actors.emplace_back(w, i + 1);
    std::vector<weft::thread> threads;
    for (actor& a : actors) {
      threads.emplace_back([&a] { a.live(40); });
    }
    for (weft::thread& t : threads) t.join();
    long writes = 0;
    long counts = 0;
    for (const actor& a : actors) {
      writes += a.writes();
      counts += a.counts();
    }
    CHECK_FALSE(w.broken);
    CHECK(w.written == writes);
    CHECK(w.counted == counts);
    CHECK(writes > 0);
    CHECK(w.shared.try_lock());
    w.shared.unlock();
    CHECK(w.recursive.try_lock());
    w.recursive.unlock();
  });
}
