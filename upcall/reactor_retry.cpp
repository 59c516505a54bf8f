// What no edge will tell of: a Unix socket's listener whose queue was full, the other end of a FIFO. They are looked at again
// after an eighth of the time for which they waited, at least a millisecond and at most a quarter of a second: what comes soon
// is noticed soon, and what comes late costs next to nothing. A look costs one or two system calls for each that waits.
//
// Rejected: a worker kernel thread that waits in connect(2) or open(2). It could not be called back when the thread is
// cancelled, and the scheduler's end would wait for it for ever.
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "upcall/opening.hpp"
#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

namespace {

// The result, or -EAGAIN.
std::int32_t again(const operation& op, scratch_pipe& scratch) noexcept {
  if (op.code == opcode::open) return open_other_end(op, op.result, scratch);
  const int r = ::connect(op.fd, static_cast<const sockaddr*>(op.address), static_cast<socklen_t>(op.length));
  if (r == 0) return 0;
  return errno == EINTR ? -EAGAIN : -errno;
}

}  // namespace

void reactor::try_later(operation& op) {
  set_place(op, place::retrying);
  retrying_.push_back(op);
  waits_since_ = now();
  next_retry_ = waits_since_ + look_again_after({});
}

void reactor::retry() {
  if (now() < next_retry_) return;
  bool progress = false;
  for (operation* op = retrying_.front(); op != nullptr;) {
    operation* const next = retrying_.after(*op);
    if (const std::int32_t r = again(*op, scratch_); r != -EAGAIN) {
      progress = true;
      retrying_.remove(*op);
      if (op->code == opcode::open) table_.renew(r);
      finish(*op, r);
    }
    op = next;
  }
  const time_point looked = now();
  if (progress) waits_since_ = looked;
  next_retry_ = looked + look_again_after(looked - waits_since_);
  if (retrying_.empty()) nobody_retries();
}

void reactor::nobody_retries() {
  next_retry_ = never;
  scratch_.close();
}

void reactor::give_up(operation& op, std::int32_t error) {
  retrying_.remove(op);
  if (retrying_.empty()) nobody_retries();
  if (op.code == opcode::open && op.result >= 0) ::close(op.result);
  finish(op, error);
}

void reactor::opened(operation& op, std::int32_t result) {
  const bool lacks = lacks_other_end(op, result, scratch_);
  if (retrying_.empty()) scratch_.close();
  if (!lacks) {
    table_.renew(result);
    return finish(op, result);
  }
  op.result = result;
  if (!has(op, mark::cancelling)) return try_later(op);
  if (result >= 0) ::close(result);
  finish(op, -ECANCELED);
}

}  // namespace weft::upcall::engine
