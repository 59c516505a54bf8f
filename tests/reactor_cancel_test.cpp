// The real source of upcalls, both engines, without a scheduler: cancelling, closing, connecting, numbers that are reused.
#include <poll.h>
#include <sys/un.h>

#include "tests/engine_fixture.hpp"

using weft::upcall::opcode;

TEST_CASE("a cancelled operation that waits ends with ECANCELED, once, and cancelling again is nothing") {
  with_each_engine([](engine& e) {
    socket_pair s;
    const auto r = made(opcode::receive, s[0], 10);
    CHECK_FALSE(e.start(r));
    e.poll();
    e.cancel(*r);
    e.cancel(*r);
    CHECK(e.source().pending() == 1);
    CHECK(e.source().wants_poll());
    CHECK(e.finish(r) == -ECANCELED);
    e.poll();
    CHECK(r->completions == 1);
    put(s[1], "kept");
    CHECK(e.carry_out(made(opcode::receive, s[0], 10)) == 4);
  });
}

TEST_CASE("a collected operation that is cancelled was never carried out") {
  with_each_engine([](engine& e) {
    if (!e.others) return;
    socket_pair s;
    const auto send = made(opcode::send, s[0], "never");
    CHECK_FALSE(e.start(send));
    e.cancel(*send);
    CHECK(e.finish(send) == -ECANCELED);
    CHECK(e.carry_out(made(opcode::send, s[0], "this")) == 4);
    const auto r = made(opcode::receive, s[1], 100);
    e.carry_out(r);
    CHECK(r->text() == "this");
  });
}

TEST_CASE("cancelling the first in line lets the next one have its turn") {
  with_each_engine([](engine& e) {
    socket_pair s(SOCK_SEQPACKET);
    std::vector<std::unique_ptr<request>> r;
    for (int i = 0; i < 3; ++i) e.start(*r.emplace_back(made(opcode::receive, s[0], 4)));
    e.cancel(*r[0]);
    put(s[1], "a");
    put(s[1], "b");
    CHECK(e.finish(r[2]) == 1);
    CHECK(r[0]->result == -ECANCELED);
    CHECK(r[1]->text() == "a");
    CHECK(r[2]->text() == "b");
  });
}

TEST_CASE("of thousands that are cancelled together each is told of once, in their order, and takes nothing that comes later") {
  with_each_engine([](engine& e) {
    constexpr std::size_t count = 3'000;  // several batches of upcalls, and a part of one
    socket_pair s;
    std::vector<std::unique_ptr<request>> r;
    for (std::size_t i = 0; i < count; ++i) CHECK_FALSE(e.start(*r.emplace_back(made(opcode::receive, s[0], 1))));
    e.poll();
    for (const auto& each : r) e.cancel(*each);
    CHECK(e.source().pending() == count);
    e.finish(r.back());
    CHECK(e.source().pending() == 0);
    REQUIRE(e.order.size() == count);
    for (std::size_t i = 0; i < count; ++i) {
      REQUIRE(e.order[i] == r[i].get());
      REQUIRE(r[i]->completions == 1);
      REQUIRE(r[i]->result == -ECANCELED);
    }
    put(s[1], "kept");
    CHECK(e.carry_out(made(opcode::receive, s[0], 10)) == 4);
  });
}

TEST_CASE("cancelling what is complete but not delivered changes nothing") {
  with_each_engine([](engine& e) {
    socket_pair s;
    const auto first = made(opcode::receive, s[0], 10);
    e.start(first);
    e.poll();
    request close(opcode::close, s.take(0));
    CHECK_FALSE(e.start(close));
    e.cancel(*first);
    e.cancel(close);
    CHECK(e.finish(close) == 0);
    CHECK(first->result == -EBADF);
    CHECK(first->completions == 1);
  });
}

TEST_CASE("closing wakes whoever waits on the descriptor, before the close itself completes") {
  with_each_engine([](engine& e) {
    socket_pair s;  // local: only its reader makes room, where TCP may take more after it was full
    while (::send(s[0], &e, sizeof(e), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
    }
    const auto reader = made(opcode::receive, s[0], 10);
    const auto next_reader = made(opcode::receive, s[0], 10);
    const auto writer = made(opcode::send, s[0], "x");
    request poller(opcode::poll, s[0]);
    poller.flags = POLLIN;
    for (request* const each : {reader.get(), next_reader.get(), writer.get(), &poller}) CHECK_FALSE(e.start(*each));
    e.poll();
    CHECK(e.order.empty());
    request close(opcode::close, s.take(0));
    CHECK_FALSE(e.start(close));
    CHECK(e.finish(close) == 0);
    for (const request* const each : {reader.get(), next_reader.get(), writer.get(), static_cast<request*>(&poller)}) {
      CHECK(each->result == -EBADF);
      CHECK(each->completions == 1);
    }
    CHECK(e.order.back() == &close);
    CHECK(::fcntl(close.fd, F_GETFD) == -1);
  });
}

TEST_CASE("closing ends collected transfers of that descriptor and no others") {
  with_each_engine([](engine& e) {
    if (!e.others) return;
    socket_pair a;
    socket_pair b;
    const auto to_a = made(opcode::send, a[0], "a");
    const auto to_b = made(opcode::send, b[0], "b");
    e.start(to_a);
    e.start(to_b);
    CHECK(e.close(a.take(0)) == 0);
    CHECK(e.finish(to_b) == 1);
    CHECK(to_a->result == -EBADF);
  });
}

TEST_CASE("a duplicate that stays open does not disturb the number's next life") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    CHECK(e.carry_out(made(opcode::send, s[0], "hello")) == 5);
    const int duplicate = ::dup(s[0]);
    const int number = s.take(0);
    CHECK(e.close(number) == 0);
    tcp_pair other;
    REQUIRE(::dup2(other[0], number) == number);
    const auto r = made(opcode::receive, number, 10);
    CHECK_FALSE(e.start(r));
    put(s[1], "for the duplicate");
    e.poll();
    CHECK_FALSE(r->done());
    put(other[1], "new");
    CHECK(e.finish(r) == 3);
    CHECK(e.close(number) == 0);
    ::close(duplicate);
  });
}

