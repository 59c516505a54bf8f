// read_exactly and write_all: everything, or an error that says how far it came. both-transfers
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/io.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace io = weft::io;
using namespace std::chrono_literals;

TEST_CASE("write_all and read_exactly move a megabyte through a pipe of 64 KiB") {
  weft::run([] {
    pipe_of_two p;
    std::vector<std::uint32_t> sent(1 << 18), got(1 << 18);
    for (std::uint32_t i = 0; i < sent.size(); ++i) sent[i] = i * 2654435761u;
    weft::jthread writer([&] { CHECK(io::write_all(p.writer, sent) == sent.size() * 4); });
    CHECK(io::read_exactly(p.reader, got) == got.size() * 4);
    CHECK(sent == got);
  });
}

TEST_CASE("read_exactly reports the end of the file and how far it came") {
  weft::run([] {
    pipe_of_two p;
    io::write(p.writer, "12345");
    p.writer.close();
    char line[8];
    std::size_t transferred = 0;
    try {
      io::read_exactly(p.reader, line);
    } catch (const io::transfer_error& e) {
      transferred = e.transferred();
      CHECK(e.code() == io::error::end_of_file);
      CHECK(std::string(e.what()).find("5 of 8 bytes") != std::string::npos);
    }
    CHECK(transferred == 5);
    std::error_code ec;
    CHECK(io::read_exactly(p.reader, line, ec) == 0);
    CHECK(ec == io::error::end_of_file);
    CHECK(io::read_exactly(p.reader, io::buffer(), ec) == 0);
    CHECK_FALSE(ec);
  });
}

TEST_CASE("write_all that times out says how much the kernel took") {
  weft::run([] {
    pipe_of_two p;
    const std::size_t room = fill(p.writer);
    std::vector<char> drain(room);
    io::read_exactly(p.reader, drain);
    const std::vector<char> more(room + 1000);
    std::error_code ec;
    const std::size_t done = io::write_all(p.writer, more, ec, weft::clock::now() + 5ms);
    CHECK(ec == std::errc::timed_out);
    CHECK(done > 0);
    CHECK(done < more.size());
    std::vector<char> back(done);
    CHECK(io::read_exactly(p.reader, back) == done);
    CHECK(io::poll(p.reader, POLLIN, weft::clock::now()) == 0);
  });
}

TEST_CASE("write_all that is cancelled after a part returns the part; the next call throws") {
  weft::run([] {
    pipe_of_two p;
    const std::size_t room = fill(p.writer);
    std::vector<char> drain(room);
    io::read_exactly(p.reader, drain);
    const std::vector<char> more(room + 1000);
    std::size_t done = 0;
    std::error_code ec;
    bool thrown = false;
    weft::thread writer([&] {
      done = io::write_all(p.writer, more, ec);
      try {
        io::write(p.writer, "x");
      } catch (const weft::cancelled&) {
        thrown = true;
        throw;
      }
    });
    for (int held = 0; held < static_cast<int>(room); ::ioctl(p.reader.get(), FIONREAD, &held)) weft::this_thread::yield();
    writer.request_cancel();
    writer.join();
    CHECK(ec == std::errc::operation_canceled);
    CHECK(done > 0);
    CHECK(done < more.size());
    CHECK(thrown);
  });
}
