// The peer liburing: state machines that submit every operation, one shot each, and keep it in flight until it completes.
// This is what an always-submit library could reach at best.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>
#include <vector>

#include "blocked_sockets.hpp"
#include "echo_load.hpp"
#include "pipe_pairs.hpp"
#include "program.hpp"
#include "read_file.hpp"
#include "ring.hpp"

namespace {

constexpr unsigned entries = 16'384;
constexpr unsigned deferred = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

// A connection has one operation in flight: the receive of a request or the send of its answer.
struct connection {
  int socket;
  bool sending = false;
  std::array<char, 512> buffer{};
};

void receive(bench::ring& ring, connection& on) {
  io_uring_sqe* const entry = ring.next();
  io_uring_prep_recv(entry, on.socket, on.buffer.data(), on.buffer.size(), 0);
  io_uring_sqe_set_data(entry, &on);
  on.sending = false;
}

void send(bench::ring& ring, connection& on, int size) {
  io_uring_sqe* const entry = ring.next();
  io_uring_prep_send(entry, on.socket, on.buffer.data(), static_cast<std::size_t>(size), MSG_WAITALL | MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, &on);
  on.sending = true;
}

void advance(bench::ring& ring, connection& on, int result) {
  if (result <= 0) {
    close(on.socket);
    delete &on;
  } else if (on.sending) {
    receive(ring, on);
  } else {
    send(ring, on, result);
  }
}

void accept_many(bench::ring& ring, int listener) {
  io_uring_sqe* const entry = ring.next();
  io_uring_prep_multishot_accept(entry, listener, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data(entry, nullptr);
}

[[noreturn]] void serve(int listener) {
  bench::ring ring(entries, deferred);
  accept_many(ring, listener);
  for (;;) {
    ring.submit_and_wait();
    ring.reap([&](const io_uring_cqe& completion) {
      if (auto* const on = static_cast<connection*>(io_uring_cqe_get_data(&completion))) {
        advance(ring, *on, completion.res);
        return;
      }
      if (completion.res < 0) bench::fail("accept failed");
      bench::send_at_once(completion.res);
      receive(ring, *new connection{.socket = completion.res});
      if ((completion.flags & IORING_CQE_F_MORE) == 0) accept_many(ring, listener);
    });
  }
}

// One of the 1,000 parts of the pipe row: its byte is being read or being written.
struct pipe_part {
  bench::pipe_party ends;
  bool writing = false;
  char byte = 'x';
};

void read_or_write(bench::ring& ring, pipe_part& part) {
  constexpr auto no_offset = static_cast<__u64>(-1);
  io_uring_sqe* const entry = ring.next();
  if (part.writing) {
    io_uring_prep_write(entry, part.ends.to, &part.byte, 1, no_offset);
  } else {
    io_uring_prep_read(entry, part.ends.from, &part.byte, 1, no_offset);
  }
  io_uring_sqe_set_data(entry, &part);
}

double pipe_message() {
  bench::ring ring(entries, deferred);
  std::vector<pipe_part> parts;
  for (const auto& [first, second] : bench::make_pipe_pairs(0)) {
    parts.push_back({.ends = first, .writing = true});
    parts.push_back({.ends = second});
  }
  for (pipe_part& part : parts) read_or_write(ring, part);
  std::uint64_t passed = 0;
  const auto step = [&] {
    ring.submit_and_wait();
    ring.reap([&](const io_uring_cqe& completion) {
      auto& part = *static_cast<pipe_part*>(io_uring_cqe_get_data(&completion));
      if (completion.res != 1) bench::fail("a pipe broke");
      if (part.writing) ++passed;
      part.writing = !part.writing;
      read_or_write(ring, part);
    });
  };
  return bench::measure_window(bench::stepping(step), [&passed] { return passed; }).cpu_ns_per_operation;
}

bench::window_result measure_reads(bench::file_access access, int at_once) {
  const bench::read_file file(access);
  bench::random_sequence random;
  bench::ring ring(256, deferred);
  const auto read_into = [&](std::byte* block) {
    io_uring_sqe* const entry = ring.next();
    io_uring_prep_read(entry, file.descriptor(), block, bench::block_size, static_cast<__u64>(file.random_offset(random)));
    io_uring_sqe_set_data(entry, block);
  };
  std::vector<bench::block_buffer> blocks;
  for (int i = 0; i < at_once; ++i) read_into(blocks.emplace_back(bench::make_block_buffer()).get());
  std::uint64_t reads = 0;
  const auto step = [&] {
    ring.submit_and_wait();
    ring.reap([&](const io_uring_cqe& completion) {
      if (completion.res != static_cast<int>(bench::block_size)) bench::fail("a read came back short");
      ++reads;
      read_into(static_cast<std::byte*>(io_uring_cqe_get_data(&completion)));
    });
  };
  const bench::window_result result = bench::measure_window(bench::stepping(step), [&reads] { return reads; });
  // The kernel may still write into the blocks, which therefore are never freed.
  for (bench::block_buffer& block : blocks) static_cast<void>(block.release());
  return result;
}

// A receive in flight on each socket, where the others have a thread; its completion ends it. Each is cancelled by itself: one
// request that cancels all takes the kernel ten times longer.
double cancel_receives(std::span<const int> sockets) {
  bench::ring ring(entries, deferred);
  std::vector<char> bytes(sockets.size());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    io_uring_sqe* const entry = ring.next();
    io_uring_prep_recv(entry, sockets[i], &bytes[i], 1, 0);
    io_uring_sqe_set_data(entry, &bytes[i]);
  }
  ring.submit();
  const std::int64_t start = bench::now_ns();
  for (char& each : bytes) {
    io_uring_sqe* const entry = ring.next();
    io_uring_prep_cancel(entry, &each, 0);
    io_uring_sqe_set_data(entry, nullptr);
  }
  for (std::size_t ended = 0; ended < sockets.size();) {
    ring.submit_and_wait();
    ring.reap([&ended](const io_uring_cqe& completion) {
      if (io_uring_cqe_get_data(&completion) == nullptr) return;
      if (completion.res != -ECANCELED) bench::fail("a receive was not cancelled");
      ++ended;
    });
  }
  return static_cast<double>(bench::now_ns() - start);
}

double cancel_blocked() { return bench::cancel_blocked(0, cancel_receives); }

}  // namespace

int main(int argc, char** argv) {
  const std::vector<bench::row> others{{"pipe-1000", pipe_message}, {"cancel-10k", cancel_blocked}};
  return bench::run_row(argc, argv, {bench::echo_rows(serve), bench::read_rows(measure_reads), others});
}
