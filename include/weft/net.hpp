// Sockets with types: addresses, TCP and Unix-domain streams and listeners. Each call parks the calling thread only.
//
//   weft::net::tcp_listener listener(weft::net::endpoint::loopback(0));
//   for (;;) {
//     weft::thread([stream = listener.accept()]() mutable { serve(stream); }).detach();
//   }
//
// Forms, deadlines, errors and buffers are those of io.hpp: read its head first.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "weft/io.hpp"

namespace weft::net {

/// Where a socket is or goes: an IPv4 or IPv6 address with a port, or the path of a Unix-domain socket. A plain value.
class endpoint {
 public:
  /// No address.
  endpoint() noexcept = default;
  /// From the system's own form, of which at most `capacity` bytes are kept.
  endpoint(const sockaddr* address, socklen_t length) noexcept;

  /// Port `port` of this machine only (127.0.0.1), and of all its addresses (0.0.0.0; 0 lets the kernel choose a port).
  [[nodiscard]] static endpoint loopback(std::uint16_t port) noexcept;
  [[nodiscard]] static endpoint any(std::uint16_t port) noexcept;
  /// The same for IPv6: ::1, and :: (which takes IPv4 too unless the system says otherwise).
  [[nodiscard]] static endpoint loopback_v6(std::uint16_t port) noexcept;
  [[nodiscard]] static endpoint any_v6(std::uint16_t port) noexcept;
  /// A numeric address, "192.0.2.1", "2001:db8::1" or "fe80::1%eth0".
  /// @throws std::system_error(invalid_argument) for anything else; names are for `resolve`.
  [[nodiscard]] static endpoint ip(std::string_view address, std::uint16_t port);
  /// A Unix-domain socket at `path`; a path that begins with '@' is an abstract name (no file).
  /// @throws std::system_error(filename_too_long) beyond 107 bytes.
  [[nodiscard]] static endpoint local(std::string_view path);
  /// What `to_string` prints: "192.0.2.1:80", "[2001:db8::1]:80", "unix:/run/x", "unix:@name".
  /// @throws std::system_error(invalid_argument) for anything else, with the text in it.
  [[nodiscard]] static endpoint parse(std::string_view text);
  [[nodiscard]] static endpoint parse(std::string_view text, std::error_code& ec);

  [[nodiscard]] int family() const noexcept { return address_.any.sa_family; }  ///< AF_INET, AF_INET6, AF_UNIX or AF_UNSPEC
  [[nodiscard]] std::uint16_t port() const noexcept;                            ///< 0 when it has none
  [[nodiscard]] std::string path() const;                                       ///< of a Unix-domain socket; "" when it has none
  [[nodiscard]] std::string to_string() const;

  [[nodiscard]] const sockaddr* data() const noexcept { return &address_.any; }
  [[nodiscard]] sockaddr* data() noexcept { return &address_.any; }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }
  /// After the system filled `data()`: `n` bytes of it count. At most `capacity`.
  void resize(socklen_t n) noexcept;
  [[nodiscard]] static constexpr socklen_t capacity() noexcept { return sizeof(storage); }

  friend bool operator==(const endpoint& a, const endpoint& b) noexcept;

 private:
  union storage {
    sockaddr_un path{};
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  };
  storage address_;
  socklen_t size_ = 0;
};

/// The addresses of `host` (a name or a numeric address) at `port`, in the system's order of preference, each once.
///
/// Numeric addresses cost no wait. A name is looked up by getaddrinfo(3) on a kernel thread of its own meanwhile; when the
/// deadline comes or the thread is asked to end first, that kernel thread finishes alone and its answer is dropped.
/// @throws std::system_error, with getaddrinfo's own sentence: host_unreachable when the name has no address,
///         resource_unavailable_try_again when the name server failed for now, timed_out; weft::cancelled.
[[nodiscard]] std::vector<endpoint> resolve(std::string_view host, std::uint16_t port, time_point deadline = never);
[[nodiscard]] std::vector<endpoint> resolve(std::string_view host, std::uint16_t port, std::error_code& ec,
                                            time_point deadline = never);

/// What TCP and Unix-domain streams share: bytes both ways. Two threads may use one stream at the same time, one reading
/// and one writing. Movable; destroying it closes it.
class stream {
 public:
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return socket_; }
  [[nodiscard]] int native_handle() const noexcept { return socket_.get(); }

  /// Some bytes, at least one; 0: the peer will send no more.
  std::size_t read(io::buffer to, time_point deadline = never);
  std::size_t read(io::buffer to, std::error_code& ec, time_point deadline = never);
  /// Sends some bytes of `data`. broken_pipe or connection_reset when the peer is gone; never a SIGPIPE.
  std::size_t write(io::const_buffer data, time_point deadline = never);
  std::size_t write(io::const_buffer data, std::error_code& ec, time_point deadline = never);
  /// As `io::read_exactly` and `io::write_all`: errors carry the bytes done.
  std::size_t read_exactly(io::buffer to, time_point deadline = never);
  std::size_t read_exactly(io::buffer to, std::error_code& ec, time_point deadline = never);
  std::size_t write_all(io::const_buffer data, time_point deadline = never);
  std::size_t write_all(io::const_buffer data, std::error_code& ec, time_point deadline = never);

  /// Ends one direction or both: SHUT_WR lets the peer read 0, SHUT_RD ends our own reads with 0.
  void shutdown(int how = SHUT_RDWR);
  void shutdown(int how, std::error_code& ec);
  /// Closes now. Threads in a call on this stream get bad_file_descriptor.
  void close() { socket_.close(); }
  void close(std::error_code& ec) { socket_.close(ec); }

  [[nodiscard]] endpoint local_endpoint() const;   ///< our end. @throws std::system_error
  [[nodiscard]] endpoint remote_endpoint() const;  ///< the peer's. @throws std::system_error(not_connected) when it is gone

 protected:
  stream() noexcept = default;
  explicit stream(io::descriptor socket) noexcept : socket_(std::move(socket)) {}
  stream(stream&&) noexcept = default;
  stream& operator=(stream&&) noexcept = default;
  ~stream() = default;

  io::descriptor socket_;
};

