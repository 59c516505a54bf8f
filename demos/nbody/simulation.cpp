#include "simulation.hpp"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>
#include <weft/blocking.hpp>
#include <weft/condition_variable.hpp>
#include <weft/mutex.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

#include "buffer_cache.hpp"
#include "galaxy.hpp"

namespace {

// What stands for the disk: a system call that blocks its kernel thread.
void block_in_the_kernel(std::chrono::nanoseconds time) {
  timespec left{time / std::chrono::seconds(1), (time % std::chrono::seconds(1)).count()};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

struct kernel_level {
  using thread = std::thread;
  using mutex = std::mutex;
  using condition_variable = std::condition_variable;
  static void wait_for_disk(std::chrono::nanoseconds time) { block_in_the_kernel(time); }
};

struct user_level {
  using thread = weft::thread;
  using mutex = weft::mutex;
  using condition_variable = weft::condition_variable;
  static void wait_for_disk(std::chrono::nanoseconds time) { block_in_the_kernel(time); }
};

struct user_level_with_upcalls : user_level {
  static void wait_for_disk(std::chrono::nanoseconds time) {
    weft::blocking([time] { block_in_the_kernel(time); });
  }
};

// A thread for each group of bodies, so many at once: it walks the tree for each of them, and every cell it looks at is asked
// of the cache.
// Every other step goes through the plane the other way, so that it begins with what is in memory still.
template <class Level>
void compute_pulls(const problem& wanted, int step, const galaxy& bodies, buffer_cache<Level>& cache,
                   std::vector<vector2>& pulls) {
  const std::size_t cells_a_page = (bodies.cells().size() + cache.pages() - 1) / cache.pages();
  const std::size_t groups = (bodies.size() + wanted.group - 1) / wanted.group;
  std::vector<typename Level::thread> threads;
  threads.reserve(groups);
  for (std::size_t turn = 0; turn < groups; ++turn) {
    const std::size_t first = (step % 2 == 0 ? turn : groups - 1 - turn) * wanted.group;
    if (turn >= wanted.at_once) threads[turn - wanted.at_once].join();
    threads.emplace_back([&, first] {
      for (std::size_t i = first; i < std::min(first + wanted.group, bodies.size()); ++i) {
        pulls[i] = bodies.pull_on(i, [&](std::uint32_t cell) { cache.touch(cell / cells_a_page); });
      }
    });
  }
  for (auto& each : threads) {
    if (each.joinable()) each.join();
  }
}

template <class Level> run_result run(const problem& wanted) {
  galaxy bodies(wanted.bodies, 1);
  const std::size_t frames = std::max<std::size_t>(wanted.pages * wanted.memory_percent / 100, 1);
  buffer_cache<Level> cache(wanted.pages, frames, wanted.disk_time);
  std::vector<vector2> pulls(bodies.size());
  const auto start = std::chrono::steady_clock::now();
  for (int step = 0; step < wanted.steps; ++step) {
    compute_pulls(wanted, step, bodies, cache, pulls);
    bodies.move(pulls);
  }
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  return {taken.count(), cache.misses(), bodies.fingerprint()};
}

}  // namespace

// Stacks of 256 KiB, as weft's are: then glibc keeps and reuses those of threads that ended, instead of asking the kernel for
// 8 MiB each time, which would make kernel threads look five times as dear.
run_result run_on_kernel_threads(const problem& wanted) {
  pthread_attr_t usual;
  pthread_attr_t small;
  ::pthread_getattr_default_np(&usual);
  ::pthread_getattr_default_np(&small);
  ::pthread_attr_setstacksize(&small, 256 * 1024);
  ::pthread_setattr_default_np(&small);
  const run_result made = run<kernel_level>(wanted);
  ::pthread_setattr_default_np(&usual);
  ::pthread_attr_destroy(&small);
  ::pthread_attr_destroy(&usual);
  return made;
}
run_result run_without_upcalls(const problem& wanted) {
  return weft::run([&] { return run<user_level>(wanted); });
}
run_result run_with_upcalls(const problem& wanted) {
  return weft::run([&] { return run<user_level_with_upcalls>(wanted); });
}
