#include "upcall/reactor.hpp"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "upcall/direct.hpp"
#include "upcall/opening.hpp"
#include "weft/error.hpp"

namespace weft::upcall::engine {

namespace {

using flag = descriptor_entry::flag;

}  // namespace

reactor::reactor(transfer how, std::unique_ptr<ring> first, std::string report)
    : first_ring_(std::move(first)),
      how_(how),
      news_(std::make_unique<std::array<epoll_event, news_at_once>>()),
      events_(std::make_unique<std::array<event, events_at_once>>()),
      workers_(std::make_unique<workers>(*this)),
      owned_(std::make_unique<owned_descriptors>(*this)),
      report_(std::move(report)),
      owner_(::getpid()),
      doorbell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (doorbell_ < 0) weft::detail::throw_errno(errno, "weft: the kernel refuses an eventfd (too many open files?)");
  table_.add_own(doorbell_);
  table_.enter_in(*owned_);
}

// In a forked child the ring and the workers are the parent's: they are left alone.
reactor::~reactor() {
  if (::getpid() != owner_) {
    first_ring_->abandon();
    static_cast<void>(workers_.release());
  }
  workers_.reset();  // before the doorbell, which they ring, as do those who leave descriptors to us
  owned_.reset();
  for (const int fd : left_) ::close(fd);
  ::close(doorbell_);
}

// ---- moving operations ----

// The entry that `op` started with; null if it has none, or its number was closed since.
descriptor_entry* reactor::entry_of(const operation& op) noexcept {
  if (op.code == opcode::open || op.code == opcode::close) return nullptr;
  descriptor_entry* const entry = table_.find(op.fd);
  return entry != nullptr && entry->generation == generation_of(op) ? entry : nullptr;
}

void reactor::collect(operation& op, descriptor_entry* entry) {
  if (entry != nullptr) {
    ++entry->held;
    const bool is_file = has(op, mark::file);
    if (!is_file || op.offset < 0) {
      const direction d = is_file ? direction::read : direction_of(op.code);
      entry->set(descriptor_entry::turn_flag(d));
      op.stage |= d == direction::read ? mark::turn : mark::turn | mark::write_turn;
    }
  }
  set_place(op, place::collected);
  batch_.push_back(op);
  ++batch_size_;
}

void reactor::uncollect(operation& op) {
  batch_.remove(op);
  --batch_size_;
  if (descriptor_entry* const entry = entry_of(op); entry != nullptr) {
    --entry->held;
    give_turn_back(op, *entry);
  }
}

// Puts the next in line into the batch if it could transfer now.
void reactor::advance(descriptor_entry& entry, direction d) {
  operation* const op = entry.waiting(d).front();
  if (op == nullptr || !entry.open(d)) return;
  entry.waiting(d).remove(*op);
  collect(*op, &entry);
}

void reactor::give_turn_back(operation& op, descriptor_entry& entry) {
  if (!has(op, mark::turn)) return;
  const direction d = has(op, mark::write_turn) ? direction::write : direction::read;
  op.stage &= ~(mark::turn | mark::write_turn);
  entry.clear(descriptor_entry::turn_flag(d));
  advance(entry, d);
}

// The event is written at once, while the operation is in the cache; when there is no room for it, it waits in a list.
void reactor::finish(operation& op, std::int32_t result) {
  op.result = result;
  set_place(op, place::finished);
  ++finished_count_;
  if (finished_count_ <= events_->size()) {
    (*events_)[finished_count_ - 1] = upcall_of(op);
  } else {
    finished_.push_back(op);
  }
}

// ---- carrying out ----

void reactor::flush() {
  while (!batch_.empty()) {
    const bool enough = batch_size_ >= many;
    const bool through_ring = enough && how_ == transfer::ring && ring_->usable();
    operation_list now = batch_.take();
    batch_size_ = 0;
    while (operation* const op = now.pop_front()) {
      if (now.front() != nullptr) __builtin_prefetch(now.front()->next);
      descriptor_entry* const entry = entry_of(*op);
      if (entry != nullptr) --entry->held;
      if (has(*op, mark::file)) {
        carry_out_file(*op);
      } else if (enough && entry->in_doubt(direction_of(op->code))) {
        if (asked_count_ == asked_at_once) ask_doubtful(through_ring);
        asked_[asked_count_] = {op->fd, POLLIN | POLLPRI | POLLRDHUP, 0};
        askers_[asked_count_++] = op;
      } else {
        carry_out(*op, through_ring);
      }
    }
    if (asked_count_ != 0) ask_doubtful(through_ring);
    if (ring_->has_prepared()) submit();
    if (ring_->in_flight() != 0) reap();
  }
  if (ring_->has_prepared()) submit();  // cancellations
  if (flushed_ != file_reads::none) in_memory_ = flushed_ == file_reads::all_done && ring_->in_flight() == 0;
  flushed_ = file_reads::none;
}

