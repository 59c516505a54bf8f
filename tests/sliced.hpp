// What the tests of time slices share. Sliced threads are interrupted anywhere, so they only count what is wrong: a CHECK takes
// locks that another thread of the same kernel thread would wait for.
#pragma once

#include <time.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/captured_errors.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

inline weft::options sliced(std::chrono::microseconds slice = std::chrono::microseconds(100)) {
  weft::options how;
  how.time_slice = slice;
  return how;
}

/// Why no thread is preempted here; "" where they are.
inline const std::string& no_slices() {
  static const std::string why = [] {
    const captured_errors errors;
    weft::run(sliced(), [] {});
    return errors.text();
  }();
  return why;
}

/// Keeps the core busy without a call.
[[gnu::always_inline]] inline void compute(int rounds) {
  for (int i = 0; i < rounds; ++i) asm volatile("" ::: "memory");
}

/// Computes until the calling kernel thread has had the core for so long.
inline void compute_for(std::chrono::nanoseconds span) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
  };
  for (const std::int64_t end = now() + span.count(); now() < end;) compute(20'000);
}

/// Enough for some ticks, also where the kernel's own decide.
inline constexpr std::chrono::milliseconds several_slices{60};

/// Counts in a thread what must not happen; asked when all is over.
class mistakes {
 public:
  void unless(bool right) { count_.fetch_add(right ? 0 : 1, std::memory_order_relaxed); }
  [[nodiscard]] int count() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int> count_{0};
};

/// Runs `fn(number)` in so many threads with time slices, beside one that does nothing but compute, and returns when all of the
/// former have ended.
inline void beside_a_cruncher(int threads, const std::function<void(int)>& fn) {
  std::atomic<bool> over{false};
  weft::thread cruncher({.name = "crunch", .time_slice = true}, [&] {
    while (!over.load(std::memory_order_relaxed)) compute(1000);
  });
  std::vector<weft::thread> all;
  for (int i = 0; i < threads; ++i) all.emplace_back(weft::attributes{.name = "sliced", .time_slice = true}, [&fn, i] { fn(i); });
  for (weft::thread& t : all) t.join();
  over.store(true, std::memory_order_relaxed);
  cruncher.join();
}

[[nodiscard]] inline std::uint64_t preemptions() {
  return weft::upcall::counts().of(weft::upcall::kind::preempted, weft::upcall::cause::time_slice);
}
