// The real source of upcalls, both engines, without a scheduler: readiness, transfers, order.
#include "tests/engine_fixture.hpp"

using weft::upcall::opcode;

TEST_CASE("a read waits until there is data and tells how much") {
  with_each_engine([](engine& e) {
    pipe_pair p;
    const auto r = made(opcode::read, p[0], 10);
    CHECK_FALSE(e.start(r));
    e.poll();
    CHECK_FALSE(r->done());
    CHECK(e.source().pending() == 1);
    put(p[1], "text");
    CHECK(e.finish(r) == 4);
    CHECK(r->text() == "text");
  });
}

TEST_CASE("with nobody else to run, a transfer that is possible is complete at once") {
  with_each_engine([](engine& e) {
    if (e.others) return;
    pipe_pair p;
    CHECK(e.start(made(opcode::write, p[1], "now")));
    const auto r = made(opcode::read, p[0], 3);
    CHECK(e.start(r));
    CHECK(r->text() == "now");
    CHECK(e.batches == 0);
  });
}

TEST_CASE("with others to run, transfers are collected and delivered as one batch") {
  with_each_engine([](engine& e) {
    if (!e.others) return;
    socket_pair s[20];
    std::vector<std::unique_ptr<request>> sends;
    for (const socket_pair& each : s) CHECK_FALSE(e.start(*sends.emplace_back(made(opcode::send, each[0], "12345"))));
    CHECK(e.batches == 0);
    e.poll();
    CHECK(e.batches == 1);
    CHECK(e.order.size() == 20);
    for (const auto& each : sends) CHECK(each->result == 5);
    for (const socket_pair& each : s) CHECK(e.carry_out(made(opcode::receive, each[1], 9)) == 5);
  });
}

TEST_CASE("readers of one descriptor are served first come, first served") {
  with_each_engine([](engine& e) {
    socket_pair s(SOCK_SEQPACKET);
    std::vector<std::unique_ptr<request>> readers;
    for (int i = 0; i < 8; ++i) e.start(*readers.emplace_back(made(opcode::receive, s[0], 4)));
    e.poll();
    for (int i = 0; i < 8; ++i) put(s[1], std::to_string(i));
    for (int i = 0; i < 8; ++i) {
      CHECK(e.finish(readers[static_cast<std::size_t>(i)]) == 1);
      CHECK(readers[static_cast<std::size_t>(i)]->text() == std::to_string(i));
      CHECK(e.order[static_cast<std::size_t>(i)] == readers[static_cast<std::size_t>(i)].get());
    }
  });
}

TEST_CASE("a reader that comes later does not overtake the ones that wait") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    const auto first = made(opcode::receive, s[0], 2);
    CHECK(e.carry_out(made(opcode::send, s[1], "ab")) == 2);
    e.finish((e.start(first), first));
    const auto second = made(opcode::receive, s[0], 2);
    const auto third = made(opcode::receive, s[0], 2);
    e.start(second);
    put(s[1], "cdef");
    e.start(third);
    e.finish(third);
    CHECK(second->text() == "cd");
    CHECK(third->text() == "ef");
  });
}

TEST_CASE("after a short read new data wakes the reader, after a full one the rest is there") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    put(s[1], "123");
    CHECK(e.carry_out(made(opcode::receive, s[0], 8)) == 3);
    const auto waiting = made(opcode::receive, s[0], 2);
    CHECK_FALSE(e.start(waiting));
    e.poll();
    CHECK_FALSE(waiting->done());
    put(s[1], "4567");
    CHECK(e.finish(waiting) == 2);
    const auto rest = made(opcode::receive, s[0], 8);
    CHECK(e.carry_out(rest) == 2);
    CHECK(rest->text() == "67");
  });
}

TEST_CASE("data and the end that arrive together are two reads, and the end stays") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    const auto waiting = made(opcode::receive, s[0], 100);
    e.start(waiting);
    e.poll();
    put(s[1], "last");
    REQUIRE(::shutdown(s[1], SHUT_WR) == 0);
    CHECK(e.finish(waiting) == 4);
    for (int i = 0; i < 3; ++i) CHECK(e.carry_out(made(opcode::receive, s[0], 100)) == 0);
    CHECK(e.carry_out(made(opcode::send, s[0], "half open")) == 9);  // the other direction lives on
  });
}

