// What no edge will tell of: a Unix socket's listener whose queue was full, the other end of a FIFO. They are looked at again
// after a while, from one millisecond on, twice as long each time that nothing came of it.
//
// Rejected: a worker kernel thread that waits in connect(2) or open(2). It could not be called back when the thread is
// cancelled, and the scheduler's end would wait for it for ever.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "upcall/opening.hpp"
#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

namespace {

constexpr std::chrono::milliseconds first_interval{1};
constexpr std::chrono::milliseconds longest_interval{32};

// The result, or -EAGAIN.
std::int32_t again(const operation& op) noexcept {
  if (op.code == opcode::open) return open_other_end(op, op.result);
  const int r = ::connect(op.fd, static_cast<const sockaddr*>(op.address), static_cast<socklen_t>(op.length));
  if (r == 0) return 0;
  return errno == EINTR ? -EAGAIN : -errno;
}

}  // namespace

void reactor::try_later(operation& op) {
  set_place(op, place::retrying);
  retrying_.push_back(op);
  retry_interval_ = first_interval;
  next_retry_ = now() + first_interval;
}

void reactor::retry() {
  if (now() < next_retry_) return;
  bool progress = false;
  for (operation* op = retrying_.front(); op != nullptr;) {
    operation* const next = retrying_.after(*op);
    if (const std::int32_t r = again(*op); r != -EAGAIN) {
      progress = true;
      retrying_.remove(*op);
      if (op->code == opcode::open) table_.renew(r);
      finish(*op, r);
    }
    op = next;
  }
  retry_interval_ = progress ? first_interval : std::min<duration>(retry_interval_ * 2, longest_interval);
  next_retry_ = retrying_.empty() ? never : now() + retry_interval_;
}

void reactor::give_up(operation& op, std::int32_t error) {
  retrying_.remove(op);
  if (retrying_.empty()) next_retry_ = never;
  if (op.code == opcode::open && op.result >= 0) ::close(op.result);
  finish(op, error);
}

void reactor::opened(operation& op, std::int32_t result) {
  if (!lacks_other_end(op, result)) {
    table_.renew(result);
    return finish(op, result);
  }
  op.result = result;
  if (!has(op, mark::cancelling)) return try_later(op);
  if (result >= 0) ::close(result);
  finish(op, -ECANCELED);
}

}  // namespace weft::upcall::engine
