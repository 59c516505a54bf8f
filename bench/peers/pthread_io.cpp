// The peer pthread where it reads, writes and serves: a kernel thread per connection, pipe end or reader, plain system calls.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "echo_load.hpp"
#include "measure.hpp"
#include "pipe_pairs.hpp"
#include "pthread_io.hpp"
#include "read_file.hpp"

namespace bench {
namespace {

void echo_until_closed(int socket) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = recv(socket, buffer.data(), buffer.size(), 0);
    if (got <= 0) break;
    if (send(socket, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got) break;
  }
  close(socket);
}

[[noreturn]] void serve(int listener) {
  for (;;) {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) fail_with_errno("accept");
    send_at_once(socket);
    std::thread(echo_until_closed, socket).detach();
  }
}

// Counted per thread on cache lines of their own; only its thread writes one.
struct alignas(64) counter {
  std::atomic<std::uint64_t> value = 0;
  void add(std::uint64_t more) { value.store(value.load(std::memory_order_relaxed) + more, std::memory_order_relaxed); }
};

std::uint64_t sum(const std::vector<counter>& counters) {
  std::uint64_t total = 0;
  for (const counter& each : counters) total += each.value.load(std::memory_order_relaxed);
  return total;
}

void sleep_ns(std::int64_t duration) { std::this_thread::sleep_for(std::chrono::nanoseconds(duration)); }

void must_be_one(ssize_t transferred) {
  if (transferred != 1) fail_with_errno("a pipe broke");
}

void read_for_ever(const read_file& file, std::uint64_t seed, counter& reads) {
  random_sequence random(seed);
  const block_buffer block = make_block_buffer();
  for (;;) {
    const ssize_t got = pread(file.descriptor(), block.get(), block_size, file.random_offset(random));
    if (got != static_cast<ssize_t>(block_size)) fail_with_errno("pread");
    reads.add(1);
  }
}

// The threads are left running; the row ends the process.
window_result measure_reads(file_access access, int threads) {
  static const read_file file(access);
  static std::vector<counter> counters(static_cast<std::size_t>(threads));
  std::uint64_t seed = 1;
  for (counter& each : counters) std::thread(read_for_ever, std::cref(file), seed++, std::ref(each)).detach();
  return measure_window(sleep_ns, [] { return sum(counters); });
}

double pipe_message() {
  static std::vector<counter> counters(pipe_pair_count);
  auto own_counter = counters.begin();
  for (const pipe_pair& pair : make_pipe_pairs(0)) {
    std::thread([party = pair.second] {
      for (char byte;;) {
        must_be_one(read(party.from, &byte, 1));
        must_be_one(write(party.to, &byte, 1));
      }
    }).detach();
    std::thread([party = pair.first, &passed = *own_counter++] {
      for (char byte = 'x';; passed.add(2)) {
        must_be_one(write(party.to, &byte, 1));
        must_be_one(read(party.from, &byte, 1));
      }
    }).detach();
  }
  return measure_window(sleep_ns, [] { return sum(counters); }).cpu_ns_per_operation;
}

}  // namespace

std::vector<row> kernel_thread_io_rows() {
  std::vector<row> rows = echo_rows(serve);
  rows.push_back({"pipe-1000", pipe_message});
  for (row& each : read_rows(measure_reads)) rows.push_back(std::move(each));
  return rows;
}

}  // namespace bench
