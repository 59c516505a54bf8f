// The real source of upcalls, both engines, without a scheduler: files, open, fsync. Operations that cannot be polled.
#include <sys/uio.h>

#include <cstdlib>
#include <filesystem>

#include "tests/engine_fixture.hpp"
#include "upcall/opening.hpp"

using weft::upcall::opcode;

namespace {

struct directory {
  directory() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  directory(const directory&) = delete;
  directory& operator=(const directory&) = delete;
  [[nodiscard]] std::string operator/(const char* name) const { return path / name; }
  std::filesystem::path path;
};

std::unique_ptr<request> opening(const std::string& path, int flags, unsigned mode = 0) {
  auto r = std::make_unique<request>(opcode::open, AT_FDCWD);
  r->data = path;
  r->address = r->data.data();
  r->flags = flags;
  r->mode = mode;
  return r;
}

int open_file(engine& e, const std::string& path, int flags) {
  const int fd = e.carry_out(opening(path, flags, 0600));
  CHECK(fd >= 0);
  return fd;
}

}  // namespace

TEST_CASE("a file is created, written, synchronised, read and closed") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT | O_EXCL);
    CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
    CHECK(e.carry_out(made(opcode::write, fd, "first ")) == 6);
    CHECK(e.carry_out(made(opcode::write, fd, "second")) == 6);
    for (const int data_only : {0, 1}) {
      request sync(opcode::sync, fd);
      sync.flags = data_only;
      CHECK(e.carry_out(sync) == 0);
    }
    const auto all = made(opcode::read, fd, 100);
    all->offset = 0;
    CHECK(e.carry_out(all) == 12);
    CHECK(all->text() == "first second");
    const auto there = made(opcode::write, fd, "SECOND");
    there->offset = 6;
    CHECK(e.carry_out(there) == 6);
    CHECK(e.carry_out(made(opcode::read, fd, 100)) == 0);  // the position is still at the end
    CHECK(e.close(fd) == 0);
    const int again = open_file(e, where / "file", O_RDONLY);
    const auto text = made(opcode::read, again, 100);
    CHECK(e.carry_out(text) == 12);
    CHECK(text->text() == "first SECOND");
    CHECK(e.close(again) == 0);
  });
}

