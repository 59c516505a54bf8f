// weft where code blocks in the kernel, or computes without end: marked regions, time slices.
#include <weft/blocking.hpp>
#include <weft/io.hpp>
#include <weft/runtime.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "blocking_rows.hpp"
#include "read_file.hpp"
#include "weft_rows.hpp"
#include "within_weft.hpp"

namespace bench {
namespace {

struct weft_library {
  using semaphore = weft::counting_semaphore<>;
  template <class Body> static weft::thread spawn(Body body) { return weft::thread(body); }
  template <class Fn> static void blocking(Fn fn) { weft::blocking(fn); }
};

// Differs between kernel threads.
[[gnu::noinline]] const void* kernel_thread() {
  static thread_local char mark = 0;
  const void* here = &mark;
  keep(here);
  return here;
}

// Keeps a read of the disk in flight, but for the moment from its end to the next.
void read_until(const bool& enough, const read_file& file, std::uint64_t seed) {
  random_sequence random(seed);
  const block_buffer block = make_block_buffer();
  while (!enough) {
    if (weft::io::pread(file.descriptor(), {block.get(), block_size}, file.random_offset(random)) != block_size) {
      fail("a read came back short");
    }
  }
}

// µs of a region that does not block, entered while reads are in flight, so that another kernel thread runs it.
double blocking_carried() {
  constexpr std::int64_t window_ns = 1'000'000'000;
  const read_file file(file_access::direct);
  bool enough = false;
  std::vector<weft::thread> readers;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) readers.emplace_back([&, seed] { read_until(enough, file, seed); });
  std::vector<double> times;
  for (const std::int64_t end = now_ns() + window_ns; now_ns() < end; weft::this_thread::yield()) {
    const void* const outside = kernel_thread();
    const std::int64_t start = now_ns();
    const void* const inside = weft::blocking(kernel_thread);
    if (inside != outside) times.push_back(static_cast<double>(now_ns() - start) * 1e-3);
  }
  enough = true;
  for (weft::thread& each : readers) each.join();
  if (times.empty()) fail("no region was carried: without io_uring no read stays in flight where it would bind the processor");
  return percentile(times, 50);
}

// CPU of four threads that compute the same each, beside a main thread that waits for them.
double computing_ns(const weft::options& how) {
  constexpr int threads = 4;
  constexpr int rounds = 20'000'000;
  const double before = cpu_ns();
  const bool sliced = how.time_slice.count() != 0;
  weft::run(how, [&] {
    std::vector<weft::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back(weft::attributes{.time_slice = sliced}, [i] {
        random_sequence random(static_cast<std::uint64_t>(i) + 1);
        for (int round = 0; round < rounds; ++round) {
          std::uint64_t value = random.below(1'000'003);
          keep(value);
        }
      });
    }
    for (weft::thread& each : all) each.join();
    if (sliced && weft::upcall::counts().of(weft::upcall::kind::preempted) == 0) fail("nobody was preempted");
  });
  return cpu_ns() - before;
}

// Percent of CPU more with time slices of 1 ms than without, the median of pairs.
double preempt_overhead() {
  constexpr int pairs = 7;
  weft::options sliced;
  sliced.time_slice = std::chrono::milliseconds(1);
  std::vector<double> more;
  computing_ns(sliced);  // warm-up
  for (int i = 0; i < pairs; ++i) {
    const double without = computing_ns({});
    more.push_back((computing_ns(sliced) / without - 1) * 100);
  }
  return percentile(more, 50);
}

}  // namespace

std::vector<row> weft_blocking_rows() {
  std::vector<row> rows = blocking_rows<weft_library>();
  rows.push_back({"blocking-carried", blocking_carried});
  rows = within_weft(std::move(rows));
  rows.push_back({"preempt-overhead", preempt_overhead});  // makes schedulers of its own
  return rows;
}

}  // namespace bench
