#include "upcall/ring.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "weft/error.hpp"

namespace weft::upcall::engine {

namespace {

constexpr unsigned entries = 512;
constexpr unsigned completions = 4096;
constexpr unsigned how = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                         IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;

// The kernel counts in 32 bits and cuts longer transfers itself.
unsigned bytes_of(const operation& op) noexcept { return static_cast<unsigned>(op.length); }
std::uint64_t offset_of(const operation& op) noexcept { return static_cast<std::uint64_t>(op.offset); }

void prepare_vectors(io_uring_sqe* sqe, const operation& op) noexcept {
  switch (op.code) {
    case opcode::read:
      return io_uring_prep_read(sqe, op.fd, op.address, bytes_of(op), offset_of(op));
    case opcode::write:
      return io_uring_prep_write(sqe, op.fd, op.address, bytes_of(op), offset_of(op));
    case opcode::readv:
      return io_uring_prep_readv(sqe, op.fd, static_cast<const iovec*>(op.address), bytes_of(op), offset_of(op));
    default:
      return io_uring_prep_writev(sqe, op.fd, static_cast<const iovec*>(op.address), bytes_of(op), offset_of(op));
  }
}

}  // namespace

ring::~ring() { close(); }

void ring::close() noexcept {
  if (state_ == state::prepared || state_ == state::made) io_uring_queue_exit(&ring_);
  state_ = state::refused;
}

// A ring that is not enabled yet has no owner, and answers calls with errors of its own: others are those of a filter.
int ring::prepare() noexcept {
  io_uring_params parameters{};
  parameters.flags = how;
  parameters.cq_entries = completions;
  int r = io_uring_queue_init_params(entries, &ring_, &parameters);
  state_ = r == 0 ? state::prepared : state::refused;
  if (r < 0) return -r;
  r = io_uring_get_events(&ring_);
  if (r == -EBADFD) r = io_uring_unregister_eventfd(&ring_);
  if (r == -ENXIO) return 0;
  close();
  return r < 0 ? -r : EINVAL;
}

bool ring::make() noexcept {
  if (state_ == state::unused && prepare() != 0) return false;
  // liburing 2.3 declares io_uring_enable_rings and does not export it.
  if (::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0U) < 0) {
    close();
    return false;
  }
  state_ = state::made;
  static_cast<void>(io_uring_register_ring_fd(&ring_));  // saves a look-up in each enter
  return true;
}

void ring::enter(io_uring_sqe* sqe, operation& op) noexcept {
  io_uring_sqe_set_data(sqe, &op);
  set_place(op, place::in_ring);
  ++in_flight_;
}

void ring::prepare_transfer(operation& op, bool socket) noexcept {
  io_uring_sqe* const sqe = next();
  const bool sends = op.code == opcode::send || op.code == opcode::write;
  if (op.code == opcode::send || (socket && sends)) {
    const int flags = (op.code == opcode::send ? op.flags & ~MSG_WAITALL : 0) | MSG_DONTWAIT | MSG_NOSIGNAL;
    io_uring_prep_send(sqe, op.fd, op.address, op.length, flags);
  } else if (op.code == opcode::receive || (socket && op.code == opcode::read)) {
    const int flags = (op.code == opcode::receive ? op.flags & ~MSG_WAITALL : 0) | MSG_DONTWAIT;
    io_uring_prep_recv(sqe, op.fd, op.address, op.length, flags);
  } else {
    prepare_vectors(sqe, op);
    sqe->rw_flags = RWF_NOWAIT;
  }
  enter(sqe, op);
}

void ring::prepare_file(operation& op) noexcept {
  io_uring_sqe* const sqe = next();
  if (op.code == opcode::open) {
    io_uring_prep_openat(sqe, op.fd, static_cast<const char*>(op.address), op.flags | O_CLOEXEC, static_cast<mode_t>(op.mode));
  } else if (op.code == opcode::sync) {
    io_uring_prep_fsync(sqe, op.fd, op.flags != 0 ? IORING_FSYNC_DATASYNC : 0);
  } else {
    prepare_vectors(sqe, op);
  }
  enter(sqe, op);
}

void ring::prepare_cancel(operation& op) noexcept {
  io_uring_sqe* const sqe = next();
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data64(sqe, cancel_data);
}

void ring::watch(int fd) noexcept {
  if (watching_) return;
  io_uring_sqe* const sqe = next();
  io_uring_prep_poll_add(sqe, fd, POLLIN);
  io_uring_sqe_set_data64(sqe, watch_data);
  watching_ = true;
}

bool ring::submit() noexcept {
  while (io_uring_sq_ready(&ring_) != 0) {
    const int r = io_uring_submit(&ring_);
    if (r > 0 || r == -EINTR) continue;
    WEFT_CHECK(r == 0 || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
    return false;
  }
  return true;
}

// Lets the kernel post what it has deferred until we ask, or could not fit into the completion queue.
void ring::fetch() noexcept {
  const unsigned flags = IO_URING_READ_ONCE(*ring_.sq.kflags);
  if ((flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) static_cast<void>(io_uring_get_events(&ring_));
}

void ring::sleep(__kernel_timespec* timeout) noexcept {
  if (timeout == nullptr) {
    static_cast<void>(io_uring_submit_and_wait(&ring_, 1));
  } else {
    io_uring_cqe* first = nullptr;
    static_cast<void>(io_uring_submit_and_wait_timeout(&ring_, &first, 1, timeout, nullptr));
  }
}

}  // namespace weft::upcall::engine
