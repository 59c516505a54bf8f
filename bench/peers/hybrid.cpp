// The peer hybrid: what weft's own plan reaches without threads. epoll tells which sockets are readable; the transfers of all
// of them go through an io_uring together, with MSG_DONTWAIT, so that each completes inside the submit and none stays in
// flight.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "echo_load.hpp"
#include "program.hpp"
#include "ring.hpp"

namespace {

struct connection {
  int socket;
  bool sending = false;
  std::array<char, 512> buffer{};
};

class server {
 public:
  explicit server(int listener) : listener_(listener) {
    fcntl(listener, F_SETFL, O_NONBLOCK);
    watch(listener, nullptr);
  }

  void step() {
    constexpr int for_ever = -1;
    const int count = epoll_wait(readable_, events_.data(), static_cast<int>(events_.size()), for_ever);
    unsigned transfers = 0;
    for (int i = 0; i < count; ++i) {
      if (auto* const on = static_cast<connection*>(events_[static_cast<std::size_t>(i)].data.ptr)) {
        receive(*on);
        ++transfers;
      } else {
        accept_all();
      }
    }
    while (transfers > 0) transfers = finish(transfers);
  }

 private:
  void watch(int descriptor, connection* tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = tag;
    if (epoll_ctl(readable_, EPOLL_CTL_ADD, descriptor, &event) != 0) bench::fail_with_errno("epoll_ctl");
  }

  void accept_all() {
    for (;;) {
      const int socket = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (socket < 0 && errno == EAGAIN) return;
      if (socket < 0) bench::fail_with_errno("accept");
      bench::send_at_once(socket);
      watch(socket, new connection{.socket = socket});
    }
  }

  void receive(connection& on) {
    io_uring_sqe* const entry = ring_.next();
    io_uring_prep_recv(entry, on.socket, on.buffer.data(), on.buffer.size(), MSG_DONTWAIT);
    io_uring_sqe_set_data(entry, &on);
    on.sending = false;
  }

  void send(connection& on, int size) {
    io_uring_sqe* const entry = ring_.next();
    io_uring_prep_send(entry, on.socket, on.buffer.data(), static_cast<std::size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
    io_uring_sqe_set_data(entry, &on);
    on.sending = true;
  }

  // Submits the transfers that are queued, queues an answer for each request among them, and returns how many are left.
  unsigned finish(unsigned transfers) {
    ring_.submit();
    unsigned answers = 0;
    const unsigned done = ring_.reap([&](const io_uring_cqe& completion) {
      auto& on = *static_cast<connection*>(io_uring_cqe_get_data(&completion));
      if (on.sending || completion.res == -EAGAIN) return;
      if (completion.res > 0) {
        send(on, completion.res);
        ++answers;
      } else {
        close(on.socket);
        delete &on;
      }
    });
    return transfers - done + answers;
  }

  int listener_;
  int readable_ = epoll_create1(EPOLL_CLOEXEC);
  bench::ring ring_{4096, 0};
  std::array<epoll_event, 1024> events_;
};

[[noreturn]] void serve(int listener) {
  for (server echo(listener);;) echo.step();
}

}  // namespace

int main(int argc, char** argv) { return bench::run_row(argc, argv, {bench::echo_rows(serve)}); }