// After a full read nobody knows whether there is more. Where it turned out that there is not, the next time one poll(2) for
// many of them answers for a fifth of what a read costs that fails.
void reactor::ask_doubtful(bool through_ring) {
  const bool answered = ::poll(asked_.data(), asked_count_, 0) >= 0;
  const std::size_t count = asked_count_;
  asked_count_ = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (answered && asked_[i].revents == 0) {
      transferred(*askers_[i], -EAGAIN);
    } else {
      entry_of(*askers_[i])->clear(flag::doubtful);
      carry_out(*askers_[i], through_ring);
    }
  }
}

void reactor::carry_out(operation& op, bool through_ring) {
  descriptor_entry& entry = *entry_of(op);
  if (has(op, mark::connecting)) return connected(op);
  const bool vectored = op.code == opcode::readv || op.code == opcode::writev;
  const bool single = op.code == opcode::accept || (vectored && entry.is(flag::socket));
  if (!through_ring || single || entry.is(flag::no_nowait)) {
    return transferred(op, call_without_waiting(op, entry));
  }
  while (ring_->full()) submit();
  ring_->prepare_transfer(op, entry.is(flag::socket));
}

void reactor::carry_out_file(operation& op) {
  if (op.code == opcode::read && flushed_ == file_reads::none) flushed_ = file_reads::all_done;
  if (how_ == transfer::ring && !op.portable && ring_->usable()) {
    while (ring_->full()) submit();
    return ring_->prepare_file(op);
  }
  if (!has(op, mark::untimely)) {
    descriptor_entry* const entry = entry_of(op);
    std::int32_t r = -EAGAIN;
    if (op.code == opcode::open) r = open_without_waiting(op);
    if (entry != nullptr) r = file_without_waiting(op, *entry);
    if (r != -EAGAIN) return file_done(op, r);
  }
  to_worker(op);
}

void reactor::transferred(operation& op, std::int32_t result) {
  descriptor_entry* const entry = entry_of(op);
  if (entry == nullptr) return finish(op, result == -EAGAIN ? -EBADF : result);
  if (op.code == opcode::accept) table_.renew(result);
  entry->settle(op, result);
  const direction d = direction_of(op.code);
  if (result != -EAGAIN) {
    give_turn_back(op, *entry);
    return finish(op, result);
  }
  op.stage &= ~(mark::turn | mark::write_turn);
  entry->clear(descriptor_entry::turn_flag(d));
  if (park(op, *entry, d, line::first)) finish(op, op.result);
}

void reactor::file_done(operation& op, std::int32_t result) {
  if (op.code == opcode::open) return opened(op, result);
  if (descriptor_entry* const entry = entry_of(op); entry != nullptr) give_turn_back(op, *entry);
  finish(op, result);
}

// An edge arrived while connect(2) was under way.
void reactor::connected(operation& op) {
  descriptor_entry& entry = *entry_of(op);
  int error = 0;
  socklen_t length = sizeof(error);
  if (::getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  pollfd asked{op.fd, POLLOUT, 0};
  if (error == 0 && ::poll(&asked, 1, 0) == 0) return transferred(op, -EAGAIN);
  give_turn_back(op, entry);
  finish(op, -error);
}

// Its descriptor may have been closed while the ring had it, which then refused it: the number is not to be used any more.
void reactor::to_worker(operation& op) {
  descriptor_entry* const entry = entry_of(op);
  if (entry == nullptr && op.code != opcode::open) return file_done(op, part_or(op, -EBADF));
  if (entry != nullptr) ++entry->held;
  if (op.code == opcode::read) flushed_ = file_reads::some_wait;
  set_place(op, place::in_worker);
  workers_->submit(op);
}

void reactor::left_worker(operation& op) {
  if (descriptor_entry* const entry = entry_of(op); entry != nullptr) {
    --entry->held;
    give_turn_back(op, *entry);
  }
}

void reactor::submit() {
  while (!ring_->submit()) reap();
}

// Reads and writes by way of the ring find out that the number names something else by now, or cannot be told not to wait.
// The direct call knows what to do then.
std::int32_t reactor::second_try(operation& op, std::int32_t result) {
  if (result != -EOPNOTSUPP && result != -ENOTSOCK) [[likely]] return result;
  descriptor_entry* const entry = entry_of(op);
  const bool has_flags = op.code == opcode::receive || op.code == opcode::send;
  return entry == nullptr || has_flags ? result : call_without_waiting(op, *entry);
}

void reactor::reap() {
  ring_news_ |= ring_->reap([this](operation& op, std::int32_t result) {
    if (has(op, mark::cancelling) && result == -EINTR) result = -ECANCELED;
    if (!has(op, mark::file)) {
      transferred(op, second_try(op, result));
    } else if (result == -EAGAIN) {
      to_worker(op);  // some file systems refuse files that are O_NONBLOCK to the ring
    } else {
      file_done(op, part_or(op, result));
    }
  });
}

}  // namespace weft::upcall::engine