TEST_CASE("errors of files are results") {
  with_each_engine([](engine& e) {
    directory where;
    CHECK(e.carry_out(opening(where / "missing", O_RDONLY)) == -ENOENT);
    CHECK(e.carry_out(opening(where.path, O_WRONLY)) == -EISDIR);
    const int fd = open_file(e, where / "file", O_WRONLY | O_CREAT);
    CHECK(e.carry_out(made(opcode::read, fd, 10)) == -EBADF);
    CHECK(e.carry_out(made(opcode::receive, fd, 10)) == -ENOTSOCK);
    CHECK(e.close(fd) == 0);
    const int folder = open_file(e, where.path, O_RDONLY | O_DIRECTORY);
    CHECK(e.carry_out(made(opcode::read, folder, 10)) == -EISDIR);
    request sync(opcode::sync, folder);
    CHECK(e.carry_out(sync) == 0);
    CHECK(e.close(folder) == 0);
    pipe_pair p;
    request sync_pipe(opcode::sync, p[0]);
    CHECK(e.carry_out(sync_pipe) == -EINVAL);
    request sync_nothing(opcode::sync, 987'654);
    CHECK(e.carry_out(sync_nothing) == -EBADF);
  });
}

TEST_CASE("many reads in flight bring each what it asked for") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT);
    constexpr std::int64_t count = 1500;  // more than the ring takes at once
    std::string block(512, ' ');
    for (std::int64_t i = 0; i < count; ++i) {
      block.replace(0, 8, std::to_string(10'000'000 + i));
      put(fd, block);
    }
    REQUIRE(::fsync(fd) == 0);
    static_cast<void>(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    std::vector<std::unique_ptr<request>> reads;
    for (std::int64_t i = 0; i < count; ++i) {
      request& r = *reads.emplace_back(made(opcode::read, fd, 512));
      r.offset = 512 * (i * 7 % count);
      e.start(r);
    }
    for (std::int64_t i = 0; i < count; ++i) {
      request& r = *reads[static_cast<std::size_t>(i)];
      CHECK(e.finish(r) == 512);
      CHECK(r.data.substr(0, 8) == std::to_string(10'000'000 + i * 7 % count));
    }
    CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("transfers at the file position happen one after the other") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT);
    std::vector<std::unique_ptr<request>> writes;
    for (int i = 0; i < 50; ++i)
      e.start(*writes.emplace_back(made(opcode::write, fd, std::string(3, static_cast<char>('A' + i)))));
    for (const auto& each : writes) CHECK(e.finish(each) == 3);
    REQUIRE(::lseek(fd, 0, SEEK_SET) == 0);
    std::vector<std::unique_ptr<request>> reads;
    for (int i = 0; i < 50; ++i) e.start(*reads.emplace_back(made(opcode::read, fd, 3)));
    for (int i = 0; i < 50; ++i) {
      CHECK(e.finish(reads[static_cast<std::size_t>(i)]) == 3);
      CHECK(reads[static_cast<std::size_t>(i)]->text() == std::string(3, static_cast<char>('A' + i)));
    }
    CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("a read is short only at the end of the file, also where part of it is not in memory") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT);
    constexpr std::int32_t size = 1 << 20;
    put(fd, std::string(size, 'z'));
    REQUIRE(::fsync(fd) == 0);
    for (int i = 0; i < 3; ++i) {
      static_cast<void>(::posix_fadvise(fd, 8192, 0, POSIX_FADV_DONTNEED));
      const auto whole = made(opcode::read, fd, size + 100);
      whole->offset = 0;
      CHECK(e.carry_out(whole) == size);
      CHECK(whole->data.substr(0, size) == std::string(size, 'z'));
    }
    CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("vectors reach files at any offset") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT);
    char a[] = "ab";
    char b[] = "cde";
    iovec out[] = {{a, 2}, {b, 3}};
    request write(opcode::writev, fd);
    write.address = out;
    write.length = 2;
    write.offset = 10;
    CHECK(e.carry_out(write) == 5);
    char x[16] = {};
    iovec in[] = {{x, 12}, {x + 12, 4}};
    request read(opcode::readv, fd);
    read.address = in;
    read.length = 2;
    CHECK(e.carry_out(read) == 15);
    CHECK(std::string(x + 10) == "abcde");
    CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("opening a FIFO waits for its other end, holds nobody up, and can be cancelled") {
  with_each_engine([](engine& e) {
    directory where;
    const std::string path = where / "fifo";
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    for (const int mine : {O_RDONLY, O_WRONLY}) {
      CAPTURE(mine);
      const auto cancelled = opening(path, mine);
      CHECK_FALSE(e.start(cancelled));
      e.poll();
      CHECK_FALSE(cancelled->done());
      e.cancel(*cancelled);
      CHECK(e.finish(cancelled) == -ECANCELED);

      const auto waiting = opening(path, mine);
      CHECK_FALSE(e.start(waiting));
      e.poll();
      e.source().wait(weft::clock::now() + std::chrono::milliseconds(5));
      CHECK_FALSE(waiting->done());
      const int other = ::open(path.c_str(), O_CLOEXEC | O_NONBLOCK | (mine == O_RDONLY ? O_WRONLY : O_RDONLY));
      const int fd = e.finish(waiting);
      CHECK(fd >= 0);
      if (other >= 0) ::close(other);
      ::close(fd);
    }
    const int both = open_file(e, path, O_RDWR);
    const int reader = open_file(e, path, O_RDONLY);
    const int writer = open_file(e, path, O_WRONLY);
    for (const int fd : {both, reader, writer}) CHECK(e.close(fd) == 0);
    CHECK(e.close(open_file(e, path, O_RDONLY | O_NONBLOCK)) == 0);
    CHECK(e.carry_out(opening(path, O_WRONLY | O_NONBLOCK)) == -ENXIO);
  });
}