TEST_CASE("a message that is shorter than the buffer does not hide the next one") {
  for (const int type : {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM}) {
    with_each_engine([&](engine& e) {
      socket_pair s(type);
      put(s[1], "one");
      CHECK(e.carry_out(made(opcode::receive, s[0], 3)) == 3);
      put(s[1], "two");
      put(s[1], "three");
      std::size_t got = 0;
      while (got < 8) {
        const std::int32_t n = e.carry_out(made(opcode::receive, s[0], 100));
        CHECK(n > 0);
        if (n <= 0) return;
        got += static_cast<std::size_t>(n);
      }
      CHECK(got == 8);
    });
  }
}

TEST_CASE("a pipe of packets gives all of them, each to one read") {
  with_each_engine([](engine& e) {
    pipe_pair p(O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    const auto first = made(opcode::read, p[0], 100);
    e.start(first);
    e.poll();
    for (const char* const packet : {"one", "two", "three"}) put(p[1], packet);
    CHECK(e.finish(first) == 3);
    CHECK(e.carry_out(made(opcode::read, p[0], 100)) == 3);
    CHECK(e.carry_out(made(opcode::read, p[0], 100)) == 5);
  });
}

TEST_CASE("a peek takes nothing, and what it saw is still there") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    put(s[1], "peeked");
    for (int i = 0; i < 2; ++i) {
      const auto peek = made(opcode::receive, s[0], 100);
      peek->flags = MSG_PEEK;
      CHECK(e.carry_out(peek) == 6);
    }
    CHECK(e.carry_out(made(opcode::receive, s[0], 100)) == 6);
  });
}

TEST_CASE("a writer waits for room, and a short write is the room there was") {
  with_each_engine([](engine& e) {
    pipe_pair p;
    const auto big = made(opcode::write, p[1], std::string(100'000, 'x'));
    const std::int32_t capacity = e.carry_out(big);
    CHECK(capacity > 0);
    CHECK(capacity < 100'000);
    const auto more = made(opcode::write, p[1], std::string(5000, 'y'));
    CHECK_FALSE(e.start(more));
    e.poll();
    CHECK_FALSE(more->done());
    std::string all(100'000, '\0');
    CHECK(::read(p[0], all.data(), all.size()) == capacity);
    CHECK(e.finish(more) == 5000);
  });
}

TEST_CASE("a reset connection is an error for reader and writer") {
  with_each_engine([](engine& e) {
    tcp_pair s;
    const auto reader = made(opcode::receive, s[0], 10);
    e.start(reader);
    e.poll();
    const linger at_once{1, 0};
    REQUIRE(::setsockopt(s[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) == 0);
    ::close(s.take(1));
    CHECK(e.finish(reader) == -ECONNRESET);
    CHECK(e.carry_out(made(opcode::send, s[0], "x")) == -EPIPE);
  });
}

TEST_CASE("what is told not to wait does not, also behind others who do") {
  with_each_engine([](engine& e) {
    for (const bool owned : {true, false}) {
      CAPTURE(owned);
      socket_pair s;
      const auto receive = [&] {
        auto r = made(opcode::receive, s[0], 10, owned);
        r->flags = MSG_DONTWAIT;
        return r;
      };
      for (int i = 0; i < 2; ++i) CHECK(e.carry_out(receive()) == -EAGAIN);
      const auto waiting = made(opcode::receive, s[0], 1, owned);
      CHECK_FALSE(e.start(waiting));
      e.poll();
      CHECK(e.carry_out(receive()) == -EAGAIN);
      put(s[1], "ab");
      CHECK(e.finish(waiting) == 1);
      CHECK(e.carry_out(receive()) == 1);
      CHECK(e.carry_out(receive()) == -EAGAIN);

      std::int32_t sent = 0;
      for (std::int32_t r = 0; r >= 0; sent = r) {
        const auto send = made(opcode::send, s[0], std::string(100'000, 'x'), owned);
        send->flags = MSG_DONTWAIT;
        r = e.carry_out(send);
      }
      CHECK(sent == -EAGAIN);
      for (std::size_t i : {0U, 1U}) CHECK(e.close(s.take(i)) == 0);
    }
  });
}
