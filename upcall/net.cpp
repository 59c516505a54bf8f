// Streams and listeners.
#include "weft/net.hpp"

#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "upcall/io_call.hpp"
#include "upcall/io_whole.hpp"

namespace weft::net {

namespace {

using naming_call = int (*)(int, sockaddr*, socklen_t*);

endpoint name_of(const io::descriptor& socket, naming_call call, const char* what) {
  endpoint made;
  socklen_t length = endpoint::capacity();
  const int r = io::detail::at_once([&] { return call(socket.get(), made.data(), &length); });
  io::detail::value(r, what, socket);
  made.resize(length);
  return made;
}

int set_option(const io::descriptor& socket, int level, int option, bool on) noexcept {
  const int value = on ? 1 : 0;
  return io::detail::at_once([&] { return ::setsockopt(socket.get(), level, option, &value, sizeof(value)); });
}

bool is_ip(const endpoint& e) noexcept { return e.family() == AF_INET || e.family() == AF_INET6; }

io::descriptor connect_socket(const endpoint& to, std::error_code& ec, time_point deadline) {
  io::descriptor socket(io::socket(to.family(), SOCK_STREAM, 0, ec));
  if (ec) return {};
  if (is_ip(to)) static_cast<void>(set_option(socket, IPPROTO_TCP, TCP_NODELAY, true));
  io::connect(socket, to.data(), to.size(), ec, deadline);
  return ec ? io::descriptor() : std::move(socket);
}

// The listening socket for `at`. What is set on it, its connections inherit: TCP_NODELAY costs no call per connection.
io::descriptor listening_socket(const endpoint& at, const listen_options& how) {
  std::error_code ec;
  io::descriptor socket(io::socket(at.family(), SOCK_STREAM, 0, ec));
  int r = ec ? -ec.value() : 0;
  if (is_ip(at)) {
    if (r >= 0) r = set_option(socket, SOL_SOCKET, SO_REUSEADDR, true);
    if (r >= 0) r = set_option(socket, IPPROTO_TCP, TCP_NODELAY, true);
    if (r >= 0 && how.reuse_port) r = set_option(socket, SOL_SOCKET, SO_REUSEPORT, true);
    if (r >= 0 && at.family() == AF_INET6 && how.v6_only) r = set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, true);
  }
  if (r >= 0) r = io::detail::at_once([&] { return ::bind(socket.get(), at.data(), at.size()); });
  if (r >= 0) r = io::detail::at_once([&] { return ::listen(socket.get(), how.backlog); });
  if (r < 0) io::detail::fail(io::detail::code_of(-r), "listen at " + at.to_string());
  return socket;
}

// A connection that its client gave up while it was in the queue is none of the caller's business.
io::descriptor accept_one(const io::descriptor& listener, std::error_code& ec, time_point deadline) {
  for (;;) {
    io::descriptor made(io::accept(listener, ec, deadline));
    if (ec != std::errc::connection_aborted) return made;
  }
}

io::descriptor accept_one(const io::descriptor& listener, time_point deadline) {
  std::error_code ec;
  io::descriptor made = accept_one(listener, ec, deadline);
  if (ec) [[unlikely]] io::detail::fail(ec.value(), "accept from", listener);
  return made;
}

void check_connected(const std::error_code& ec, const std::string& where) {
  if (ec) [[unlikely]] io::detail::fail(ec, "connect to " + where);
}

}  // namespace

std::size_t stream::read(io::buffer to, time_point deadline) {
  return to.size() == 0 ? 0 : io::recv(socket_, to, 0, deadline);
}
std::size_t stream::read(io::buffer to, std::error_code& ec, time_point deadline) {
  if (to.size() != 0) return io::recv(socket_, to, 0, ec, deadline);
  ec.clear();
  return 0;
}

std::size_t stream::write(io::const_buffer data, time_point deadline) {
  return data.size() == 0 ? 0 : io::send(socket_, data, 0, deadline);
}
std::size_t stream::write(io::const_buffer data, std::error_code& ec, time_point deadline) {
  if (data.size() != 0) return io::send(socket_, data, 0, ec, deadline);
  ec.clear();
  return 0;
}

std::size_t stream::read_exactly(io::buffer to, time_point deadline) {
  return io::detail::whole("receive from", socket_, to,
                           [&](io::buffer rest, std::error_code& ec) { return read(rest, ec, deadline); });
}
std::size_t stream::read_exactly(io::buffer to, std::error_code& ec, time_point deadline) {
  return io::detail::whole(to, ec, [&](io::buffer rest, std::error_code& e) { return read(rest, e, deadline); });
}

std::size_t stream::write_all(io::const_buffer data, time_point deadline) {
  return io::detail::whole("send to", socket_, data,
                           [&](io::const_buffer rest, std::error_code& ec) { return write(rest, ec, deadline); });
}
std::size_t stream::write_all(io::const_buffer data, std::error_code& ec, time_point deadline) {
  return io::detail::whole(data, ec, [&](io::const_buffer rest, std::error_code& e) { return write(rest, e, deadline); });
}

