// Seeded schedules of the locks: writers, readers, timed and untimed, recursive, several at once, with deadlines and
// cancellations at every place. Iterations are counted, never timed. WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/call_once.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

namespace {

// Who is inside a lock now. What is wrong is kept, and checked once for each seed: doctest's checks are slow.
struct room {
  int alone = 0;
  int sharing = 0;
  std::uint32_t owner = 0;
  bool broken = false;

  void enter_alone() {
    const std::uint32_t self = weft::this_thread::get_id().number();
    broken |= sharing != 0 || (alone != 0 && owner != self);
    owner = self;
    ++alone;
  }
  void leave_alone() {
    broken |= owner != weft::this_thread::get_id().number() || sharing != 0;
    --alone;
  }
  void enter_shared() {
    broken |= alone != 0;
    ++sharing;
  }
  void leave_shared() {
    broken |= alone != 0;
    --sharing;
  }
  [[nodiscard]] bool left_in_order() const { return !broken && alone == 0 && sharing == 0; }
};

// While one exists, its thread is in the room of a lock that it holds; the lock is given back whatever happens inside.
template <class Lock> class stay {
 public:
  stay(Lock& lock, room& r) : lock_(lock), room_(r) { room_.enter_alone(); }
  ~stay() {
    room_.leave_alone();
    lock_.unlock();
  }
  stay(const stay&) = delete;
  stay& operator=(const stay&) = delete;

 private:
  Lock& lock_;
  room& room_;
};
template <class Lock> class visit {
 public:
  visit(Lock& lock, room& r) : lock_(lock), room_(r) { room_.enter_shared(); }
  ~visit() {
    room_.leave_shared();
    lock_.unlock_shared();
  }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;

 private:
  Lock& lock_;
  room& room_;
};

template <class Lock> struct locked_room {
  Lock lock;
  room inside;
};

struct world {
  explicit world(simulated_source& k) : kernel(k) {}
  simulated_source& kernel;
  locked_room<weft::timed_mutex> timed;
  locked_room<weft::recursive_timed_mutex> recursive;
  locked_room<weft::shared_timed_mutex> shared[2];
  weft::once_flag once;
  int calls_under_way = 0;
  int calls_returned = 0;
  bool call_broken = false;
  int got = 0;
};

// What happens while a lock is held: nothing, a turn for others, time, the kernel.
void linger(world& w) {
  switch (w.kernel.below(5)) {
    case 0:
      return;
    case 1:
    case 2:
      return weft::this_thread::yield();
    case 3:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(10)));
    default: {
      weft::upcall::operation request;
      request.length = 5;
      static_cast<void>(weft::detail::perform(request));
    }
  }
}

// Takes a lock alone in one of the ways there are; false when it was not to be had.
template <class Lock> bool take(world& w, Lock& lock) {
  const std::chrono::microseconds patience(static_cast<int>(w.kernel.below(20)) - 3);
  switch (w.kernel.below(4)) {
    case 0:
      return lock.try_lock();
    case 1:
      return lock.try_lock_for(patience);
    case 2:
      return lock.try_lock_until(weft::detail::now() + patience);
    default:
      lock.lock();
      return true;
  }
}

bool take_shared(world& w, weft::shared_timed_mutex& lock) {
  const std::chrono::microseconds patience(static_cast<int>(w.kernel.below(20)) - 3);
  switch (w.kernel.below(4)) {
    case 0:
      return lock.try_lock_shared();
    case 1:
      return lock.try_lock_shared_for(patience);
    case 2:
      return lock.try_lock_shared_until(weft::detail::now() + patience);
    default:
      lock.lock_shared();
      return true;
  }
}

template <class Lock> void be_alone(world& w, locked_room<Lock>& r) {
  if (!take(w, r.lock)) return;
  const stay<Lock> here(r.lock, r.inside);
  ++w.got;
  linger(w);
}

void share(world& w, locked_room<weft::shared_timed_mutex>& r) {
  if (!take_shared(w, r.lock)) return;
  const visit<weft::shared_timed_mutex> here(r.lock, r.inside);
  ++w.got;
  linger(w);
}

void go_deeper(world& w, int levels) {
  if (levels == 0 || !take(w, w.recursive.lock)) return;
  const stay<weft::recursive_timed_mutex> here(w.recursive.lock, w.recursive.inside);
  linger(w);
  go_deeper(w, levels - 1);
}

