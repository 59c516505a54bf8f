// Unix-domain sockets, and addresses as text. both-transfers
#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/net.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace net = weft::net;
using namespace std::chrono_literals;

TEST_CASE("a Unix-domain listener serves at its path and takes its file away with it") {
  temporary_directory where;
  const std::string path = where / "socket";
  weft::run([&] {
    {
      net::unix_listener listener(path);
      CHECK(listener.local_endpoint() == net::endpoint::local(path));
      weft::jthread server([&] { listener.accept().write_all("hello"); });
      net::unix_stream client = net::unix_stream::connect(path);
      char text[5];
      CHECK(client.read_exactly(text) == 5);
      CHECK(std::string(text, 5) == "hello");
      CHECK(client.read(text) == 0);
      CHECK(std::filesystem::exists(path));
    }
    CHECK_FALSE(std::filesystem::exists(path));
    CHECK(failure_of([&] { return net::unix_stream::connect(path); }).code == std::errc::no_such_file_or_directory);
  });
}

TEST_CASE("a Unix-domain listener leaves a file that another one has put in its place") {
  temporary_directory where;
  const std::string path = where / "socket";
  weft::run([&] {
    net::unix_listener first(path);
    CHECK(failure_of([&] { return net::unix_listener(path); }).code == std::errc::address_in_use);
    ::unlink(path.c_str());
    net::unix_listener second(path);
    net::unix_listener moved = std::move(first);
    moved.close();
    CHECK(std::filesystem::exists(path));
    second = net::unix_listener();
    CHECK_FALSE(std::filesystem::exists(path));
  });
}

TEST_CASE("an abstract name needs no file") {
  const std::string name = "@weft-test-" + std::to_string(::getpid());
  weft::run([&] {
    net::unix_listener listener(name);
    const net::unix_stream client = net::unix_stream::connect(name);
    CHECK(client.remote_endpoint().to_string() == "unix:" + name);
    CHECK(listener.accept());
  });
}

TEST_CASE("a pair of Unix-domain streams carries bytes both ways until one end closes") {
  weft::run([] {
    auto [a, b] = net::unix_stream::pair();
    a.write_all("to b");
    b.write_all("to a");
    char text[10];
    CHECK(b.read(text) == 4);
    CHECK(a.read(text) == 4);
    CHECK(a.read(weft::io::buffer()) == 0);
    b.close();
    CHECK(a.read(text) == 0);
    CHECK(failure_of([&, &s = a] { return s.write("x"); }).code == std::errc::broken_pipe);
  });
}

TEST_CASE("connecting to a listener whose queue is full waits until it accepts, or until the deadline") {
  temporary_directory where;
  const std::string path = where / "socket";
  weft::run([&] {
    net::unix_listener listener(path, 0);
    std::vector<net::unix_stream> queued;
    std::error_code ec;
    while (!ec) queued.push_back(net::unix_stream::connect(path, ec, weft::clock::now() + 10ms));
    CHECK(ec == std::errc::timed_out);
    CHECK(queued.size() == 2);  // one got in, one did not
    bool connected = false;
    weft::jthread late([&] { connected = static_cast<bool>(net::unix_stream::connect(path)); });
    let_others_wait();
    CHECK_FALSE(connected);
    CHECK(listener.accept());
    late.join();
    CHECK(connected);
  });
}

TEST_CASE("addresses survive the way to text and back") {
  for (const char* text : {"192.0.2.1:80", "0.0.0.0:0", "[2001:db8::1]:65535", "[::]:1", "[fe80::1%7]:80", "unix:/run/x.sock",
                           "unix:@name", "unix:relative path"}) {
    CAPTURE(text);
    const net::endpoint e = net::endpoint::parse(text);
    CHECK(net::endpoint::parse(e.to_string()) == e);
    if (std::strchr(text, '%') == nullptr) CHECK(e.to_string() == text);
  }
  CHECK(net::endpoint::ip("192.0.2.1", 80).to_string() == "192.0.2.1:80");
  CHECK(net::endpoint::ip("::1", 80) == net::endpoint::loopback_v6(80));
  CHECK(net::endpoint::ip("127.0.0.1", 80) == net::endpoint::loopback(80));
  CHECK(net::endpoint::parse("unix:/a") != net::endpoint::parse("unix:/b"));
  CHECK(net::endpoint::loopback(1) != net::endpoint::loopback(2));
  CHECK(net::endpoint::any(1).family() == AF_INET);
  CHECK(net::endpoint::any_v6(1).family() == AF_INET6);
  CHECK(net::endpoint().to_string() == "no address");
}

TEST_CASE("text that is no address is refused with the text in the error") {
  for (const char* text : {"", "80", ":80", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:-1", "192.0.2.1: 80",
                           "192.0.2.256:80", "::1:80", "[::1]", "[::1:80", "[]:80", "[::1%]:80", "[::1%no-such-zone]:80",
                           "localhost:80", "unix:", "[192.0.2.1]:80"}) {
    CAPTURE(text);
    const failure refused = failure_of([&] { return net::endpoint::parse(text); });
    CHECK(refused.code == std::errc::invalid_argument);
    CHECK(refused.says(std::string("'") + text + "'"));
    std::error_code ec;
    CHECK(net::endpoint::parse(text, ec).family() == AF_UNSPEC);
    CHECK(ec == std::errc::invalid_argument);
  }
  CHECK(net::endpoint::local(std::string(107, 'x')).path().size() == 107);
  CHECK(failure_of([] { return net::endpoint::local(std::string(108, 'x')); }).code == std::errc::filename_too_long);
  CHECK(net::endpoint::local("@" + std::string(107, 'x')).path().size() == 108);
  CHECK(failure_of([] { return net::endpoint::local("@" + std::string(108, 'x')); }).code == std::errc::filename_too_long);
}
