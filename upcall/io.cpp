// Transfers, fsync and poll. Each call is a request on the caller's stack, `perform`, and a conversion: no allocation.
#include "weft/io.hpp"

#include <limits.h>
#include <sys/uio.h>

#include <algorithm>

#include "upcall/io_call.hpp"

namespace weft::io {

using detail::carry_out;
using detail::count;
using detail::result;
using upcall::opcode;

namespace {

// MAX_RW_COUNT of Linux: no transfer is longer, and a result fits into 31 bits.
constexpr std::size_t longest_transfer = 0x7ffff000;

result transfer(opcode code, handle on, void* data, std::size_t size, off_t offset, time_point deadline) {
  upcall::operation asked = detail::request(code, on);
  asked.address = data;
  asked.length = std::min(size, longest_transfer);
  asked.offset = offset;
  return carry_out(asked, deadline);
}

// Nothing to transfer: the kernel only looks whether the descriptor is open for it. A vector of no buffers asks just that and
// never waits, which read(2) of zero bytes does on some descriptors and which an engine that waits for readiness would.
result nothing(opcode code, handle on) noexcept {
  return static_cast<result>(detail::at_once(
      [&] { return code == opcode::read ? ::readv(on.fd(), nullptr, 0) : ::writev(on.fd(), nullptr, 0); }));
}

result read_some(handle from, buffer to, off_t offset, time_point deadline) {
  if (to.size() == 0) [[unlikely]] return nothing(opcode::read, from);
  return transfer(opcode::read, from, to.data(), to.size(), offset, deadline);
}

result write_some(handle to, const_buffer data, off_t offset, time_point deadline) {
  if (data.size() == 0) [[unlikely]] return nothing(opcode::write, to);
  return transfer(opcode::write, to, const_cast<void*>(data.data()), data.size(), offset, deadline);
}

// Offset -1 means "the position" inside; from the caller it is an error, as for pread(2).
result read_there(handle from, buffer to, off_t offset, time_point deadline) {
  return offset < 0 ? -EINVAL : read_some(from, to, offset, deadline);
}
result write_there(handle to, const_buffer data, off_t offset, time_point deadline) {
  return offset < 0 ? -EINVAL : write_some(to, data, offset, deadline);
}

result vectored(opcode code, handle on, std::span<const iovec> vectors, time_point deadline) {
  const bool empty = std::ranges::all_of(vectors, [](const iovec& v) { return v.iov_len == 0; });
  if (empty) [[unlikely]] return nothing(code == opcode::readv ? opcode::read : opcode::write, on);
  upcall::operation asked = detail::request(code, on);
  asked.address = const_cast<iovec*>(vectors.data());
  asked.length = std::min<std::size_t>(vectors.size(), IOV_MAX);
  return carry_out(asked, deadline);
}

result synchronise(handle file, int data_only, time_point deadline) {
  upcall::operation asked = detail::request(opcode::sync, file);
  asked.flags = data_only;
  return carry_out(asked, deadline);
}

result poll_one(handle on, short events, time_point deadline) {
  upcall::operation asked = detail::request(opcode::poll, on);
  asked.flags = events;
  const result r = carry_out(asked, deadline);
  return r == -ETIMEDOUT ? 0 : r;
}

}  // namespace

std::size_t read(handle from, buffer to, time_point deadline) {
  return count(read_some(from, to, -1, deadline), "read from", from);
}
std::size_t read(handle from, buffer to, std::error_code& ec, time_point deadline) {
  return count(read_some(from, to, -1, deadline), ec);
}

std::size_t write(handle to, const_buffer data, time_point deadline) {
  return count(write_some(to, data, -1, deadline), "write to", to);
}
std::size_t write(handle to, const_buffer data, std::error_code& ec, time_point deadline) {
  return count(write_some(to, data, -1, deadline), ec);
}

std::size_t pread(handle from, buffer to, off_t offset, time_point deadline) {
  return count(read_there(from, to, offset, deadline), "read from", from);
}
std::size_t pread(handle from, buffer to, off_t offset, std::error_code& ec, time_point deadline) {
  return count(read_there(from, to, offset, deadline), ec);
}

std::size_t pwrite(handle to, const_buffer data, off_t offset, time_point deadline) {
  return count(write_there(to, data, offset, deadline), "write to", to);
}
std::size_t pwrite(handle to, const_buffer data, off_t offset, std::error_code& ec, time_point deadline) {
  return count(write_there(to, data, offset, deadline), ec);
}

std::size_t readv(handle from, std::span<const iovec> to, time_point deadline) {
  return count(vectored(opcode::readv, from, to, deadline), "read from", from);
}
std::size_t readv(handle from, std::span<const iovec> to, std::error_code& ec, time_point deadline) {
  return count(vectored(opcode::readv, from, to, deadline), ec);
}

std::size_t writev(handle to, std::span<const iovec> data, time_point deadline) {
  return count(vectored(opcode::writev, to, data, deadline), "write to", to);
}
std::size_t writev(handle to, std::span<const iovec> data, std::error_code& ec, time_point deadline) {
  return count(vectored(opcode::writev, to, data, deadline), ec);
}

void fsync(handle file, time_point deadline) { detail::value(synchronise(file, 0, deadline), "synchronise", file); }
void fsync(handle file, std::error_code& ec, time_point deadline) { detail::value(synchronise(file, 0, deadline), ec); }
void fdatasync(handle file, time_point deadline) { detail::value(synchronise(file, 1, deadline), "synchronise", file); }
void fdatasync(handle file, std::error_code& ec, time_point deadline) { detail::value(synchronise(file, 1, deadline), ec); }

int poll(handle on, short events, time_point deadline) {
  return detail::value(poll_one(on, events, deadline), "poll", on);
}
int poll(handle on, short events, std::error_code& ec, time_point deadline) {
  return static_cast<int>(count(poll_one(on, events, deadline), ec));
}

}  // namespace weft::io