TEST_CASE("cancelling file operations in flight completes each exactly once") {
  with_each_engine([](engine& e) {
    directory where;
    const int fd = open_file(e, where / "file", O_RDWR | O_CREAT);
    put(fd, std::string(1 << 20, 'q'));
    REQUIRE(::fsync(fd) == 0);
    for (int round = 0; round < 5; ++round) {
      static_cast<void>(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
      std::vector<std::unique_ptr<request>> all;
      for (int i = 0; i < 40; ++i) {
        request& r = *all.emplace_back(i % 4 == 0 ? std::make_unique<request>(opcode::sync, fd) : made(opcode::read, fd, 4096));
        r.offset = 4096 * (i * 5);
        e.start(r);
        if (i == 20) e.poll();
      }
      for (const auto& each : all) e.cancel(*each);
      for (const auto& each : all) {
        const std::int32_t r = e.finish(each);
        CHECK((r == -ECANCELED || r == 4096 || r == 0));
      }
    }
    CHECK(e.close(fd) == 0);
  });
}

TEST_CASE("what no edge tells of is looked for at first every millisecond, at last four times a second") {
  using namespace std::chrono_literals;
  using weft::upcall::engine::look_again_after;
  CHECK(look_again_after({}) == 1ms);
  CHECK(look_again_after(8ms) == 1ms);
  CHECK(look_again_after(80ms) == 10ms);
  CHECK(look_again_after(1h) == 250ms);
}

TEST_CASE("a FIFO is asked for its writer without taking anything, and the pipe for it is given back") {
  directory where;
  const std::string path = where / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  const int lowest = ::dup(reader);
  ::close(lowest);
  {
    weft::upcall::engine::scratch_pipe scratch;
    for (int i = 0; i < 100; ++i) CHECK_FALSE(scratch.has_writer(reader));  // more often than a pipe has room
    const int writer = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    for (int i = 0; i < 100; ++i) CHECK(scratch.has_writer(reader));
    put(writer, "data");
    CHECK(scratch.has_writer(reader));
    char text[8];
    CHECK(::read(reader, text, sizeof(text)) == 4);
    ::close(writer);
    CHECK(scratch.has_writer(reader));  // it had one
  }
  const int again = ::dup(reader);
  CHECK(again == lowest);
  ::close(again);
  ::close(reader);
}

// Dropping a file's pages makes a read of it wait; some file systems keep them all the same, or refuse to be asked.
TEST_CASE("reads of files that were in memory are made at once from then on, though others could run, until one would wait") {
  with_each_engine([](engine& e) {
    if (!e.others) return;
    directory where;
    const int hot = open_file(e, where / "hot", O_RDWR | O_CREAT);
    const int cold = open_file(e, where / "cold", O_RDWR | O_CREAT);
    CHECK(e.carry_out(made(opcode::write, hot, "in memory")) == 9);
    CHECK(e.carry_out(made(opcode::write, cold, std::string(4 << 20, 'c'))) == 4 << 20);
    CHECK(e.carry_out(std::make_unique<request>(opcode::sync, cold)) == 0);
    const auto read_at = [&](int fd, off_t offset) {
      auto r = made(opcode::read, fd, 4);
      r->offset = offset;
      return r;
    };
    char c = 0;
    iovec one{&c, 1};
    if (::preadv2(hot, &one, 1, 0, RWF_NOWAIT) < 0) return;

    const auto first = read_at(hot, 0);
    CHECK_FALSE(e.start(*first));  // nothing is known yet
    e.poll();
    CHECK(first->text() == "in m");
    const auto again = read_at(hot, 3);
    CHECK(e.start(*again));
    CHECK(again->text() == "memo");

    CHECK(::posix_fadvise(cold, 0, 0, POSIX_FADV_DONTNEED) == 0);
    const bool dropped = ::preadv2(cold, &one, 1, 2 << 20, RWF_NOWAIT) < 0 && errno == EAGAIN;
    const auto waits = read_at(cold, 1 << 20);
    CHECK(e.start(*waits) != dropped);
    e.finish(waits);
    CHECK(waits->text() == "cccc");
    for (const int fd : {hot, cold}) CHECK(e.close(fd) == 0);
  });
}