/// A TCP connection. `TCP_NODELAY` is on: what is written leaves at once; turn it off with `no_delay(false)`.
class tcp_stream : public stream {
 public:
  /// Not connected: every call fails with bad_file_descriptor.
  tcp_stream() noexcept = default;
  /// Takes over a connected socket.
  explicit tcp_stream(io::descriptor socket) noexcept : stream(std::move(socket)) {}

  /// Connects. @throws std::system_error with the address in its text: connection_refused, timed_out, …
  [[nodiscard]] static tcp_stream connect(const endpoint& to, time_point deadline = never);
  [[nodiscard]] static tcp_stream connect(const endpoint& to, std::error_code& ec, time_point deadline = never);
  /// Resolves `host` and tries its addresses in order until one answers. The error is the last one's.
  [[nodiscard]] static tcp_stream connect(std::string_view host, std::uint16_t port, time_point deadline = never);
  [[nodiscard]] static tcp_stream connect(std::string_view host, std::uint16_t port, std::error_code& ec,
                                          time_point deadline = never);

  void no_delay(bool on);    ///< TCP_NODELAY. @throws std::system_error
  void keep_alive(bool on);  ///< SO_KEEPALIVE. @throws std::system_error
};

/// How a TCP listener listens.
struct listen_options {
  int backlog = SOMAXCONN;   ///< connections that may wait to be accepted; the system caps it
  bool reuse_port = false;   ///< SO_REUSEPORT: several listeners share one port, say one per scheduler
  bool v6_only = false;      ///< IPV6_V6ONLY
};

/// Accepts TCP connections. SO_REUSEADDR is set, so a server restarts at once. Several threads may accept from one listener.
class tcp_listener {
 public:
  tcp_listener() noexcept = default;
  /// Binds and listens; port 0 lets the kernel choose (`local_endpoint` tells). Never blocks.
  /// @throws std::system_error with the address in its text: address_in_use, permission_denied, …
  explicit tcp_listener(const endpoint& at, const listen_options& how = {});

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return socket_; }
  [[nodiscard]] endpoint local_endpoint() const;

  /// The next connection. One that was aborted before it was accepted is skipped.
  /// @throws std::system_error: too_many_files_open (the connection stays in the queue), timed_out; bad_file_descriptor when
  ///         the listener was closed.
  [[nodiscard]] tcp_stream accept(time_point deadline = never);
  [[nodiscard]] tcp_stream accept(std::error_code& ec, time_point deadline = never);

  void close() { socket_.close(); }
  void close(std::error_code& ec) { socket_.close(ec); }

 private:
  io::descriptor socket_;
};

/// A Unix-domain stream connection between processes or threads of one machine.
class unix_stream : public stream {
 public:
  unix_stream() noexcept = default;
  explicit unix_stream(io::descriptor socket) noexcept : stream(std::move(socket)) {}

  /// Connects to the listener at `path` ('@' first: abstract). @throws std::system_error: no_such_file_or_directory, …
  [[nodiscard]] static unix_stream connect(std::string_view path, time_point deadline = never);
  [[nodiscard]] static unix_stream connect(std::string_view path, std::error_code& ec, time_point deadline = never);
  /// Two ends of one new connection. Never blocks. @throws std::system_error(too_many_files_open)
  [[nodiscard]] static std::pair<unix_stream, unix_stream> pair();
};

/// Accepts Unix-domain connections at a path. The socket's file is removed when the listener closes, if it is still ours.
class unix_listener {
 public:
  unix_listener() noexcept = default;
  /// Binds and listens. @throws std::system_error: address_in_use when `path` exists (also when nobody listens there), …
  explicit unix_listener(std::string_view path, int backlog = SOMAXCONN);
  unix_listener(unix_listener&& other) noexcept = default;
  unix_listener& operator=(unix_listener&& other) noexcept;
  ~unix_listener();

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return socket_; }
  [[nodiscard]] endpoint local_endpoint() const;

  /// As `tcp_listener::accept`.
  [[nodiscard]] unix_stream accept(time_point deadline = never);
  [[nodiscard]] unix_stream accept(std::error_code& ec, time_point deadline = never);

  void close();
  void close(std::error_code& ec);

 private:
  void remove_file() noexcept;

  io::descriptor socket_;
  std::string path_;          // of our file; empty: none
  dev_t device_ = 0;          // what identifies it
  ino_t inode_ = 0;
};

}  // namespace weft::net
