// The load generator of the echo rows: bench_echo_client PORT CONNECTIONS SERVER_PID
//
// Keeps one 64-byte request outstanding on every connection for as long as it runs. After a warm-up it opens a window of
// time, and prints two numbers: the CPU time that the kernel charged to the server process during the window, in ns per
// request answered in it, and requests per second.
//
// It must cost less per request than any server it loads, or the server idles and batches come out small: it receives by
// multishot operations into provided buffers, sends in batches, and reaps thousands of completions per system call.
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "echo_load.hpp"
#include "measure.hpp"

namespace {

using bench::fail;
using bench::fail_with_errno;
using bench::now_ns;

constexpr std::size_t message_size = 64;
constexpr std::int64_t warm_up_ns = 500'000'000;
constexpr std::int64_t window_ns = 1'000'000'000;
constexpr std::int64_t stalled_ns = 3'000'000'000;

double process_cpu_ns(pid_t process) {
  clockid_t clock;
  timespec time{};
  if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) != 0) fail("the server is gone");
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

int connect_to(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) fail_with_errno("socket");
  sockaddr_in server{};
  server.sin_family = AF_INET;
  server.sin_port = htons(static_cast<std::uint16_t>(port));
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(socket, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) fail_with_errno("connect");
  bench::send_at_once(socket);
  const linger reset_on_close{1, 0};  // ten thousand connections in TIME_WAIT would starve the next run of ports
  setsockopt(socket, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof reset_on_close);
  return socket;
}

// Memory that the kernel picks receive buffers from.
class buffer_pool {
 public:
  static constexpr unsigned short group = 0;

  explicit buffer_pool(io_uring& ring) : memory_(count * message_size) {
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(buffers_);
    registration.ring_entries = count;
    registration.bgid = group;
    if (io_uring_register_buf_ring(&ring, &registration, 0) != 0) fail("the kernel refuses a ring of provided buffers");
    io_uring_buf_ring_init(buffers_);
    for (unsigned index = 0; index < count; ++index) give_back(index);
    publish();
  }

  void give_back(unsigned index) {
    io_uring_buf_ring_add(buffers_, memory_.data() + index * message_size, message_size, static_cast<unsigned short>(index),
                          io_uring_buf_ring_mask(count), unpublished_++);
  }
  void publish() {
    io_uring_buf_ring_advance(buffers_, unpublished_);
    unpublished_ = 0;
  }

 private:
  static constexpr unsigned count = 32'768;
  std::vector<char> memory_;
  io_uring_buf_ring* buffers_ = static_cast<io_uring_buf_ring*>(std::aligned_alloc(4096, count * sizeof(io_uring_buf)));
  int unpublished_ = 0;
};

io_uring make_ring() {
  io_uring ring{};
  io_uring_params parameters{};
  parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
  parameters.cq_entries = 65'536;
  const int error = io_uring_queue_init_params(16'384, &ring, &parameters);
  if (error < 0) fail("the load generator needs io_uring, which this kernel refuses: error " + std::to_string(-error));
  return ring;
}

class load {
 public:
  load(int port, std::size_t connections) : answered_bytes_(connections) {
    request_.fill('x');
    std::vector<int> sockets(connections);
    for (int& each : sockets) each = connect_to(port);
    if (io_uring_register_files(&ring_, sockets.data(), static_cast<unsigned>(connections)) != 0) fail("register_files");
    for (std::size_t i = 0; i < connections; ++i) {
      receive_on(i);
      send_on(i);
    }
  }

  // Submits what is queued, waits for answers, and sends the next request wherever one is complete.
  void step() {
    __kernel_timespec patience{stalled_ns / 1'000'000'000, 0};
    io_uring_cqe* first = nullptr;
    if (io_uring_submit_and_wait_timeout(&ring_, &first, 1, &patience, nullptr) == -ETIME) fail("the server stalled");
    std::array<io_uring_cqe*, 4096> completions;
    const unsigned count = io_uring_peek_batch_cqe(&ring_, completions.data(), completions.size());
    for (unsigned i = 0; i < count; ++i) handle(*completions[i]);
    buffers_.publish();
    io_uring_cq_advance(&ring_, count);
  }

  std::uint64_t answers() const { return answers_; }

 private:
  static constexpr std::uint64_t send_mark = std::uint64_t{1} << 32;  // in user_data, above the connection's index

  io_uring_sqe* next_submission() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) {
      io_uring_submit(&ring_);
      entry = io_uring_get_sqe(&ring_);
    }
    return entry;
  }

  void receive_on(std::size_t connection) {
    io_uring_sqe* const entry = next_submission();
    io_uring_prep_recv_multishot(entry, static_cast<int>(connection), nullptr, 0, 0);
    entry->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    entry->buf_group = buffer_pool::group;
    entry->user_data = connection;
  }

  void send_on(std::size_t connection) {
    io_uring_sqe* const entry = next_submission();
    io_uring_prep_send(entry, static_cast<int>(connection), request_.data(), message_size, MSG_WAITALL);
    entry->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    entry->user_data = send_mark | connection;
  }

  void handle(const io_uring_cqe& completion) {
    if ((completion.user_data & send_mark) != 0) fail("a request could not be sent whole");
    const auto connection = static_cast<std::size_t>(completion.user_data);
    const bool out_of_buffers = completion.res == -ENOBUFS;
    if (completion.res <= 0 && !out_of_buffers) fail("the server closed a connection");
    if ((completion.flags & IORING_CQE_F_BUFFER) != 0) buffers_.give_back(completion.flags >> IORING_CQE_BUFFER_SHIFT);
    if ((completion.flags & IORING_CQE_F_MORE) == 0) receive_on(connection);
    if (out_of_buffers) return;
    answered_bytes_[connection] += static_cast<std::size_t>(completion.res);
    if (answered_bytes_[connection] < message_size) return;
    answered_bytes_[connection] -= message_size;
    ++answers_;
    send_on(connection);
  }

  io_uring ring_ = make_ring();
  buffer_pool buffers_{ring_};
  std::array<char, message_size> request_;
  std::vector<std::size_t> answered_bytes_;  // of the answer that each connection waits for
  std::uint64_t answers_ = 0;
};

void run_for(load& work, std::int64_t duration_ns) {
  for (const std::int64_t end = now_ns() + duration_ns; now_ns() < end;) work.step();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) fail("usage: bench_echo_client PORT CONNECTIONS SERVER_PID");
  const pid_t server = std::atoi(argv[3]);
  bench::pin_to_core(bench::load_core);
  bench::raise_descriptor_limit();
  load work(std::atoi(argv[1]), std::strtoul(argv[2], nullptr, 10));
  run_for(work, warm_up_ns);

  const std::uint64_t answers_before = work.answers();
  const double cpu_before = process_cpu_ns(server);
  const std::int64_t start = now_ns();
  run_for(work, window_ns);
  const double seconds = static_cast<double>(now_ns() - start) * 1e-9;
  const double cpu = process_cpu_ns(server) - cpu_before;
  const auto answers = static_cast<double>(work.answers() - answers_before);
  if (answers == 0) fail("the server answered nothing");
  std::printf("%.6g %.6g\n", cpu / answers, answers / seconds);
}
