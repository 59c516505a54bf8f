// How the life of a descriptor ends, see reactor.hpp.
#include <unistd.h>

#include <cerrno>

#include "upcall/direct.hpp"
#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

// Ends whatever waits for `fd`.
void reactor::fail_all(int fd, std::int32_t error) {
  for (operation* op = retrying_.front(); op != nullptr;) {
    operation* const next = retrying_.after(*op);
    if (op->code == opcode::connect && op->fd == fd) give_up(*op, error);
    op = next;
  }
  descriptor_entry* const entry = table_.find(fd);
  if (entry == nullptr) return;
  for (operation_list* const list : {&entry->reading, &entry->writing, &entry->watching}) {
    while (operation* const op = list->pop_front()) finish(*op, error);
  }
  if (entry->held != 0) fail_held(fd, *entry, error);
}

// What had part of its work done tells of that part.
void reactor::fail_held(int fd, descriptor_entry& entry, std::int32_t error) {
  for (operation* op = batch_.front(); op != nullptr && entry.held != 0;) {
    operation* const next = batch_.after(*op);
    if (op->fd == fd && entry_of(*op) == &entry) {
      uncollect(*op);
      finish(*op, part_or(*op, error));
    }
    op = next;
  }
  if (entry.held == 0) return;
  operation_list queued = workers_->drop_all(fd);
  while (operation* const op = queued.pop_front()) {
    left_worker(*op);
    finish(*op, part_or(*op, error));
  }
}

// Ends whatever waits for `fd`, and forgets it. @returns false while workers are at it: then it may not be closed yet.
bool reactor::let_go(int fd) {
  fail_all(fd, -EBADF);
  descriptor_entry* const entry = table_.find(fd);
  if (entry == nullptr) return true;
  if (entry->held != 0) [[unlikely]] return false;
  table_.forget(fd, *entry);
  return true;
}

// close(2) is called at once. For pipes and sockets it does not wait; for files there is no way to have it done elsewhere
// that does not come back to this kernel thread, which drops the last reference on its return to user mode.
bool reactor::begin_close(operation& op) {
  const std::size_t before = finished_count_;
  if (!let_go(op.fd)) [[unlikely]] {
    set_place(op, place::closing);
    closing_.push_back(op);
    return false;
  }
  const int r = owned_->remove(op.fd) ? ::close(op.fd) : 0;
  op.result = r == 0 || errno == EINTR ? 0 : -errno;  // after EINTR the number is gone all the same
  if (finished_count_ == before) return true;
  finish(op, op.result);  // behind those it woke
  return false;
}

// Closes what was closed on other kernel threads. Where workers are at it, it is tried again when they have done something.
void reactor::close_left() {
  owned_->take_left(left_);
  std::erase_if(left_, [this](int fd) {
    if (!let_go(fd)) return false;
    ::close(fd);
    return true;
  });
}

// A worker is done with `fd`. Others may be at it still, or again: then the close goes on waiting.
void reactor::resume_close(int fd) {
  operation_list waiting = closing_.take();
  while (operation* const op = waiting.pop_front()) {
    if (op->fd != fd) {
      closing_.push_back(*op);
    } else if (begin_close(*op)) {
      finish(*op, op->result);
    }
  }
}

}  // namespace weft::upcall::engine
