// TCP and Unix-domain sockets end to end on loopback. both-transfers
#include <doctest/doctest.h>
#include <netinet/tcp.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "weft/net.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace io = weft::io;
namespace net = weft::net;
using namespace std::chrono_literals;

namespace {

// Sends back what comes until the peer says no more.
template <class Stream>
void echo(Stream& stream) {
  char block[1024];
  for (std::size_t n = 0; (n = stream.read(block)) != 0;) stream.write_all(std::span(block, n));
}

template <class Stream>
std::string ask(Stream& stream, std::string_view question) {
  stream.write_all(question);
  std::string answer(question.size(), '\0');
  stream.read_exactly(answer);
  return answer;
}

struct tcp_pair {
  tcp_pair() {
    net::tcp_listener listener(net::endpoint::loopback(0));
    near = net::tcp_stream::connect(listener.local_endpoint());
    far = listener.accept();
  }
  net::tcp_stream near, far;
};

}  // namespace

TEST_CASE("a client and a server on one processor talk over TCP") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    const net::endpoint here = listener.local_endpoint();
    CHECK(here.port() != 0);
    weft::jthread server([&] {
      net::tcp_stream stream = listener.accept();
      echo(stream);
    });
    net::tcp_stream client = net::tcp_stream::connect(here);
    CHECK(client.remote_endpoint() == here);
    CHECK(ask(client, "hello") == "hello");
    client.shutdown(SHUT_WR);
    char rest[1];
    CHECK(client.read(rest) == 0);
  });
}

TEST_CASE("a hundred connections are served by a thread each, all at once") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    weft::jthread acceptor([&] {
      std::vector<weft::jthread> servers;
      for (int i = 0; i < 100; ++i) {
        servers.emplace_back([stream = listener.accept()]() mutable { echo(stream); });
      }
    });
    std::vector<weft::jthread> clients;
    for (int i = 0; i < 100; ++i) {
      clients.emplace_back([i, to = listener.local_endpoint()] {
        net::tcp_stream stream = net::tcp_stream::connect(to);
        for (int round = 0; round < 20; ++round) {
          const std::string question = std::to_string(i) + ":" + std::to_string(round);
          CHECK(ask(stream, question) == question);
        }
      });
    }
  });
}

TEST_CASE("a megabyte each way through one connection arrives whole while both ends write and read") {
  weft::run([] {
    tcp_pair p;
    std::vector<std::uint32_t> sent(1 << 18), got(1 << 18);
    for (std::uint32_t i = 0; i < sent.size(); ++i) sent[i] = i * 2654435761u;
    weft::jthread server([&] { echo(p.far); });
    weft::jthread writer([&] {
      p.near.write_all(sent);
      p.near.shutdown(SHUT_WR);
    });
    CHECK(p.near.read_exactly(got) == got.size() * 4);
    CHECK(sent == got);
  });
}

TEST_CASE("an accept whose deadline comes first times out, and the listener goes on") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    std::error_code ec;
    CHECK_FALSE(listener.accept(ec, weft::clock::now() + 5ms));
    CHECK(ec == std::errc::timed_out);
    const net::tcp_stream client = net::tcp_stream::connect(listener.local_endpoint());
    CHECK(listener.accept(ec, weft::clock::now() + 10s));
    CHECK_FALSE(ec);
  });
}

TEST_CASE("closing a listener or a stream wakes the threads in its calls") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    tcp_pair p;
    std::error_code accept_error, read_error;
    {
      weft::jthread acceptor([&] { static_cast<void>(listener.accept(accept_error)); });
      weft::jthread reader([&] {
        char line[10];
        p.near.read(line, read_error);
      });
      let_others_wait();
      listener.close();
      p.near.close();
    }
    CHECK(accept_error == std::errc::bad_file_descriptor);
    CHECK(read_error == std::errc::bad_file_descriptor);
    CHECK_FALSE(p.near);
    CHECK(failure_of([&] { return p.near.write("x"); }).code == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("shutting a stream down ends its own read with 0") {
  weft::run([] {
    tcp_pair p;
    std::size_t got = 1;
    weft::thread reader([&] {
      char line[10];
      got = p.near.read(line);
    });
    let_others_wait();
    p.near.shutdown(SHUT_RD);
    reader.join();
    CHECK(got == 0);
  });
}

TEST_CASE("writing to a peer that is gone is an error with the bytes done, and no signal") {
  weft::run([] {
    tcp_pair p;
    p.far.close();
    std::error_code ec;
    const std::vector<char> much(std::size_t{64} << 20);
    const std::size_t done = p.near.write_all(much, ec);
    CHECK((ec == std::errc::broken_pipe || ec == std::errc::connection_reset));
    CHECK(done < much.size());
    CHECK(failure_of([&] { return p.near.write_all("x"); }).code == std::errc::broken_pipe);
  });
}

TEST_CASE("a refused connection and a taken address are errors with the address in their text") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    const net::endpoint at = listener.local_endpoint();
    const failure taken = failure_of([&] { return net::tcp_listener(at); });
    CHECK(taken.code == std::errc::address_in_use);
    CHECK(taken.says("cannot listen at " + at.to_string()));
    listener.close();
    const failure refused = failure_of([&] { return net::tcp_stream::connect(at); });
    CHECK(refused.code == std::errc::connection_refused);
    CHECK(refused.says("cannot connect to " + at.to_string()));
    CHECK(failure_of([&] { return net::tcp_stream::connect("127.0.0.1", at.port()); }).code == std::errc::connection_refused);
  });
}

