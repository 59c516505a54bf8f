#include "upcall/descriptor_table.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>
#include <system_error>

#include "weft/error.hpp"

namespace weft::upcall::engine {

namespace {

// EPOLLOUT is asked for only once somebody has waited to write: Unix sockets report it with every message they lose.
constexpr std::uint32_t for_reading = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET;
constexpr std::uint32_t for_both = for_reading | EPOLLOUT;

// What a descriptor that can be polled is, as flags of its entry; or a negative errno.
//
// `drains` is claimed only where a short transfer proves that nothing is left. A datagram, a terminal's line, an inotify
// event, a packet in a pipe (whose reading end does not tell that it has packets) or descriptors that pass through a Unix
// socket cut a read short although more is there, and no edge would follow.
int kind_of(int fd) noexcept {
  using flag = descriptor_entry::flag;
  int protocol = 0;
  socklen_t length = sizeof(protocol);
  if (::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0) {
    return protocol == IPPROTO_TCP ? flag::socket | flag::drains : flag::socket;
  }
  if (errno != ENOTSOCK) return -errno;
  const int how = ::fcntl(fd, F_GETFL);
  if (how < 0) return -errno;
  return (how & O_NONBLOCK) != 0 ? flag::nonblocking : 0;
}

// The same for a file. With O_DIRECT, RWF_NOWAIT does not keep a call from waiting for the disk.
int kind_of_file(int fd) noexcept {
  using flag = descriptor_entry::flag;
  const int how = ::fcntl(fd, F_GETFL);
  if (how < 0) return -errno;
  return flag::file | ((how & O_DIRECT) != 0 ? flag::no_nowait | flag::no_nowait_write : 0);
}

std::size_t wanted(const operation& op) noexcept {
  if (op.code != opcode::readv && op.code != opcode::writev) return op.length;
  std::size_t bytes = 0;
  const auto* const vectors = static_cast<const iovec*>(op.address);
  for (std::size_t i = 0; i < op.length; ++i) bytes += vectors[i].iov_len;
  return bytes;
}

}  // namespace

direction direction_of(opcode code) noexcept {
  const bool writes = code == opcode::write || code == opcode::writev || code == opcode::send || code == opcode::connect;
  return writes ? direction::write : direction::read;
}

void descriptor_entry::edge(std::uint32_t events) noexcept {
  if ((events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) set(readable | proven);
  if ((events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) set(ended);
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) set(writable);
}

void descriptor_entry::settle(const operation& op, std::int32_t result) noexcept {
  const direction d = direction_of(op.code);
  if (result == -EAGAIN) {
    if (d == direction::read && !is(proven)) set(doubtful);
    clear(d == direction::read ? readable | proven | ended : writable);
    return;
  }
  if (d == direction::read) clear(proven);
  if (!is(drains) || result <= 0 || op.code == opcode::accept) return;
  if (d == direction::read && (is(ended) || (op.code == opcode::receive && (op.flags & (MSG_PEEK | MSG_OOB)) != 0))) return;
  if (static_cast<std::size_t>(result) < wanted(op)) clear(ready_flag(d));
}

descriptor_table::descriptor_table() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) weft::detail::throw_errno(errno, "weft: the kernel refuses an epoll set (too many open files?)");
}

descriptor_table::~descriptor_table() { ::close(epoll_); }

int descriptor_table::control(int request, int fd, std::uint32_t events) noexcept {
  epoll_event what{};
  what.events = events;
  what.data.fd = fd;
  return ::epoll_ctl(epoll_, request, fd, &what) == 0 ? 0 : -errno;
}

void descriptor_table::add_own(int fd) {
  epoll_event what{};
  what.events = EPOLLIN | EPOLLET;
  what.data.fd = -1;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &what) != 0) {
    weft::detail::throw_errno(errno, "weft: the kernel refuses a descriptor in an epoll set");
  }
}

int descriptor_table::recheck(int fd, descriptor_entry& entry, bool writing) noexcept {
  using flag = descriptor_entry::flag;
  const std::uint32_t events = writing || entry.is(flag::watches_writing) ? for_both : for_reading;
  int r = control(EPOLL_CTL_MOD, fd, events);
  if (r == -ENOENT) r = control(EPOLL_CTL_ADD, fd, events);
  if (r == 0 && events == for_both) entry.set(flag::watches_writing);
  return r;
}

int descriptor_table::classify(int fd, bool owned, descriptor_entry*& entry) noexcept {
  using flag = descriptor_entry::flag;
  if (fd < 0) return -EBADF;
  entry = find(fd);
  const int wide = entry == nullptr ? 0 : entry->flags & flag::watches_writing;
  int watched = 0;
  int r = control(EPOLL_CTL_ADD, fd, for_reading);
  if (r == -EEXIST) {  // registered by us, so `wide` is true of it, and somebody may be waiting to write
    watched = wide;
    r = control(EPOLL_CTL_MOD, fd, wide != 0 ? for_both : for_reading);
  }
  if (r < 0 && r != -EPERM) return r;
  const int kind = r == -EPERM ? kind_of_file(fd) : kind_of(fd);
  if (kind < 0) return kind;
  const auto place = static_cast<std::size_t>(fd);
  try {
    if (place >= entries_.size()) entries_.resize(std::bit_ceil(std::max<std::size_t>(place + 1, 64)));
    if (owned && owned_ != nullptr) owned_->add(fd);
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
  entry = &entries_[place];
  // Nothing is known of its state yet: the first transfer finds out, and edges report all changes from here on. Turns stay:
  // the operations that hold them still give them back.
  const int state = flag::known | (owned ? flag::trusted : 0) | watched | flag::readable | flag::writable;
  entry->flags = static_cast<std::uint16_t>((entry->flags & (flag::read_turn | flag::write_turn)) | kind | state);
  return 0;
}

void descriptor_table::forget(int fd, descriptor_entry& entry) noexcept {
  using flag = descriptor_entry::flag;
  // By itself a closed descriptor leaves the set only with its last duplicate.
  if (entry.is(flag::known) && !entry.is(flag::file)) static_cast<void>(control(EPOLL_CTL_DEL, fd, 0));
  entry.flags = 0;
  ++entry.generation;
}

}  // namespace weft::upcall::engine