void stream::shutdown(int how) { io::shutdown(socket_, how); }
void stream::shutdown(int how, std::error_code& ec) { io::shutdown(socket_, how, ec); }

endpoint stream::local_endpoint() const { return name_of(socket_, ::getsockname, "ask for the address of"); }
endpoint stream::remote_endpoint() const { return name_of(socket_, ::getpeername, "ask for the peer of"); }

tcp_stream tcp_stream::connect(const endpoint& to, std::error_code& ec, time_point deadline) {
  return tcp_stream(connect_socket(to, ec, deadline));
}
tcp_stream tcp_stream::connect(const endpoint& to, time_point deadline) {
  std::error_code ec;
  tcp_stream made = connect(to, ec, deadline);
  check_connected(ec, to.to_string());
  return made;
}

tcp_stream tcp_stream::connect(std::string_view host, std::uint16_t port, std::error_code& ec, time_point deadline) {
  for (const endpoint& to : resolve(host, port, ec, deadline)) {
    tcp_stream made = connect(to, ec, deadline);
    if (!ec || ec == std::errc::timed_out) return made;
  }
  return {};
}
tcp_stream tcp_stream::connect(std::string_view host, std::uint16_t port, time_point deadline) {
  std::error_code ec;
  tcp_stream made;
  const std::vector<endpoint> found = resolve(host, port, deadline);
  for (const endpoint& to : found) {
    made = connect(to, ec, deadline);
    if (!ec || ec == std::errc::timed_out) break;
  }
  check_connected(ec, std::string(host) + ":" + std::to_string(port));
  return made;
}

void tcp_stream::no_delay(bool on) {
  io::detail::value(set_option(socket_, IPPROTO_TCP, TCP_NODELAY, on), "set TCP_NODELAY of", socket_);
}
void tcp_stream::keep_alive(bool on) {
  io::detail::value(set_option(socket_, SOL_SOCKET, SO_KEEPALIVE, on), "set SO_KEEPALIVE of", socket_);
}

tcp_listener::tcp_listener(const endpoint& at, const listen_options& how) : socket_(listening_socket(at, how)) {}
endpoint tcp_listener::local_endpoint() const { return name_of(socket_, ::getsockname, "ask for the address of"); }
tcp_stream tcp_listener::accept(time_point deadline) { return tcp_stream(accept_one(socket_, deadline)); }
tcp_stream tcp_listener::accept(std::error_code& ec, time_point deadline) {
  return tcp_stream(accept_one(socket_, ec, deadline));
}

unix_stream unix_stream::connect(std::string_view path, std::error_code& ec, time_point deadline) {
  endpoint to = endpoint::parse("unix:" + std::string(path), ec);
  return ec ? unix_stream() : unix_stream(connect_socket(to, ec, deadline));
}
unix_stream unix_stream::connect(std::string_view path, time_point deadline) {
  std::error_code ec;
  unix_stream made(connect_socket(endpoint::local(path), ec, deadline));
  check_connected(ec, std::string(path));
  return made;
}

std::pair<unix_stream, unix_stream> unix_stream::pair() {
  int ends[2] = {-1, -1};
  const int r = io::detail::at_once([&] { return ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends); });
  if (r < 0) io::detail::fail(io::detail::code_of(-r), "make a pair of sockets");
  return {unix_stream(io::descriptor(ends[0])), unix_stream(io::descriptor(ends[1]))};
}

unix_listener::unix_listener(std::string_view path, int backlog)
    : socket_(listening_socket(endpoint::local(path), {.backlog = backlog})) {
  if (path.starts_with('@')) return;
  path_ = path;
  struct stat about {};
  if (::stat(path_.c_str(), &about) != 0) path_.clear();
  device_ = about.st_dev;
  inode_ = about.st_ino;
}

unix_listener& unix_listener::operator=(unix_listener&& other) noexcept {
  if (this == &other) return *this;
  remove_file();
  socket_ = std::move(other.socket_);
  path_ = std::exchange(other.path_, {});
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

unix_listener::~unix_listener() { remove_file(); }

// Another server may have replaced the file since: then it is not ours to remove.
void unix_listener::remove_file() noexcept {
  struct stat about {};
  if (path_.empty()) return;
  if (::stat(path_.c_str(), &about) == 0 && about.st_dev == device_ && about.st_ino == inode_) ::unlink(path_.c_str());
  path_.clear();
}

endpoint unix_listener::local_endpoint() const { return name_of(socket_, ::getsockname, "ask for the address of"); }
unix_stream unix_listener::accept(time_point deadline) { return unix_stream(accept_one(socket_, deadline)); }
unix_stream unix_listener::accept(std::error_code& ec, time_point deadline) {
  return unix_stream(accept_one(socket_, ec, deadline));
}

void unix_listener::close() {
  remove_file();
  socket_.close();
}
void unix_listener::close(std::error_code& ec) {
  remove_file();
  socket_.close(ec);
}

}  // namespace weft::net