TEST_CASE("small writes leave at once: TCP_NODELAY is on at both ends until it is turned off") {
  weft::run([] {
    tcp_pair p;
    for (net::tcp_stream* end : {&p.near, &p.far}) {
      const auto no_delay = [&] {
        int on = -1;
        socklen_t length = sizeof(on);
        CHECK(::getsockopt(end->native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, &length) == 0);
        return on != 0;
      };
      CHECK(no_delay());
      end->no_delay(false);
      CHECK_FALSE(no_delay());
      end->keep_alive(true);
    }
  });
}

TEST_CASE("a listener can be made again at once where connections were alive") {
  weft::run([] {
    net::endpoint at;
    {
      net::tcp_listener listener(net::endpoint::loopback(0));
      at = listener.local_endpoint();
      const net::tcp_stream client = net::tcp_stream::connect(at);
      listener.accept().close();  // the side that closes first keeps the address for a minute
    }
    const net::tcp_listener again(at);
    CHECK(again.local_endpoint() == at);
  });
}

TEST_CASE("IPv6 works as IPv4 does") {
  bool there = true;
  weft::run([&] {
    try {
      net::tcp_listener listener(net::endpoint::loopback_v6(0), {.v6_only = true});
      const net::tcp_stream client = net::tcp_stream::connect("::1", listener.local_endpoint().port());
      CHECK(listener.accept().remote_endpoint() == client.local_endpoint());
    } catch (const std::system_error& e) {
      there = e.code() != std::errc::address_not_available && e.code() != std::errc::address_family_not_supported;
      if (there) throw;
    }
  });
  if (!there) skip("this machine has no IPv6 loopback address");
}

TEST_CASE("a thread asked to end leaves accept and write") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    tcp_pair p;
    fill(p.near.descriptor());
    int left = 0;
    const auto waits_until_cancelled = [&left](auto call) {
      return weft::thread([&left, call] {
        try {
          call();
        } catch (const weft::cancelled&) {
          ++left;
          throw;
        }
      });
    };
    weft::thread acceptor = waits_until_cancelled([&] { static_cast<void>(listener.accept()); });
    const std::vector<char> much(std::size_t{64} << 20);  // more than the kernel buffers, whatever it has freed since
    weft::thread writer = waits_until_cancelled([&] {
      p.near.write_all(much);
      p.near.write_all(much);
    });
    let_others_wait();
    acceptor.request_cancel();
    writer.request_cancel();
    acceptor.join();
    writer.join();
    CHECK(left == 2);
  });
}

TEST_CASE("names that need no lookup resolve at once, localhost by the system, and nonsense is an error with its name") {
  weft::run([] {
    CHECK(net::resolve("192.0.2.7", 80) == std::vector{net::endpoint::parse("192.0.2.7:80")});
    CHECK(net::resolve("2001:db8::1", 80) == std::vector{net::endpoint::parse("[2001:db8::1]:80")});
    bool others_ran = false;
    weft::jthread other([&] { others_ran = true; });
    const std::vector<net::endpoint> local = net::resolve("localhost", 8080);
    CHECK(others_ran);
    CHECK_FALSE(local.empty());
    for (const net::endpoint& e : local) CHECK(e.port() == 8080);
    CHECK(failure_of([] { return net::resolve("", 80); }).code == std::errc::invalid_argument);
    std::error_code ec;  // whichever is first: the answer, or a deadline that has passed already
    const bool none = net::resolve("localhost", 80, ec, weft::clock::now() - 1s).empty();
    CHECK(none == (ec == std::errc::timed_out));
    const failure nonsense = failure_of([] { return net::resolve("no such host", 80); });
    CHECK((nonsense.code == std::errc::host_unreachable || nonsense.code == std::errc::resource_unavailable_try_again));
    CHECK(nonsense.says("cannot resolve 'no such host'"));
  });
}

TEST_CASE("a connection to localhost by name reaches a listener") {
  weft::run([] {
    net::tcp_listener listener(net::endpoint::loopback(0));
    weft::jthread server([&] {
      net::tcp_stream stream = listener.accept();
      echo(stream);
    });
    net::tcp_stream client = net::tcp_stream::connect("localhost", listener.local_endpoint().port());
    CHECK(ask(client, "by name") == "by name");
  });
}
