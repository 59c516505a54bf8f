// The real source of upcalls, both engines, without a scheduler: kinds of descriptors, poll.
#include <poll.h>
#include <sys/uio.h>

#include <cstdlib>

#include "tests/engine_fixture.hpp"
#include "tests/skip.hpp"

using weft::upcall::opcode;

TEST_CASE("vectors are read and written on pipes and sockets") {
  with_each_engine([](engine& e) {
    pipe_pair p;
    socket_pair s;
    for (pair_of_descriptors* const each : {static_cast<pair_of_descriptors*>(&p), static_cast<pair_of_descriptors*>(&s)}) {
      char a[] = "ab";
      char b[] = "cde";
      iovec out[] = {{a, 2}, {b, 3}};
      request write(opcode::writev, (*each)[1]);
      write.address = out;
      write.length = 2;
      CHECK(e.carry_out(write) == 5);
      char x[4] = {};
      char y[4] = {};
      iovec in[] = {{x, 3}, {y, 3}};
      request read(opcode::readv, (*each)[0]);
      read.address = in;
      read.length = 2;
      CHECK(e.carry_out(read) == 5);
      CHECK(std::string(x) == "abc");
      CHECK(std::string(y) == "de");
    }
  });
}

TEST_CASE("a blocking descriptor of somebody else's never holds the processor up") {
  with_each_engine([](engine& e) {
    pipe_pair p(O_CLOEXEC);
    const auto r = made(opcode::read, p[0], 10, false);
    CHECK_FALSE(e.start(r));
    e.poll();
    CHECK_FALSE(r->done());
    CHECK(e.carry_out(made(opcode::write, p[1], "blocking", false)) == 8);
    CHECK(e.finish(r) == 8);
    CHECK((::fcntl(p[0], F_GETFL) & O_NONBLOCK) == 0);
  });
}

TEST_CASE("a terminal is waited for, whether it blocks or not, and stays as it was") {
  with_each_engine([](engine& e) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    char name[64];
    const bool there = master >= 0 && ::unlockpt(master) == 0 && ::ptsname_r(master, name, sizeof(name)) == 0;
    if (!there) return skip("no pseudo-terminals here");
    for (const int how : {0, O_NONBLOCK}) {
      const int terminal = ::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | how);
      const auto r = made(opcode::read, terminal, 100, how != 0);
      CHECK_FALSE(e.start(r));
      e.poll();
      CHECK_FALSE(r->done());
      put(master, "a line\nand another\n");
      CHECK(e.finish(r) == 7);
      const auto another = made(opcode::read, terminal, 100, how != 0);
      CHECK(e.carry_out(another) == 12);
      CHECK(another->text() == "and another\n");
      CHECK(e.carry_out(made(opcode::write, terminal, "out", how != 0)) == 3);
      CHECK((::fcntl(terminal, F_GETFL) & O_NONBLOCK) == how);
      CHECK(e.close(terminal) == 0);
    }
    ::close(master);
  });
}

TEST_CASE("what the kernel makes up on the spot is read like a file") {
  with_each_engine([](engine& e) {
    for (const char* const name :
         {"/proc/self/status", "/proc/self/maps", "/sys/kernel/mm/transparent_hugepage/enabled", "/dev/zero"}) {
      const int fd = ::open(name, O_RDONLY | O_CLOEXEC);
      if (fd < 0) continue;
      CHECK(e.carry_out(made(opcode::read, fd, 10)) == 10);
      CHECK(e.carry_out(made(opcode::read, fd, 10)) == 10);
      CHECK(e.close(fd) == 0);
    }
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK(e.carry_out(made(opcode::read, null, 10)) == 0);
    CHECK(e.carry_out(made(opcode::write, null, "gone")) == 4);
    CHECK(e.close(null) == 0);
  });
}

TEST_CASE("poll answers at once, or when it becomes true, and leaves the data there") {
  with_each_engine([](engine& e) {
    socket_pair s;
    request out(opcode::poll, s[0]);
    out.flags = POLLIN | POLLOUT;
    CHECK(e.start(out));
    CHECK(out.result == POLLOUT);
    request in(opcode::poll, s[0]);
    in.flags = POLLIN;
    request in_too(opcode::poll, s[0]);
    in_too.flags = POLLIN | POLLRDHUP;
    CHECK_FALSE(e.start(in));
    CHECK_FALSE(e.start(in_too));
    put(s[1], "x");
    CHECK(e.finish(in) == POLLIN);
    CHECK(e.finish(in_too) == POLLIN);
    CHECK(e.carry_out(made(opcode::receive, s[0], 9)) == 1);
    request hang_up(opcode::poll, s[0]);
    hang_up.flags = POLLRDHUP;
    CHECK_FALSE(e.start(hang_up));
    ::close(s.take(1));
    CHECK((e.finish(hang_up) & POLLHUP) != 0);
    request file(opcode::poll, ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    file.flags = POLLIN;
    CHECK(e.carry_out(file) == POLLIN);
    ::close(file.fd);
  });
}

TEST_CASE("poll for writing waits until there is room") {
  with_each_engine([](engine& e) {
    pipe_pair p;
    std::string block(4096, 'x');
    while (::write(p[1], block.data(), block.size()) > 0) {
    }
    request out(opcode::poll, p[1]);
    out.flags = POLLOUT;
    CHECK_FALSE(e.start(out));
    e.poll();
    CHECK_FALSE(out.done());
    CHECK(::read(p[0], block.data(), block.size()) == 4096);
    CHECK(e.finish(out) == POLLOUT);
  });
}

TEST_CASE("numbers that name no descriptor are refused at once") {
  with_each_engine([](engine& e) {
    for (const opcode code : {opcode::read, opcode::write, opcode::receive, opcode::send, opcode::accept, opcode::poll}) {
      const auto r = made(code, 987'654, 1);
      CHECK(e.start(r));
      CHECK(r->result == -EBADF);
    }
    request close(opcode::close, 987'654);
    CHECK(e.start(close));
    CHECK(close.result == -EBADF);
  });
}
