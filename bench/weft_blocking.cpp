// weft where code blocks in the kernel: marked regions.
#include <weft/blocking.hpp>
#include <weft/io.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

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

}  // namespace

std::vector<row> weft_blocking_rows() {
  std::vector<row> rows = blocking_rows<weft_library>();
  rows.push_back({"blocking-carried", blocking_carried});
  return within_weft(std::move(rows));
}

}  // namespace bench
