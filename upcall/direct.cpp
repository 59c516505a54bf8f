#include "upcall/direct.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "upcall/opening.hpp"

namespace weft::upcall::engine {

namespace {

using flag = descriptor_entry::flag;

template <class Call> std::int32_t result_of(Call call) noexcept {
  for (;;) {
    const auto r = call();
    if (r >= 0) return static_cast<std::int32_t>(r);
    if (errno != EINTR) return errno == EWOULDBLOCK ? -EAGAIN : -errno;
  }
}

iovec* vectors_of(const operation& op) noexcept { return static_cast<iovec*>(op.address); }
int count_of(const operation& op) noexcept { return static_cast<int>(op.length); }

std::int32_t message(const operation& op, bool sends) noexcept {
  msghdr header{};
  header.msg_iov = vectors_of(op);
  header.msg_iovlen = op.length;
  return result_of(
      [&] { return sends ? ::sendmsg(op.fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) : ::recvmsg(op.fd, &header, MSG_DONTWAIT); });
}

std::int32_t socket_call(const operation& op) noexcept {
  switch (op.code) {
    case opcode::read:
      return result_of([&] { return ::recv(op.fd, op.address, op.length, MSG_DONTWAIT); });
    case opcode::write:
      return result_of([&] { return ::send(op.fd, op.address, op.length, MSG_DONTWAIT | MSG_NOSIGNAL); });
    case opcode::readv:
      return message(op, false);
    default:
      return message(op, true);
  }
}

std::int32_t vector_call(const operation& op, int how) noexcept {
  iovec one{op.address, op.length};
  const bool single = op.code == opcode::read || op.code == opcode::write;
  iovec* const vectors = single ? &one : vectors_of(op);
  const int count = single ? 1 : count_of(op);
  const bool reads = op.code == opcode::read || op.code == opcode::readv;
  return result_of([&] {
    return reads ? ::preadv2(op.fd, vectors, count, op.offset, how) : ::pwritev2(op.fd, vectors, count, op.offset, how);
  });
}

// For descriptors that know no RWF_NOWAIT (terminals, some devices). If they block, poll(2) is asked first, and a write is
// cut to what POLLOUT promises to take at once.
std::int32_t plain_call(const operation& op, const descriptor_entry& entry) noexcept {
  const bool reads = direction_of(op.code) == direction::read;
  if (entry.is(flag::nonblocking) && op.owned) return vector_call(op, 0);
  pollfd asked{op.fd, static_cast<short>(reads ? POLLIN : POLLOUT), 0};
  if (result_of([&] { return ::poll(&asked, 1, 0); }) == 0) return -EAGAIN;
  if (reads) return vector_call(op, 0);
  iovec first{op.address, op.length};
  if (op.code == opcode::writev) {
    first = *std::find_if(vectors_of(op), vectors_of(op) + op.length - 1, [](const iovec& v) { return v.iov_len != 0; });
  }
  return result_of([&] { return ::write(op.fd, first.iov_base, std::min<std::size_t>(first.iov_len, PIPE_BUF)); });
}

std::int32_t stream_call(const operation& op, descriptor_entry& entry) noexcept {
  if (entry.is(flag::socket)) {
    const std::int32_t r = socket_call(op);
    if (r != -ENOTSOCK) return r;
    entry.clear(flag::socket | flag::drains);  // the number was closed behind our back and names something else
  }
  if (!entry.is(flag::no_nowait)) {
    const std::int32_t r = vector_call(op, RWF_NOWAIT);
    if (r != -EOPNOTSUPP) return r;
    entry.set(flag::no_nowait);
  }
  return plain_call(op, entry);
}

// A descriptor without an owner may have become a blocking one behind our back: asked each time.
std::int32_t accept_call(const operation& op, descriptor_entry& entry) noexcept {
  if (!(op.owned && entry.is(flag::nonblocking))) {
    if (const int r = set_nonblocking(op.fd); r < 0) return r;
    entry.set(flag::nonblocking);
  }
  return result_of([&] {
    return ::accept4(op.fd, static_cast<sockaddr*>(op.address), op.address_length, op.flags | SOCK_NONBLOCK | SOCK_CLOEXEC);
  });
}

void advance(operation& op, std::int32_t bytes) noexcept {
  op.result += bytes;
  op.address = static_cast<char*>(op.address) + bytes;
  op.length -= static_cast<std::size_t>(bytes);
  if (op.offset >= 0) op.offset += bytes;
}

}  // namespace

int set_nonblocking(int fd) noexcept {
  const int how = ::fcntl(fd, F_GETFL);
  if (how < 0) return -errno;
  if ((how & O_NONBLOCK) != 0) return 0;
  return ::fcntl(fd, F_SETFL, how | O_NONBLOCK) == 0 ? 0 : -errno;
}

std::int32_t call_without_waiting(operation& op, descriptor_entry& entry) noexcept {
  switch (op.code) {
    case opcode::receive:
      return result_of([&] { return ::recv(op.fd, op.address, op.length, op.flags | MSG_DONTWAIT); });
    case opcode::send:
      return result_of([&] { return ::send(op.fd, op.address, op.length, op.flags | MSG_DONTWAIT | MSG_NOSIGNAL); });
    case opcode::accept:
      return accept_call(op, entry);
    default:
      return stream_call(op, entry);
  }
}

// A read that ends early has met the end of the file or a page that is not in memory: the next try tells which.
std::int32_t file_without_waiting(operation& op, descriptor_entry& entry) noexcept {
  const flag refused = op.code == opcode::read ? flag::no_nowait : flag::no_nowait_write;
  if ((op.code != opcode::read && op.code != opcode::write) || entry.is(refused)) return -EAGAIN;
  op.result = 0;
  for (;;) {
    const std::int32_t r = vector_call(op, RWF_NOWAIT);
    if (r == -EOPNOTSUPP) entry.set(refused);
    if (r == -EOPNOTSUPP || r == -EAGAIN) return -EAGAIN;
    if (r < 0) return op.result > 0 ? op.result : r;
    if (r == 0 || static_cast<std::size_t>(r) == op.length) return op.result + r;
    advance(op, r);
  }
}

std::int32_t part_or(const operation& op, std::int32_t result) noexcept {
  const bool in_parts = (op.code == opcode::read || op.code == opcode::write) && op.result > 0 && result != -EAGAIN;
  return in_parts ? op.result + std::max(result, 0) : result;
}

std::int32_t call_and_wait(operation& op) noexcept {
  switch (op.code) {
    case opcode::open:
      return open_here(op);
    case opcode::sync:
      return result_of([&] { return op.flags != 0 ? ::fdatasync(op.fd) : ::fsync(op.fd); });
    default:
      return part_or(op, vector_call(op, 0));
  }
}

}  // namespace weft::upcall::engine
