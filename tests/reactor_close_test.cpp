// The real source of upcalls, both engines, without a scheduler: closing a file while operations on it are under way.
#include <csignal>
#include <filesystem>

#include "tests/engine_fixture.hpp"

using weft::upcall::opcode;

namespace {

struct scratch {
  scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  [[nodiscard]] int make(const char* name) const {
    const int fd = ::open((path / name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    return fd;
  }
  std::filesystem::path path;
};

std::string content(int fd) {
  char text[64] = {};
  const ssize_t n = ::pread(fd, text, sizeof(text), 0);
  return n > 0 ? std::string(text, static_cast<std::size_t>(n)) : std::string();
}

// Opens that wait for a lease to be given up: as many as there are workers keep all of them busy.
class busy_workers {
 public:
  busy_workers(engine& e, const scratch& where) : engine_(e), path_((where.path / "leased").string()) {
    before_ = std::signal(SIGIO, SIG_IGN);  // the kernel asks for the lease by it
    lease_ = where.make("leased");
    granted_ = ::fcntl(lease_, F_SETLEASE, F_WRLCK) == 0;
    if (!granted_) return;
    for (auto& open : opens_) {
      open = std::make_unique<request>(opcode::open, AT_FDCWD);
      open->address = path_.data();
      open->flags = O_RDONLY;
      CHECK_FALSE(e.start(open));
    }
    e.poll();
  }
  ~busy_workers() {
    ::fcntl(lease_, F_SETLEASE, F_UNLCK);
    ::close(lease_);
    if (granted_) {
      for (auto& open : opens_) CHECK(engine_.close(engine_.finish(open)) == 0);
    }
    std::signal(SIGIO, before_);
  }
  busy_workers(const busy_workers&) = delete;
  busy_workers& operator=(const busy_workers&) = delete;
  [[nodiscard]] bool granted() const { return granted_; }

 private:
  engine& engine_;
  std::string path_;
  std::array<std::unique_ptr<request>, 16> opens_;
  int lease_ = -1;
  bool granted_ = false;
  void (*before_)(int) = SIG_DFL;
};

}  // namespace

TEST_CASE("closing ends a collected fsync, which then says nothing of the number's next file") {
  with_each_engine([](engine& e) {
    const scratch where;
    const int fd = where.make("file");
    request sync(opcode::sync, fd);
    CHECK_FALSE(e.start(sync));
    CHECK(e.close(fd) == 0);
    const int next = where.make("next");
    CHECK(next == fd);
    CHECK(e.finish(sync) == -EBADF);
    CHECK(e.close(next) == 0);
  });
}

TEST_CASE("closing ends more collected operations than 16 bits count") {
  with_each_engine([](engine& e) {
    const scratch where;
    const int fd = where.make("file");
    std::vector<std::unique_ptr<request>> all;
    for (int i = 0; i < (1 << 16); ++i) e.start(*all.emplace_back(std::make_unique<request>(opcode::sync, fd)));
    CHECK(e.close(fd) == 0);
    for (const auto& each : all) CHECK(e.finish(each) == -EBADF);
  });
}

TEST_CASE("what queues for a worker when its descriptor is closed never reaches the number's next file") {
  with_each_engine([](engine& e) {
    const scratch where;
    const int kept = where.make("old");
    const int old_file = ::fcntl(kept, F_DUPFD_CLOEXEC, 300);  // a number that no open under way can take: they take the lowest
    int next_file = -1;
    const auto write = made(opcode::write, old_file, "for the old file");
    request sync(opcode::sync, old_file);
    char first[] = "not ";
    iovec vector{first, 4};
    request vectors(opcode::writev, old_file);
    vectors.address = &vector;
    vectors.length = 1;
    {
      const busy_workers busy(e, where);
      if (!busy.granted()) {
        MESSAGE("this file system gives no leases: nothing is tested");
        ::close(kept);
        CHECK(e.close(old_file) == 0);
        return;
      }
      write->offset = 0;
      e.start(sync);  // a plain write is done at once where it can be; these two are for a worker in any case
      e.start(vectors);
      e.start(write);
      e.poll();
      CHECK(e.close(old_file) == 0);
      const int made_file = where.make("next");
      next_file = ::dup3(made_file, old_file, O_CLOEXEC);
      ::close(made_file);
      CHECK(next_file == old_file);
    }
    for (request* const each : {&sync, &vectors, write.get()}) {
      const std::int32_t r = e.finish(*each);
      CHECK((r == -EBADF || r >= 0));
      if (e.source().name() == "direct" && each != write.get()) CHECK(r == -EBADF);
    }
    CHECK(content(next_file).empty());
    if (vectors.result < 0 && write->result < 0) CHECK(content(kept).empty());
    ::close(kept);
    CHECK(e.close(next_file) == 0);
  });
}

TEST_CASE("a close waits until the workers that are at it are done, and ends all that they have not begun") {
  with_each_engine([](engine& e) {
    const scratch where;
    for (int round = 0; round < 20; ++round) {
      const int fd = where.make("file");
      put(fd, "something to write back");
      std::vector<std::unique_ptr<request>> all;
      for (int i = 0; i < 40; ++i) e.start(*all.emplace_back(std::make_unique<request>(opcode::sync, fd)));
      e.poll();
      e.order.clear();
      request close(opcode::close, fd);
      CHECK(e.carry_out(close) == 0);
      if (e.source().name() == "direct") {
        for (const auto& each : all) CHECK(each->done());
        if (!close.immediate) CHECK(e.order.back() == &close);
      }
      const int next = where.make("next");
      CHECK(next == fd);
      for (const auto& each : all) {
        const std::int32_t r = e.finish(*each);
        CHECK((r == 0 || r == -EBADF));
      }
      CHECK(e.close(next) == 0);
    }
  });
}

TEST_CASE("a close that waits for a worker is not cancelled") {
  with_each_engine([](engine& e) {
    const scratch where;
    const int fd = where.make("file");
    request sync(opcode::sync, fd);
    e.start(sync);
    e.poll();
    request close(opcode::close, fd);
    if (!e.start(close)) e.cancel(close);
    CHECK(e.finish(close) == 0);
    CHECK(::fcntl(fd, F_GETFD) == -1);
    const std::int32_t r = e.finish(sync);
    CHECK((r == 0 || r == -EBADF));
  });
}
