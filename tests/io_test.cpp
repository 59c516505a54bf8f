// Transfers on descriptors under the real scheduler and the kernel's own source. both-transfers
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "weft/io.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace io = weft::io;
using namespace std::chrono_literals;

TEST_CASE("a reader waits until something was written, and others run meanwhile") {
  weft::run([] {
    pipe_of_two p;
    std::string order;
    weft::thread reader([&] {
      order += "wait ";
      order += read_text(p.reader);
    });
    let_others_wait();
    order += "other ";
    CHECK(io::write(p.writer, "text") == 4);
    reader.join();
    CHECK(order == "wait other text");
  });
}

TEST_CASE("a writer waits until a full pipe has room") {
  weft::run([] {
    pipe_of_two p;
    const std::size_t filled = fill(p.writer);
    bool written = false;
    weft::thread writer([&] { written = io::write(p.writer, "y") == 1; });
    let_others_wait();
    CHECK_FALSE(written);
    std::vector<char> all(filled);
    CHECK(io::read_exactly(p.reader, all) == filled);
    writer.join();
    CHECK(written);
    CHECK(read_text(p.reader) == "y");
  });
}

TEST_CASE("the end of a file and of a pipe is a read of 0 bytes") {
  weft::run([] {
    pipe_of_two p;
    io::write(p.writer, "last");
    p.writer.close();
    CHECK(read_text(p.reader) == "last");
    CHECK(read_text(p.reader).empty());
    CHECK(read_text(p.reader).empty());
    const io::descriptor null(io::open("/dev/null", O_RDONLY));
    CHECK(read_text(null).empty());
  });
}

TEST_CASE("every kind of buffer is taken as its bytes, a literal without its zero") {
  weft::run([] {
    pipe_of_two p;
    const std::vector<std::uint32_t> numbers{1, 2};
    CHECK(io::write(p.writer, numbers) == 8);
    std::array<std::uint32_t, 2> back{};
    CHECK(io::read(p.reader, back) == 8);
    CHECK(back[1] == 2);
    CHECK(io::write(p.writer, "ab\n") == 3);
    CHECK(io::write(p.writer, std::string("cd")) == 2);
    CHECK(io::write(p.writer, std::string_view("ef")) == 2);
    const char five[5] = {'g', 'h', 0, 0, 0};
    CHECK(io::write(p.writer, std::span(five)) == 5);
    std::byte bytes[20];
    CHECK(io::read(p.reader, std::span<std::byte>(bytes)) == 12);
    CHECK(std::memcmp(bytes, "ab\ncdefgh\0\0\0", 12) == 0);
  });
}

