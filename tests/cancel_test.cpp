// both-transfers
// Cancelling threads in real operations: prompt, and never before the kernel has let go of the memory it was given.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/io_fixture.hpp"
#include "weft/error.hpp"
#include "weft/file.hpp"
#include "weft/net.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

TEST_CASE("a thread cancelled in a read, write, accept, connect or poll throws and leaves the descriptor usable") {
  weft::run([] {
    pipe_of_two p;
    std::array<char, 64> bytes{};
    CHECK(cancelled_in([&] { weft::io::read(p.reader, bytes); }));
    fill(p.writer);
    CHECK(cancelled_in([&] { weft::io::write_all(p.writer, std::string(1 << 20, 'x')); }));
    CHECK(cancelled_in([&] { static_cast<void>(weft::io::poll(p.writer, POLLOUT)); }));
    weft::net::tcp_listener listener(weft::net::endpoint::loopback(0));
    CHECK(cancelled_in([&] { static_cast<void>(listener.accept()); }));
    auto client = weft::net::tcp_stream::connect(listener.local_endpoint());
    auto server = listener.accept();
    CHECK(cancelled_in([&] { client.read(bytes); }));
    server.write_all("still there");
    CHECK(client.read(bytes) == 11);
  });
}

TEST_CASE("memory given to a cancelled operation is never written to afterwards") {
  weft::run([] {
    for (int round = 0; round < 200; ++round) {
      auto [near, far] = weft::net::unix_stream::pair();
      weft::thread reader([&near = near] {
        const auto memory = std::make_unique<std::array<char, 4096>>();  // freed while the exception flies
        for (;;) near.read(*memory);
      });
      if (round % 3 != 0) weft::this_thread::yield();
      far.write_all(std::string(1000, 'a'));
      if (round % 2 == 0) weft::this_thread::yield();
      reader.request_cancel();
      far.write_all(std::string(1000, 'b'));
      reader.join();
    }
  });
}

TEST_CASE("a thread cancelled in a file read gets its exception after the read was done or dropped") {
  temporary_directory directory;
  const std::string path = directory / "data";
  std::ofstream(path) << std::string(1 << 20, 'x');
  weft::run([&] {
    int completed = 0;
    int cancelled = 0;
    for (int round = 0; round < 300; ++round) {
      weft::thread reader([&] {
        const int fd = weft::io::open(path, O_RDONLY);
        const weft::io::descriptor file(fd);
        try {
          const auto memory = std::make_unique<std::array<char, 65536>>();
          const std::size_t got = weft::io::pread(file, *memory, (round % 16) * 65536);  // CHECK would swallow the cancellation
          CHECK(got == 65536);
          CHECK((*memory)[65535] == 'x');
          ++completed;
        } catch (const weft::cancelled&) {
          ++cancelled;
          throw;
        }
      });
      for (int i = 0; i < round % 4; ++i) weft::this_thread::yield();
      if (round % 5 != 0) reader.request_cancel();
      reader.join();
    }
    CHECK(completed >= 60);
    CHECK(completed + cancelled <= 300);
  });
}

TEST_CASE("ten thousand threads blocked in a read are cancelled and leave nothing behind") {
  weft::run([] {
    pipe_of_two p;
    std::vector<weft::thread> threads;
    int unwound = 0;
    for (int i = 0; i < 10'000; ++i) {
      threads.emplace_back([&] {
        struct count {
          int& n;
          ~count() { ++n; }
        } const at_the_end{unwound};
        char byte = 0;
        weft::io::read(p.reader, weft::io::buffer(&byte, 1));
      });
    }
    weft::this_thread::yield();
    for (auto& t : threads) t.request_cancel();
    for (auto& t : threads) t.join();
    CHECK(unwound == 10'000);
    weft::io::write(p.writer, "z");
    char byte = 0;
    CHECK(weft::io::read(p.reader, weft::io::buffer(&byte, 1)) == 1);  // nobody took it
    CHECK(byte == 'z');
  });
}

TEST_CASE("a cancelled thread still closes its descriptors") {
  weft::run([] {
    auto [near, far] = weft::net::unix_stream::pair();
    weft::thread holder([mine = std::move(near)]() mutable {
      char byte = 0;
      mine.read(weft::io::buffer(&byte, 1));
    });
    weft::this_thread::yield();
    holder.request_cancel();
    holder.join();
    char byte = 0;
    CHECK(far.read(weft::io::buffer(&byte, 1)) == 0);
  });
}
