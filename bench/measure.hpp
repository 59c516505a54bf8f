// What every bench program measures with: time, CPU, memory, and a place to run.
//
// All figures of one program come from one process pinned to one core. Times are of the monotonic clock; CPU is what the
// kernel charged to all kernel threads of the process, so work handed to helpers is paid for too.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

inline constexpr int measured_core = 0;  // the system under test runs here
inline constexpr int load_core = 1;      // load generators run here

/// Confines the calling kernel thread, and those it starts, to `core`; says so on stderr if the machine has no such core.
void pin_to_core(int core);

/// Undoes `pin_to_core`, as far as the two cores that are measured on go, for the calling kernel thread and those it starts.
void use_both_cores();

/// Raises the limit of open descriptors as far as this user may.
void raise_descriptor_limit();

/// What WEFT_BENCH_OPERATIONS in the environment says; 0: nothing. For tests, and for tools that count instructions
/// (valgrind --tool=callgrind), to which a row must do the same work every time.
long operations_asked_for();

/// How many of something a row makes: `usual`, or as many as are asked for if that is less.
inline long at_most_asked_for(long usual) {
  const long asked = operations_asked_for();
  return asked > 0 ? std::min(usual, asked) : usual;
}

/// Nanoseconds of the monotonic clock.
std::int64_t now_ns();

/// User and system CPU time of this process so far, in nanoseconds.
double cpu_ns();

/// Resident memory and page tables of this process, in bytes (VmRSS + VmPTE).
double memory_bytes();

/// Ends the program with a sentence on stderr and exit status 1.
[[noreturn]] void fail(const std::string& sentence);

/// Ends the program with `what` and the text of errno.
[[noreturn]] void fail_with_errno(const std::string& what);

/// Descriptors that this process has open.
long open_descriptors();

/// Bytes that malloc has given out and not got back.
std::size_t heap_bytes();

/// Makes the compiler believe that `object` is read and written here, so that a loop around it is really executed.
template <class T> inline void keep(T& object) { asm volatile("" : : "g"(&object) : "memory"); }

/// The value that `percent` of all `values`, which get sorted in part, do not exceed.
double percentile(std::vector<double>& values, int percent);

/// A small, fast, repeatable sequence of pseudo-random numbers (xorshift64).
class random_sequence {
 public:
  explicit random_sequence(std::uint64_t seed = 1) : state_(seed * 0x9E3779B97F4A7C15U) {}

  std::uint64_t below(std::uint64_t limit) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % limit;
  }

 private:
  std::uint64_t state_;
};

/// Calls `run(n)`, which performs n operations, with growing n until one call lasts long enough to be trusted, and
/// returns the nanoseconds per operation of that call. The shorter calls before it are the warm-up. n is always a
/// multiple of 1,000, so that it divides evenly among 2, 8 or 1,000 threads. If a number is asked for, that many are
/// performed, rounded up, once.
template <class Run> double ns_per_operation(Run run) {
  constexpr double long_enough = 300e6;
  const long asked = operations_asked_for();
  for (long operations = asked > 0 ? (asked + 999) / 1000 * 1000 : 1000;;) {
    const std::int64_t start = now_ns();
    run(operations);
    const auto elapsed = static_cast<double>(std::max<std::int64_t>(now_ns() - start, 1));
    if (elapsed >= long_enough || asked > 0) return elapsed / static_cast<double>(operations);
    operations *= std::clamp(static_cast<long>(1.4 * long_enough / elapsed), 2L, 20L);
  }
}

struct window_result {
  double cpu_ns_per_operation;
  double operations_per_second;
};

/// What happens in one second, after a warm-up: `spend(ns)` lets that much time pass while operations go on, `count()` is
/// the number of operations so far.
template <class Spend, class Count> window_result measure_window(Spend spend, Count count) {
  constexpr std::int64_t warm_up_ns = 200'000'000;
  constexpr std::int64_t window_ns = 1'000'000'000;
  spend(warm_up_ns);
  const std::int64_t start = now_ns();
  const double cpu_before = cpu_ns();
  const std::uint64_t count_before = count();
  spend(window_ns);
  const auto operations = static_cast<double>(count() - count_before);
  const double cpu = cpu_ns() - cpu_before;
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  if (operations == 0) fail("nothing happened for a second");
  return {cpu / operations, operations / seconds};
}

/// A `spend` for measure_window that calls `step()` until the time is over: for event loops.
template <class Step> auto stepping(Step step) {
  return [step](std::int64_t duration_ns) mutable {
    for (const std::int64_t end = now_ns() + duration_ns; now_ns() < end;) step();
  };
}

}  // namespace bench