TEST_CASE("a number that was closed behind our back and names something else now is found out") {
  with_each_engine([](engine& e) {
    for (const bool owned_now : {false, true}) {
      CAPTURE(owned_now);
      int number = -1;
      {
        tcp_pair s;
        number = ::fcntl(s[0], F_DUPFD_CLOEXEC, 300);  // out of the way of the numbers that the kernel gives
        const auto r = made(opcode::receive, number, 10, false);
        put(s[1], "old");
        CHECK(e.carry_out(r) == 3);
        ::close(number);
      }
      pipe_pair p;
      REQUIRE(::dup2(p[0], number) == number);
      const auto from_pipe = made(opcode::read, number, 10, owned_now);
      CHECK_FALSE(e.start(from_pipe));
      e.poll();
      CHECK_FALSE(from_pipe->done());
      put(p[1], "pipe");
      CHECK(e.finish(from_pipe) == 4);

      const int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
      REQUIRE(::dup2(file, number) == number);
      ::close(file);
      CHECK(e.carry_out(made(opcode::read, number, 4, false)) == 4);

      tcp_pair s;
      REQUIRE(::dup2(s[0], number) == number);
      const auto from_socket = made(opcode::read, number, 10, false);
      e.start(from_socket);
      e.poll();
      CHECK_FALSE(from_socket->done());
      put(s[1], "socket");
      CHECK(e.finish(from_socket) == 6);
      CHECK(e.close(number) == 0);
    }
  });
}

TEST_CASE("accept waits for a connection, and connect for its establishment") {
  with_each_engine([](engine& e) {
    sockaddr_in address;
    const int listener = tcp_listener(address);
    request accept(opcode::accept, listener);
    CHECK_FALSE(e.start(accept));
    e.poll();
    request connect(opcode::connect, ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    connect.address = &address;
    connect.length = sizeof(address);
    CHECK(e.carry_out(connect) == 0);
    const int accepted = e.finish(accept);
    CHECK(accepted >= 0);
    CHECK((::fcntl(accepted, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(accepted, F_GETFD) & FD_CLOEXEC) != 0);
    const auto r = made(opcode::receive, accepted, 10);
    CHECK_FALSE(e.start(r));
    CHECK(e.carry_out(made(opcode::send, connect.fd, "hello")) == 5);
    CHECK(e.finish(r) == 5);
    for (const int fd : {accepted, connect.fd, listener}) CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("a refused connection is an error, and blocking sockets of others do not hold the processor up") {
  with_each_engine([](engine& e) {
    sockaddr_in address;
    const int listener = tcp_listener(address, 0);
    request accept(opcode::accept, listener, false);
    CHECK_FALSE(e.start(accept));
    e.poll();
    e.cancel(accept);
    CHECK(e.finish(accept) == -ECANCELED);
    ::close(listener);
    request connect(opcode::connect, ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), false);
    connect.address = &address;
    connect.length = sizeof(address);
    CHECK(e.carry_out(connect) == -ECONNREFUSED);
    ::close(connect.fd);
  });
}

TEST_CASE("connecting to a Unix socket whose queue is full waits until it is not, and can be cancelled") {
  with_each_engine([](engine& e) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "weft-test-" + std::to_string(::getpid());
    name.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
    const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    REQUIRE(::bind(listener, reinterpret_cast<const sockaddr*>(&address), length) == 0);
    REQUIRE(::listen(listener, 0) == 0);
    std::vector<std::unique_ptr<request>> connects;
    const auto connect = [&] {
      request& r = *connects.emplace_back(made(opcode::connect, ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), 0));
      r.address = &address;
      r.length = length;
      return e.start(r);
    };
    while (connect()) CHECK(connects.back()->result == 0);
    CHECK_FALSE(connect());
    e.cancel(*connects.back());
    CHECK(e.finish(connects.back()) == -ECANCELED);
    const auto& waiting = connects[connects.size() - 2];
    e.poll();
    CHECK_FALSE(waiting->done());
    request accept(opcode::accept, listener);
    const int accepted = e.carry_out(accept);
    CHECK(accepted >= 0);
    CHECK(e.finish(waiting) == 0);
    for (const auto& each : connects) CHECK(e.close(each->fd) == 0);
    for (const int fd : {accepted, listener}) CHECK(e.close(fd) == 0);
  });
}
