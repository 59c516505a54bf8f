// Downcalls: how an operation begins, and how it ends early.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "upcall/direct.hpp"
#include "upcall/opening.hpp"
#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

namespace {

using flag = descriptor_entry::flag;

bool at_once(operation& op, std::int32_t result) noexcept {
  op.result = result;
  return true;
}

// Whether the descriptor is still what its entry says: nobody closes that of an owner behind our back.
bool sure_of(const operation& op, const descriptor_entry& entry) noexcept { return op.owned && entry.is(flag::trusted); }

// The caller asked not to wait for data or room (an operation with other flags than those of recv(2) and send(2) has none).
bool must_not_wait(const operation& op) noexcept {
  return (op.code == opcode::receive || op.code == opcode::send) && (op.flags & MSG_DONTWAIT) != 0;
}

bool wants_writing(const operation& op) noexcept {
  return op.code == opcode::poll ? (op.flags & (POLLOUT | POLLWRNORM)) != 0 : direction_of(op.code) == direction::write;
}

// What poll(2) says of the descriptor now: events, 0, or a negative errno.
std::int32_t poll_now(const operation& op) noexcept {
  pollfd asked{op.fd, static_cast<short>(op.flags), 0};
  for (;;) {
    const int r = ::poll(&asked, 1, 0);
    if (r > 0) return (asked.revents & POLLNVAL) != 0 ? -EBADF : asked.revents;
    if (r == 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace

bool reactor::start(operation& op) {
  op.stage = 0;
  op.result = 0;
  if (op.fresh != nullptr) [[unlikely]] {
    table_.renew(op.fd);
    *op.fresh = false;
  }
  const bool complete = begin(op);
  if (!complete) ++pending_;
  return complete;
}

bool reactor::begin(operation& op) {
  switch (op.code) {
    case opcode::open:
      return begin_open(op);
    case opcode::sync:
      return begin_sync(op);
    case opcode::close:
      return begin_close(op);
    case opcode::poll:
      return begin_poll(op);
    case opcode::connect:
      return begin_connect(op);
    default:
      return begin_transfer(op);
  }
}

bool reactor::begin_transfer(operation& op) {
  descriptor_entry* entry = nullptr;
  if (const int r = table_.prepare(op.fd, op.owned, entry); r < 0) [[unlikely]] return at_once(op, r);
  // A position needs no such care: should the number name something else by now, the kernel refuses with ESPIPE.
  if (entry->is(flag::file) && op.offset < 0 && !sure_of(op, *entry) && table_.recheck(op.fd, *entry, false) != -EPERM)
      [[unlikely]] {
    if (const int r = table_.classify(op.fd, op.owned, entry); r < 0) return at_once(op, r);
  }
  set_generation(op, entry->generation);
  if (entry->is(flag::file)) return begin_file(op, *entry);
  const direction d = direction_of(op.code);
  if (entry->open(d) && entry->waiting(d).empty()) {
    if (!batch_.empty() || handler_->others_ready()) {
      collect(op, entry);
      return false;
    }
    const std::int32_t r = call_without_waiting(op, *entry);
    if (op.code == opcode::accept) table_.renew(r);
    entry->settle(op, r);
    if (r != -EAGAIN) return at_once(op, r);
  }
  if (must_not_wait(op)) [[unlikely]]
    return at_once(op, call_without_waiting(op, *entry));  // ahead of the line, as in the kernel
  return park(op, *entry, d, line::last);
}

// A file is tried at once when nobody else could run, or when the last reads of files found all in memory: then that costs less
// than the ring, and no switch. What uses the file position does so one at a time, as the kernel does it for kernel threads.
bool reactor::begin_file(operation& op, descriptor_entry& entry) {
  if (op.code == opcode::receive || op.code == opcode::send || op.code == opcode::accept) return at_once(op, -ENOTSOCK);
  op.stage |= mark::file;
  if (op.offset < 0 && (entry.is(flag::read_turn) || !entry.reading.empty())) {
    set_place(op, place::reading);
    entry.reading.push_back(op);
    return false;
  }
  const bool reads = op.code == opcode::read;
  const bool likely = reads && in_memory_ && !entry.is(flag::no_nowait);
  if (likely || (batch_.empty() && !handler_->others_ready())) {
    const std::int32_t r = file_without_waiting(op, entry);
    if (reads) in_memory_ = r != -EAGAIN;
    if (r != -EAGAIN) return at_once(op, r);
    op.stage |= mark::untimely;
  }
  collect(op, &entry);
  return false;
}

bool reactor::begin_open(operation& op) {
  op.stage |= mark::file;
  if (batch_.empty() && !handler_->others_ready()) {
    const std::int32_t r = open_without_waiting(op);
    if (lacks_other_end(op, r, scratch_)) {
      op.result = r;
      try_later(op);
      return false;
    }
    if (retrying_.empty()) scratch_.close();
    table_.renew(r);
    if (r != -EAGAIN) return at_once(op, r);
    op.stage |= mark::untimely;
  }
  collect(op, nullptr);
  return false;
}

bool reactor::begin_sync(operation& op) {
  descriptor_entry* entry = nullptr;
  if (const int r = table_.prepare(op.fd, op.owned, entry); r < 0) return at_once(op, r);
  set_generation(op, entry->generation);
  op.stage |= mark::file;
  op.offset = 0;  // it does not use the file position, so it needs no turn
  collect(op, entry);
  return false;
}

bool reactor::begin_poll(operation& op) {
  const std::int32_t now = poll_now(op);
  if (now != 0) return at_once(op, now);
  descriptor_entry* entry = nullptr;
  if (const int r = table_.prepare(op.fd, op.owned, entry); r < 0) return at_once(op, r);
  set_generation(op, entry->generation);
  const bool lacks_writing = wants_writing(op) && !entry->is(flag::watches_writing);
  if (!entry->is(flag::file) && (lacks_writing || !sure_of(op, *entry))) {
    if (const int r = table_.recheck(op.fd, *entry, wants_writing(op)); r < 0 && r != -EPERM) return at_once(op, r);
  }
  set_place(op, place::watching);
  entry->watching.push_back(op);
  return false;
}

// The call is made before the descriptor is registered: an unconnected socket would report a hang-up.
bool reactor::begin_connect(operation& op) {
  descriptor_entry* entry = table_.find(op.fd);
  if (entry == nullptr || !sure_of(op, *entry) || !entry->is(flag::nonblocking)) {
    if (const int r = set_nonblocking(op.fd); r < 0) return at_once(op, r);
  }
  const auto* const to = static_cast<const sockaddr*>(op.address);
  const int made = ::connect(op.fd, to, static_cast<socklen_t>(op.length));
  const int error = made == 0 ? 0 : errno;
  if (error == EAGAIN && to->sa_family == AF_UNIX) {  // its listener's queue is full: no edge will tell when it is not
    try_later(op);
    return false;
  }
  if (error != EINPROGRESS && error != EINTR) return at_once(op, -error);
  if (const int r = table_.prepare(op.fd, op.owned, entry); r < 0) return at_once(op, r);
  set_generation(op, entry->generation);
  entry->set(flag::nonblocking);
  entry->clear(flag::readable | flag::writable | flag::ended);
  op.stage |= mark::connecting;
  return park(op, *entry, direction::write, line::last);
}

// Waits on the descriptor. The registration is made sure of where it could be another file's (see descriptor_table.hpp).
bool reactor::park(operation& op, descriptor_entry& entry, direction d, line where) {
  if (must_not_wait(op)) [[unlikely]]
    return at_once(op, -EAGAIN);
  const bool lacks_writing = d == direction::write && !entry.is(flag::watches_writing);
  if (lacks_writing || !(sure_of(op, entry) || has(op, mark::checked))) {
    const int r = table_.recheck(op.fd, entry, d == direction::write);
    if (r == -EPERM) {
      descriptor_entry* file = nullptr;
      if (const int again = table_.classify(op.fd, op.owned, file); again < 0) return at_once(op, again);
      return begin_file(op, *file);
    }
    if (r < 0) return at_once(op, r);
    op.stage |= mark::checked;
  }
  set_place(op, d == direction::read ? place::reading : place::writing);
  if (where == line::first) {
    entry.waiting(d).push_front(op);
  } else {
    entry.waiting(d).push_back(op);
  }
  return false;
}

void reactor::cancel(operation& op) {
  descriptor_entry* const entry = entry_of(op);
  switch (place_of(op)) {
    case place::collected:
      uncollect(op);
      break;
    case place::reading:
      entry->reading.remove(op);
      break;
    case place::writing:
      entry->writing.remove(op);
      break;
    case place::watching:
      entry->watching.remove(op);
      break;
    case place::retrying:
      return give_up(op, -ECANCELED);
    case place::in_ring:
      if (has(op, mark::cancelling)) return;
      op.stage |= mark::cancelling;
      while (ring_->full()) submit();
      ring_->prepare_cancel(op);
      return;
    case place::in_worker:
      if (!workers_->drop(op)) return;
      left_worker(op);
      break;
    case place::closing:  // it must not be left undone
    case place::nowhere:
    case place::finished:
      return;
  }
  finish(op, part_or(op, -ECANCELED));
}

}  // namespace weft::upcall::engine
