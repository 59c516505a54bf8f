// What the engines know of a descriptor, and the lists of those who wait for it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "upcall/descriptor_table.hpp"
#include "upcall/operation_list.hpp"

using weft::upcall::opcode;
using weft::upcall::operation;
using namespace weft::upcall::engine;
using flag = descriptor_entry::flag;

namespace {

class opened {
 public:
  explicit opened(int fd) : fd_(fd) { REQUIRE(fd >= 0); }
  ~opened() {
    if (fd_ >= 0) ::close(fd_);
  }
  opened(opened&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  opened& operator=(opened&&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

opened socket_of(int domain, int type) { return opened(::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

std::pair<opened, opened> pipe_of(int flags) {
  int ends[2];
  REQUIRE(::pipe2(ends, flags | O_CLOEXEC) == 0);
  return {opened(ends[0]), opened(ends[1])};
}

operation asking(opcode code, std::size_t length) {
  operation op;
  op.code = code;
  op.length = length;
  return op;
}

descriptor_entry ready(std::uint16_t flags = flag::drains) {
  descriptor_entry e;
  e.set(static_cast<std::uint16_t>(flags | flag::known | flag::readable | flag::writable));
  return e;
}

std::uint32_t events_of(const descriptor_table& table) {
  epoll_event event{};
  return ::epoll_wait(table.epoll(), &event, 1, 0) == 1 ? event.events : 0;
}

}  // namespace

TEST_CASE("a list gives its operations back in order, wherever they were put and whichever were taken out") {
  std::array<operation, 5> op{};
  operation_list list;
  CHECK(list.empty());
  list.push_back(op[1]);
  list.push_back(op[2]);
  list.push_front(op[0]);
  list.push_back(op[3]);
  list.push_back(op[4]);
  list.remove(op[2]);
  list.remove(op[4]);
  std::vector<operation*> seen;
  for (operation* o = list.front(); o != nullptr; o = list.after(*o)) seen.push_back(o);
  CHECK(seen == std::vector<operation*>{&op[0], &op[1], &op[3]});
  operation_list all = list.take();
  CHECK(list.empty());
  CHECK(list.pop_front() == nullptr);
  for (operation* const each : seen) CHECK(all.pop_front() == each);
  CHECK(all.empty());
}

TEST_CASE("place, marks and generation of an operation do not disturb one another") {
  operation op;
  set_place(op, place::finished);
  op.stage |= mark::turn | mark::file;
  set_generation(op, 0xfedc);
  set_place(op, place::reading);
  CHECK(place_of(op) == place::reading);
  CHECK(has(op, mark::turn));
  CHECK(has(op, mark::file));
  CHECK_FALSE(has(op, mark::connecting));
  CHECK(generation_of(op) == 0xfedc);
}

TEST_CASE("a short transfer means drained where that is known, a full one means try again") {
  descriptor_entry e = ready();
  e.settle(asking(opcode::receive, 10), 10);
  CHECK(e.is(flag::readable));
  e.settle(asking(opcode::receive, 10), 4);
  CHECK_FALSE(e.is(flag::readable));
  CHECK(e.is(flag::writable));
  e.settle(asking(opcode::send, 10), 3);
  CHECK_FALSE(e.is(flag::writable));

  descriptor_entry datagrams = ready(0);
  datagrams.settle(asking(opcode::receive, 10), 4);
  CHECK(datagrams.is(flag::readable));
  datagrams.settle(asking(opcode::receive, 10), -EAGAIN);
  CHECK_FALSE(datagrams.is(flag::readable));
}

TEST_CASE("after the end was reported only EAGAIN makes a descriptor unreadable") {
  descriptor_entry e = ready();
  e.edge(EPOLLIN | EPOLLRDHUP);
  e.settle(asking(opcode::receive, 10), 4);
  CHECK(e.is(flag::readable));
  e.settle(asking(opcode::receive, 10), 0);
  CHECK(e.is(flag::readable));
  e.settle(asking(opcode::receive, 10), -EAGAIN);
  CHECK_FALSE(e.is(flag::readable));
  e.edge(EPOLLIN);
  e.settle(asking(opcode::receive, 10), 4);
  CHECK_FALSE(e.is(flag::readable));
}

TEST_CASE("an error or a hang-up concerns both directions") {
  for (const std::uint32_t event : {EPOLLERR, EPOLLHUP}) {
    descriptor_entry e;
    e.edge(event);
    CHECK(e.is(flag::readable));
    CHECK(e.is(flag::writable));
  }
}

TEST_CASE("peeks and failed accepts say nothing about what is left") {
  descriptor_entry e = ready();
  operation peek = asking(opcode::receive, 10);
  peek.flags = MSG_PEEK;
  e.settle(peek, 4);
  CHECK(e.is(flag::readable));
  e.settle(asking(opcode::accept, 0), -EMFILE);
  CHECK(e.is(flag::readable));
  e.settle(asking(opcode::accept, 0), 7);
  CHECK(e.is(flag::readable));
}

TEST_CASE("descriptors are told apart by what a short read on them means") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  const opened tcp = socket_of(AF_INET, SOCK_STREAM);
  REQUIRE(table.prepare(tcp.get(), true, e) == 0);
  CHECK(e->is(flag::socket));
  CHECK(e->is(flag::drains));
  CHECK(e->is(flag::trusted));
  for (const opened& other : {socket_of(AF_INET, SOCK_DGRAM), socket_of(AF_UNIX, SOCK_STREAM), socket_of(AF_UNIX, SOCK_DGRAM)}) {
    REQUIRE(table.prepare(other.get(), true, e) == 0);
    CHECK(e->is(flag::socket));
    CHECK_FALSE(e->is(flag::drains));
  }
  const auto [reader, writer] = pipe_of(0);
  table.renew(reader.get());
  REQUIRE(table.prepare(reader.get(), false, e) == 0);
  CHECK_FALSE(e->is(flag::drains | flag::socket | flag::nonblocking | flag::trusted));
  const auto [nonblocking_reader, nonblocking_writer] = pipe_of(O_NONBLOCK);
  table.renew(nonblocking_reader.get());
  REQUIRE(table.prepare(nonblocking_reader.get(), false, e) == 0);
  CHECK(e->is(flag::nonblocking));
  const opened file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(table.prepare(file.get(), true, e) == 0);
  CHECK(e->is(flag::file));
}

TEST_CASE("what is no descriptor has no entry") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  CHECK(table.prepare(-1, true, e) == -EBADF);
  CHECK(table.prepare(987'654, true, e) == -EBADF);
  CHECK(table.find(-1) == nullptr);
  CHECK(table.find(987'654) == nullptr);
}

TEST_CASE("a re-check reports the present state again, and finds out what is not registered or is a file by now") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  const opened counter(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(table.prepare(counter.get(), false, e) == 0);
  CHECK(events_of(table) == EPOLLIN);
  CHECK(events_of(table) == 0);
  CHECK(table.recheck(counter.get(), *e, false) == 0);
  CHECK(events_of(table) == EPOLLIN);
  CHECK(table.recheck(counter.get(), *e, true) == 0);
  CHECK(events_of(table) == (EPOLLIN | EPOLLOUT));

  const auto [reader, writer] = pipe_of(O_NONBLOCK);
  REQUIRE(::write(writer.get(), "x", 1) == 1);
  REQUIRE(::dup2(reader.get(), counter.get()) == counter.get());
  CHECK(table.recheck(counter.get(), *e, false) == 0);
  CHECK(events_of(table) == EPOLLIN);

  const opened file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(::dup2(file.get(), counter.get()) == counter.get());
  CHECK(table.recheck(counter.get(), *e, false) == -EPERM);
}

TEST_CASE("an owner's first use leaves those who wait to write through the bare number in the epoll set") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  const opened counter(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(table.prepare(counter.get(), false, e) == 0);
  CHECK(table.recheck(counter.get(), *e, true) == 0);
  CHECK(events_of(table) == EPOLLOUT);
  REQUIRE(table.prepare(counter.get(), true, e) == 0);
  CHECK(e->is(flag::watches_writing));
  CHECK(events_of(table) == EPOLLOUT);
}

TEST_CASE("a forgotten number is unknown, of a new generation, and silent also while a duplicate lives") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  auto [reader, writer] = pipe_of(O_NONBLOCK);
  const opened duplicate(::fcntl(reader.get(), F_DUPFD_CLOEXEC, 0));
  REQUIRE(table.prepare(reader.get(), true, e) == 0);
  const auto generation = e->generation;
  table.forget(reader.get(), *e);
  CHECK(e->generation != generation);
  CHECK_FALSE(e->is(flag::known));
  REQUIRE(::write(writer.get(), "x", 1) == 1);
  CHECK(events_of(table) == 0);
}

TEST_CASE("a number that the kernel gave anew is classified anew") {
  descriptor_table table;
  descriptor_entry* e = nullptr;
  const opened file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(table.prepare(file.get(), true, e) == 0);
  const opened counter(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(::dup2(counter.get(), file.get()) == file.get());
  table.renew(file.get());
  REQUIRE(table.prepare(file.get(), true, e) == 0);
  CHECK_FALSE(e->is(flag::file));
  table.renew(-1);
  table.renew(987'654);
}
