// The socket calls. Those that never wait are plain system calls; accept, connect, send and recv are requests.
#include <sys/socket.h>

#include <algorithm>

#include "upcall/io_call.hpp"
#include "weft/error.hpp"
#include "weft/io.hpp"

namespace weft::io {

using detail::carry_out;
using detail::count;
using detail::result;
using detail::value;
using upcall::opcode;

namespace {

constexpr std::size_t longest_transfer = 0x7ffff000;  // as in io.cpp

result new_socket(int domain, int type, int protocol) noexcept {
  return detail::at_once([&] { return ::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol); });
}
result bind_now(handle s, const sockaddr* address, socklen_t length) noexcept {
  return detail::at_once([&] { return ::bind(s.fd(), address, length); });
}
result listen_now(handle s, int backlog) noexcept {
  return detail::at_once([&] { return ::listen(s.fd(), backlog); });
}
result shutdown_now(handle s, int how) noexcept {
  return detail::at_once([&] { return ::shutdown(s.fd(), how); });
}

result accept_one(handle listener, sockaddr* address, socklen_t* length, time_point deadline) {
  upcall::operation asked = detail::request(opcode::accept, listener);
  asked.address = address;
  asked.address_length = length;
  asked.flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
  return carry_out(asked, deadline);
}

result connect_to(handle s, const sockaddr* address, socklen_t length, time_point deadline) {
  upcall::operation asked = detail::request(opcode::connect, s);
  asked.address = const_cast<sockaddr*>(address);
  asked.length = length;
  return carry_out(asked, deadline);
}

result send_some(handle s, const_buffer data, int flags, time_point deadline) {
  upcall::operation asked = detail::request(opcode::send, s);
  asked.address = const_cast<void*>(data.data());
  asked.length = std::min(data.size(), longest_transfer);
  asked.flags = flags | MSG_NOSIGNAL;
  return carry_out(asked, deadline);
}

result receive_some(handle s, buffer to, int flags, time_point deadline) {
  upcall::operation asked = detail::request(opcode::receive, s);
  asked.address = to.data();
  asked.length = std::min(to.size(), longest_transfer);
  asked.flags = flags;
  return carry_out(asked, deadline);
}

bool is_stream(handle s) noexcept {
  int type = 0;
  socklen_t length = sizeof(type);
  return ::getsockopt(s.fd(), SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

// Engines take what is there without waiting, so MSG_WAITALL on a stream is a loop here. As in the kernel, an error or the end
// after a part yields the part; a thread asked to end after a part gets the part too, and `cancelled` from its next call.
result receive_all(handle s, buffer to, int flags, time_point deadline) {
  const std::size_t wanted = std::min(to.size(), longest_transfer);
  std::size_t done = 0;
  while (done < wanted) {
    result r = 0;
    try {
      r = receive_some(s, buffer(static_cast<std::byte*>(to.data()) + done, wanted - done), flags & ~MSG_WAITALL, deadline);
    } catch (const cancelled&) {
      if (done == 0) throw;
    }
    if (r <= 0 && done == 0) return r;
    if (r <= 0) break;
    done += static_cast<std::size_t>(r);
  }
  return static_cast<result>(done);
}

result receive(handle s, buffer to, int flags, time_point deadline) {
  if ((flags & MSG_WAITALL) != 0 && (flags & MSG_PEEK) == 0 && is_stream(s)) [[unlikely]] {
    return receive_all(s, to, flags, deadline);
  }
  return receive_some(s, to, flags, deadline);
}

}  // namespace

int socket(int domain, int type, int protocol) {
  const result fd = new_socket(domain, type, protocol);
  if (fd < 0) detail::fail(detail::code_of(-fd), "make a socket");
  return fd;
}
int socket(int domain, int type, int protocol, std::error_code& ec) { return value(new_socket(domain, type, protocol), ec); }

void bind(handle socket, const sockaddr* address, socklen_t length) {
  value(bind_now(socket, address, length), "bind", socket);
}
void bind(handle socket, const sockaddr* address, socklen_t length, std::error_code& ec) {
  value(bind_now(socket, address, length), ec);
}

void listen(handle socket, int backlog) { value(listen_now(socket, backlog), "listen on", socket); }
void listen(handle socket, int backlog, std::error_code& ec) { value(listen_now(socket, backlog), ec); }

void shutdown(handle socket, int how) { value(shutdown_now(socket, how), "shut down", socket); }
void shutdown(handle socket, int how, std::error_code& ec) { value(shutdown_now(socket, how), ec); }

int accept(handle listener, time_point deadline) { return accept(listener, nullptr, nullptr, deadline); }
int accept(handle listener, std::error_code& ec, time_point deadline) {
  return accept(listener, nullptr, nullptr, ec, deadline);
}
int accept(handle listener, sockaddr* address, socklen_t* length, time_point deadline) {
  return value(accept_one(listener, address, length, deadline), "accept from", listener);
}
int accept(handle listener, sockaddr* address, socklen_t* length, std::error_code& ec, time_point deadline) {
  return value(accept_one(listener, address, length, deadline), ec);
}

void connect(handle socket, const sockaddr* address, socklen_t length, time_point deadline) {
  value(connect_to(socket, address, length, deadline), "connect", socket);
}
void connect(handle socket, const sockaddr* address, socklen_t length, std::error_code& ec, time_point deadline) {
  value(connect_to(socket, address, length, deadline), ec);
}

std::size_t send(handle socket, const_buffer data, int flags, time_point deadline) {
  return count(send_some(socket, data, flags, deadline), "send to", socket);
}
std::size_t send(handle socket, const_buffer data, int flags, std::error_code& ec, time_point deadline) {
  return count(send_some(socket, data, flags, deadline), ec);
}

std::size_t recv(handle socket, buffer to, int flags, time_point deadline) {
  return count(receive(socket, to, flags, deadline), "receive from", socket);
}
std::size_t recv(handle socket, buffer to, int flags, std::error_code& ec, time_point deadline) {
  return count(receive(socket, to, flags, deadline), ec);
}

}  // namespace weft::io
