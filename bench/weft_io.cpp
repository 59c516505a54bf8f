// weft where it reads, writes and serves: plain blocking code, a thread per connection, pipe end or reader.
#include <fcntl.h>
#include <weft/file.hpp>
#include <weft/net.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

#include <array>
#include <chrono>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "echo_load.hpp"
#include "measure.hpp"
#include "pipe_pairs.hpp"
#include "read_file.hpp"
#include "weft_rows.hpp"
#include "within_weft.hpp"

namespace bench {
namespace {

void echo_until_closed(weft::net::tcp_stream stream) {
  std::array<char, 4096> buffer;
  for (std::error_code error;;) {
    const std::size_t got = stream.read(buffer, error);
    if (error || got == 0) return;
    stream.write_all(std::span(buffer).first(got), error);
    if (error) return;
  }
}

void serve(int listening_socket) {
  fcntl(listening_socket, F_SETFL, O_NONBLOCK);
  weft::run([listening_socket] {
    const weft::io::descriptor listener(listening_socket);
    for (;;) {
      weft::net::tcp_stream stream{weft::io::descriptor(weft::io::accept(listener))};
      stream.no_delay(true);
      weft::thread(echo_until_closed, std::move(stream)).detach();
    }
  });
}

void sleep_ns(std::int64_t duration) { weft::this_thread::sleep_for(std::chrono::nanoseconds(duration)); }

// The threads are left waiting for each other; the scheduler ends them when the row returns.
double pipe_message() {
  static std::uint64_t passed = 0;
  for (std::size_t i = 0; i < pipe_pair_count; ++i) {
    weft::pipe there;
    weft::pipe back;
    weft::thread([from = std::move(there.reader), to = std::move(back.writer)]() mutable {
      for (std::array<char, 1> byte;;) {
        from.read(byte);
        to.write(byte);
      }
    }).detach();
    weft::thread([from = std::move(back.reader), to = std::move(there.writer)]() mutable {
      for (std::array<char, 1> byte{'x'};; passed += 2) {
        to.write(byte);
        from.read(byte);
      }
    }).detach();
  }
  return measure_window(sleep_ns, [] { return passed; }).cpu_ns_per_operation;
}

window_result measure_reads(file_access access, int threads) {
  const read_file file(access);
  std::uint64_t reads = 0;
  bool enough = false;
  const auto read_until_enough = [&](std::uint64_t seed) {
    random_sequence random(seed);
    const block_buffer block = make_block_buffer();
    while (!enough) {
      const std::size_t got = weft::io::pread(file.descriptor(), {block.get(), block_size}, file.random_offset(random));
      if (got != block_size) fail("a read came back short");
      ++reads;
    }
  };
  std::vector<weft::thread> readers;
  for (int i = 0; i < threads; ++i) readers.emplace_back(read_until_enough, static_cast<std::uint64_t>(i + 1));
  const window_result result = measure_window(sleep_ns, [&reads] { return reads; });
  enough = true;
  for (weft::thread& each : readers) each.join();
  return result;
}

}  // namespace

std::vector<row> weft_io_rows() {
  std::vector<row> rows = within_weft(read_rows(measure_reads));
  for (row& each : within_weft({{"pipe-1000", pipe_message}})) rows.push_back(std::move(each));
  for (row& each : echo_rows(serve)) rows.push_back(std::move(each));
  return rows;
}

}  // namespace bench