// Both locks of two, in either order, alone or shared, by std::lock.
void take_both(world& w) {
  const std::size_t first = w.kernel.below(2);
  locked_room<weft::shared_timed_mutex>& one = w.shared[first];
  locked_room<weft::shared_timed_mutex>& two = w.shared[1 - first];
  if (w.kernel.chance(2)) {
    std::lock(one.lock, two.lock);
    const stay<weft::shared_timed_mutex> in_one(one.lock, one.inside);
    const stay<weft::shared_timed_mutex> in_two(two.lock, two.inside);
    linger(w);
  } else {
    std::shared_lock read(one.lock, std::defer_lock);
    std::lock(read, two.lock);
    read.release();
    const visit<weft::shared_timed_mutex> in_one(one.lock, one.inside);
    const stay<weft::shared_timed_mutex> in_two(two.lock, two.inside);
    linger(w);
  }
}

void call(world& w) {
  struct under_way {
    world& of;
    explicit under_way(world& w) : of(w) { of.call_broken |= ++of.calls_under_way != 1 || of.calls_returned != 0; }
    ~under_way() { --of.calls_under_way; }
  };
  try {
    weft::call_once(w.once, [&w] {
      const under_way now(w);
      linger(w);
      if (w.kernel.chance(2)) throw std::runtime_error("not this time");
      ++w.calls_returned;
    });
    w.call_broken |= w.calls_returned != 1;
  } catch (const std::runtime_error&) {
  }
}

void act(world& w) {
  switch (w.kernel.below(10)) {
    case 0:
      return be_alone(w, w.timed);
    case 1:
      return go_deeper(w, 3);
    case 2:
    case 3:
      return be_alone(w, w.shared[w.kernel.below(2)]);
    case 4:
    case 5:
    case 6:
      return share(w, w.shared[w.kernel.below(2)]);
    case 7:
      return take_both(w);
    case 8:
      return call(w);
    default:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(10)));
  }
}

void check(world& w) {
  CHECK(w.timed.inside.left_in_order());
  CHECK(w.recursive.inside.left_in_order());
  CHECK_FALSE(w.call_broken);
  CHECK(w.calls_under_way == 0);
  CHECK(w.calls_returned <= 1);
  CHECK(w.timed.lock.try_lock());
  w.timed.lock.unlock();
  CHECK(w.recursive.lock.try_lock());
  w.recursive.lock.unlock();
  for (auto& [lock, inside] : w.shared) {
    CHECK(inside.left_in_order());
    CHECK(lock.try_lock());
    lock.unlock();
  }
}

weft::options schedule_of(std::uint64_t seed, simulated_source& source) {
  weft::options how;
  how.source = &source;
  how.switches_per_poll = 1 + static_cast<unsigned>(seed % 13);
  how.poll_interval = std::chrono::microseconds(seed % 3);
  return how;
}

}  // namespace

TEST_CASE("locks of every kind keep their promises for every schedule, whoever is cancelled or gives up") {
  int got = 0;
  for (const std::uint64_t seed : seeds(1500)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::run(schedule_of(seed, source), [&] {
      world w(source);
      std::vector<weft::thread> threads;
      for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&w] {
          for (int step = 0; step < 15; ++step) act(w);
        });
      }
      while (source.chance(2)) {
        weft::this_thread::sleep_for(std::chrono::microseconds(source.below(20)));
        threads[source.below(threads.size())].request_cancel();
      }
      for (auto& t : threads) t.join();
      check(w);
      CHECK(source.pending() == 0);
      got += w.got;
    });
  }
  CHECK(got > 0);
}

// Everybody counts the entries that others made while it waited: with first come, first served that is no more than those before
// it, and never depends on how long the others go on. Only blocking locks: a try_lock may come before.
TEST_CASE("nobody is overtaken by those who came later, for every schedule") {
  for (const std::uint64_t seed : seeds(500)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::run(schedule_of(seed, source), [&] {
      world w(source);
      weft::shared_timed_mutex& lock = w.shared[0].lock;
      room& inside = w.shared[0].inside;
      constexpr int crowd = 10;
      long entries = 0;
      long worst = 0;
      int given_up = 0;
      std::vector<weft::thread> threads;
      for (int i = 0; i < crowd; ++i) {
        threads.emplace_back([&] {
          for (int k = 0; k < 20; ++k) {
            const long before = entries;
            const bool writes = source.chance(3);
            const std::chrono::microseconds patience(1 + source.below(40));
            const bool came_in = writes ? lock.try_lock_for(patience) : lock.try_lock_shared_for(patience);
            worst = std::max(worst, entries - before);
            if (!came_in) {
              ++given_up;
              continue;
            }
            ++entries;
            if (writes) {
              const stay<weft::shared_timed_mutex> here(lock, inside);
              linger(w);
            } else {
              const visit<weft::shared_timed_mutex> here(lock, inside);
              linger(w);
            }
          }
        });
      }
      for (auto& t : threads) t.join();
      // Each of the others once before it, and once more: in a batch of readers, or while the one who was served or gave up
      // was ready and had not run yet.
      CHECK(worst <= 2 * crowd);
      CHECK(inside.left_in_order());
      CHECK(entries + given_up == crowd * 20);
      check(w);
    });
  }
}