TEST_CASE("errors name the call, the descriptor and the path; the error_code form sets and clears") {
  weft::run([] {
    char line[10];
    CHECK(failure_of([&] { return io::read(-1, line); }).code == std::errc::bad_file_descriptor);
    const failure read = failure_of([&] { return io::read(987, line); });
    CHECK(read.code == std::errc::bad_file_descriptor);
    CHECK(read.text == "weft: cannot read from descriptor 987: Bad file descriptor");
    const failure open = failure_of([&] { return io::open("/no/such/file", O_RDONLY); });
    CHECK(open.code == std::errc::no_such_file_or_directory);
    CHECK(open.says("'/no/such/file'"));
    std::error_code ec;
    CHECK(io::read(987, line, ec) == 0);
    CHECK(ec == std::errc::bad_file_descriptor);
    pipe_of_two p;
    CHECK(io::write(p.writer, "x", ec) == 1);
    CHECK_FALSE(ec);
    CHECK(io::open("/no/such/file", O_RDONLY, ec) == -1);
    CHECK(ec == std::errc::no_such_file_or_directory);
    CHECK(io::write(p.reader, "x", ec) == 0);
    CHECK(ec == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("an empty buffer never waits, and still finds a descriptor that is not open for it") {
  weft::run([] {
    pipe_of_two p;
    fill(p.writer);
    pipe_of_two quiet;
    CHECK(io::read(quiet.reader, io::buffer()) == 0);
    CHECK(io::write(p.writer, io::const_buffer()) == 0);
    CHECK(io::readv(quiet.reader, {}) == 0);
    std::error_code ec;
    io::read(quiet.writer, io::buffer(), ec);
    CHECK(ec == std::errc::bad_file_descriptor);
    io::write(987, "", ec);
    CHECK(ec == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("vectors are transferred in order, and more than the kernel takes at once are a short transfer") {
  weft::run([] {
    pipe_of_two p;
    const std::string a = "one ", b = "two";
    CHECK(io::writev(p.writer, std::array{io::const_buffer(a).vector(), iovec{}, io::const_buffer(b).vector()}) == 7);
    char first[5], second[10];
    CHECK(io::readv(p.reader, std::array{io::buffer(first).vector(), io::buffer(second).vector()}) == 7);
    CHECK(std::string(first, 5) + std::string(second, 2) == "one two");
    const std::vector<iovec> many(1500, io::const_buffer("x", 1).vector());
    CHECK(io::writev(p.writer, many) == 1024);
    std::vector<char> back(1024);
    CHECK(io::read_exactly(p.reader, back) == 1024);
  });
}

TEST_CASE("a length beyond what the kernel transfers at once is cut, not refused") {
  temporary_directory where;
  weft::run([&] {
    const io::descriptor file(io::open(where / "short", O_RDWR | O_CREAT));
    io::write_all(file, "12345");
    constexpr std::size_t length = std::size_t{1} << 33;  // reserved, never touched: the kernel looks at the addresses first
    void* const room = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return skip("no 8 GiB of address space");
    CHECK(io::pread(file, io::buffer(room, length), 0) == 5);
    CHECK(std::string(static_cast<const char*>(room), 5) == "12345");
    ::munmap(room, length);
  });
}

TEST_CASE("pread and pwrite reach any offset and leave the position alone") {
  temporary_directory where;
  weft::run([&] {
    const io::descriptor file(io::open(where / "sparse", O_RDWR | O_CREAT, 0600));
    const off_t far = (off_t{5} << 30) + 3;
    CHECK(io::pwrite(file, "far", far) == 3);
    io::write_all(file, "near");
    char line[10] = {};
    CHECK(io::pread(file, line, far) == 3);
    CHECK(std::string(line, 3) == "far");
    CHECK(io::pread(file, line, far + 3) == 0);
    CHECK(io::pread(file, std::span(line, 4), 0) == 4);
    CHECK(std::string(line, 4) == "near");
    CHECK(failure_of([&] { return io::pread(file, line, -1); }).code == std::errc::invalid_argument);
    CHECK(failure_of([&] { return io::pwrite(file, "x", -1); }).code == std::errc::invalid_argument);
    pipe_of_two p;
    CHECK(failure_of([&] { return io::pread(p.reader, line, 0); }).code == std::errc::invalid_seek);
  });
}

TEST_CASE("fsync and fdatasync work on files and are refused elsewhere") {
  temporary_directory where;
  weft::run([&] {
    const io::descriptor file(io::open(where / "file", O_RDWR | O_CREAT));
    io::write_all(file, "x");
    io::fsync(file);
    std::error_code ec;
    io::fdatasync(file, ec);
    CHECK_FALSE(ec);
    pipe_of_two p;
    io::fsync(p.reader, ec);
    CHECK(ec == std::errc::invalid_argument);
  });
}

TEST_CASE("poll tells what is true, waits for it, and returns 0 at its deadline") {
  weft::run([] {
    pipe_of_two p;
    CHECK(io::poll(p.writer, POLLOUT) == POLLOUT);
    CHECK(io::poll(p.reader, POLLIN, weft::clock::now() + 5ms) == 0);
    int seen = 0;
    weft::thread poller([&] { seen = io::poll(p.reader, POLLIN); });
    let_others_wait();
    io::write(p.writer, "x");
    poller.join();
    CHECK(seen == POLLIN);
    read_text(p.reader);
    weft::thread hang([&] { seen = io::poll(p.reader, POLLIN); });
    let_others_wait();
    p.writer.close();
    hang.join();
    CHECK((seen & POLLHUP) != 0);
  });
}

TEST_CASE("recv and send take their flags: peeking, waiting for all, datagrams of no bytes") {
  weft::run([] {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const io::descriptor a(ends[0]), b(ends[1]);
    io::send(a, "abc");
    char line[6] = {};
    CHECK(io::recv(b, line, MSG_PEEK) == 3);
    std::size_t got = 0;
    weft::thread all([&] { got = io::recv(b, line, MSG_WAITALL); });
    let_others_wait();
    CHECK(got == 0);
    io::send(a, "def");
    all.join();
    CHECK(got == 6);
    CHECK(std::string(line, 6) == "abcdef");

    CHECK(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
    const io::descriptor from(ends[0]), to(ends[1]);
    CHECK(io::send(from, io::const_buffer()) == 0);
    io::send(from, "longer than the buffer");
    CHECK(io::recv(to, line) == 0);
    CHECK(io::recv(to, line, MSG_WAITALL) == 6);
    CHECK(std::string(line, 6) == "longer");
  });
}

TEST_CASE("the peer's end of a socket gives broken_pipe and no signal") {
  weft::run([] {
    int ends[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const io::descriptor mine(ends[0]);
    io::close(ends[1]);
    CHECK(failure_of([&] { return io::send(mine, "x"); }).code == std::errc::broken_pipe);
  });
}

TEST_CASE("a broken pipe is an error when SIGPIPE is ignored") {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  weft::run([] {
    pipe_of_two p;
    p.reader.close();
    CHECK(failure_of([&] { return io::write(p.writer, "x"); }).code == std::errc::broken_pipe);
  });
  std::signal(SIGPIPE, before);
}
