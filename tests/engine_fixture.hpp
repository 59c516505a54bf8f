// Drives a real source of upcalls without a scheduler: requests instead of threads, and a handler that remembers.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "weft/upcall.hpp"

/// An operation and what became of it.
struct request : weft::upcall::operation {
  explicit request(weft::upcall::opcode what, int on = -1, bool is_owned = true) {
    code = what;
    fd = on;
    owned = is_owned;
    thread = reinterpret_cast<weft::detail::thread_record*>(this);
  }
  bool immediate = false;    ///< `start` completed it
  unsigned completions = 0;  ///< upcalls that came for it
  std::string data;          ///< a buffer of its own

  /// What a read brought.
  [[nodiscard]] std::string text() const { return result > 0 ? data.substr(0, static_cast<std::size_t>(result)) : std::string(); }
  [[nodiscard]] bool done() const { return immediate || completions != 0; }
};

[[nodiscard]] inline std::unique_ptr<request> made(weft::upcall::opcode what, int fd, std::size_t room, bool owned = true) {
  auto r = std::make_unique<request>(what, fd, owned);
  r->data.assign(room, '\0');
  r->address = r->data.data();
  r->length = room;
  return r;
}
[[nodiscard]] inline std::unique_ptr<request> made(weft::upcall::opcode what, int fd, std::string_view text, bool owned = true) {
  auto r = made(what, fd, text.size(), owned);
  r->data = text;
  r->address = r->data.data();
  return r;
}

/// A source, its handler, and the requests in the order of their completion.
class engine final : public weft::upcall::handler {
 public:
  explicit engine(weft::upcall::transfer how) : source_(weft::upcall::make_reactor(how)) { source_->attach(*this); }

  void handle(std::span<const weft::upcall::event> batch) override {
    ++batches;
    for (const weft::upcall::event& e : batch) {
      auto& r = *reinterpret_cast<request*>(e.record);
      ++r.completions;
      CHECK(e.what == weft::upcall::kind::unblocked);
      CHECK(e.why == cause_of(r.code));
      CHECK(e.activation == 1);
      CHECK(e.result == r.result);
      order.push_back(&r);
    }
  }
  [[nodiscard]] bool others_ready() const noexcept override { return others; }

  /// @returns whether it completed at once
  bool start(request& r) {
    r.immediate = source_->start(r);
    return r.immediate;
  }
  bool start(const std::unique_ptr<request>& r) { return start(*r); }
  void cancel(request& r) { source_->cancel(r); }
  void poll() { source_->poll(); }
  /// Waits until `r` is complete, at most for ten seconds.
  std::int32_t finish(request& r) {
    const weft::time_point end = weft::clock::now() + std::chrono::seconds(10);
    while (!r.done() && weft::clock::now() < end) source_->wait(end);
    CHECK(r.done());
    CHECK(r.completions == (r.immediate ? 0U : 1U));
    return r.result;
  }
  std::int32_t finish(const std::unique_ptr<request>& r) { return finish(*r); }
  std::int32_t carry_out(request& r) {
    start(r);
    return finish(r);
  }
  std::int32_t carry_out(const std::unique_ptr<request>& r) { return carry_out(*r); }
  std::int32_t close(int fd) {
    request r(weft::upcall::opcode::close, fd);
    return carry_out(r);
  }
  [[nodiscard]] weft::upcall::source& source() { return *source_; }
  /// Destroys the source, whatever is under way.
  void forget() { source_.reset(); }

  bool others = false;  ///< what others_ready says
  unsigned batches = 0;
  std::vector<request*> order;

 private:
  std::unique_ptr<weft::upcall::source> source_;
};

[[nodiscard]] inline bool ring_allowed() {
  try {
    static_cast<void>(weft::upcall::make_reactor(weft::upcall::transfer::ring));
    return true;
  } catch (const std::system_error&) {
    return false;
  }
}

/// Calls `body(engine&)` with each engine, and with other threads ready (transfers are collected) and not (done at once).
template <class Body> void with_each_engine(Body body) {
  using weft::upcall::transfer;
  for (const transfer how : {transfer::ring, transfer::direct}) {
    if (how == transfer::ring && !ring_allowed()) {
      MESSAGE("io_uring is refused here: only direct transfers are tested");
      continue;
    }
    for (const bool others : {false, true}) {
      CAPTURE(others);
      engine e(how);
      CAPTURE(e.source().name());
      e.others = others;
      body(e);
      CHECK(e.source().pending() == 0);
    }
  }
}

/// Two descriptors, closed at the end unless a test did.
struct pair_of_descriptors {
  std::array<int, 2> fd{-1, -1};
  pair_of_descriptors() = default;
  pair_of_descriptors(const pair_of_descriptors&) = delete;
  pair_of_descriptors& operator=(const pair_of_descriptors&) = delete;
  ~pair_of_descriptors() {
    for (const int each : fd) {
      if (each >= 0) ::close(each);
    }
  }
  int operator[](std::size_t i) const { return fd[i]; }
  /// The number, which is not closed here any more.
  int take(std::size_t i) { return std::exchange(fd[i], -1); }
};
struct pipe_pair : pair_of_descriptors {
  explicit pipe_pair(int flags = O_CLOEXEC | O_NONBLOCK) { REQUIRE(::pipe2(fd.data(), flags) == 0); }
};
struct socket_pair : pair_of_descriptors {
  explicit socket_pair(int type = SOCK_STREAM) {
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd.data()) == 0);
  }
};

/// A listening TCP socket on the loopback; `address` becomes where.
[[nodiscard]] inline int tcp_listener(sockaddr_in& address, int flags = SOCK_NONBLOCK) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0);
  REQUIRE(::listen(fd, 16) == 0);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  return fd;
}

/// Two connected TCP sockets on the loopback.
struct tcp_pair : pair_of_descriptors {
  tcp_pair() {
    sockaddr_in address;
    const int listener = tcp_listener(address, 0);
    fd[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(fd[0], reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
    fd[1] = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(fd[1] >= 0);
    ::close(listener);
  }
};

inline void put(int fd, std::string_view text) {
  CHECK(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}
