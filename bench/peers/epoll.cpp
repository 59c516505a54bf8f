// The peer epoll: event loops without threads. Readiness is level-triggered, registered once, and every ready descriptor
// costs one read and one write.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>

#include "echo_load.hpp"
#include "measure.hpp"
#include "pipe_pairs.hpp"
#include "program.hpp"

namespace {

using bench::fail_with_errno;

class epoll_set {
 public:
  void add(int descriptor, std::uint64_t tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (epoll_ctl(set_, EPOLL_CTL_ADD, descriptor, &event) != 0) fail_with_errno("epoll_ctl");
  }

  std::span<const epoll_event> wait() {
    constexpr int for_ever = -1;
    const int count = epoll_wait(set_, events_.data(), static_cast<int>(events_.size()), for_ever);
    if (count < 0) fail_with_errno("epoll_wait");
    return {events_.data(), static_cast<std::size_t>(count)};
  }

 private:
  int set_ = epoll_create1(EPOLL_CLOEXEC);
  std::array<epoll_event, 1024> events_;
};

void accept_all(int listener, epoll_set& readable) {
  for (;;) {
    const int socket = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (socket < 0 && errno == EAGAIN) return;
    if (socket < 0) fail_with_errno("accept");
    bench::send_at_once(socket);
    readable.add(socket, static_cast<std::uint64_t>(socket));
  }
}

void echo_once(int socket) {
  std::array<char, 4096> buffer;
  const ssize_t got = recv(socket, buffer.data(), buffer.size(), 0);
  if (got > 0 && send(socket, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) == got) return;
  close(socket);
}

[[noreturn]] void serve(int listener) {
  fcntl(listener, F_SETFL, O_NONBLOCK);
  epoll_set readable;
  readable.add(listener, static_cast<std::uint64_t>(listener));
  for (;;) {
    for (const epoll_event& event : readable.wait()) {
      const auto descriptor = static_cast<int>(event.data.u64);
      if (descriptor == listener) {
        accept_all(listener, readable);
      } else {
        echo_once(descriptor);
      }
    }
  }
}

void pass_on(const bench::pipe_party& party) {
  char byte;
  if (read(party.from, &byte, 1) != 1 || write(party.to, &byte, 1) != 1) fail_with_errno("a pipe broke");
}

double pipe_message() {
  epoll_set readable;
  std::vector<bench::pipe_party> parties;
  for (const auto& [first, second] : bench::make_pipe_pairs(O_NONBLOCK)) {
    for (const bench::pipe_party& party : {first, second}) {
      readable.add(party.from, parties.size());
      parties.push_back(party);
    }
    if (write(first.to, "x", 1) != 1) fail_with_errno("a pipe broke");
  }
  std::uint64_t passed = 0;
  const auto pass_ready = [&] {
    for (const epoll_event& event : readable.wait()) {
      pass_on(parties[event.data.u64]);
      ++passed;
    }
  };
  return bench::measure_window(bench::stepping(pass_ready), [&passed] { return passed; }).cpu_ns_per_operation;
}

}  // namespace

int main(int argc, char** argv) { return bench::run_row(argc, argv, {bench::echo_rows(serve), {{"pipe-1000", pipe_message}}}); }
