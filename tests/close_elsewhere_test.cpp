// Typed descriptors that are closed where the scheduler that uses them is not. both-transfers
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/blocking.hpp"
#include "weft/file.hpp"
#include "weft/io.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace io = weft::io;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

void on_other_kernel_thread(const std::function<void()>& fn) { std::thread(fn).join(); }
void in_other_scheduler(const std::function<void()>& fn) {
  std::thread([&] { weft::run(fn); }).join();
}
using place = void (*)(const std::function<void()>&);

// A thread that reads from `from` until that fails.
struct reader {
  explicit reader(const io::descriptor& from)
      : thread({.start = weft::start::now}, [this, &from] {
          char line[10];
          io::read(from, line, error);
        }) {}
  std::error_code error;
  weft::thread thread;
};

}  // namespace

TEST_CASE("a descriptor destroyed on another kernel thread or scheduler ends the calls that wait on it") {
  for (const place elsewhere : {place(on_other_kernel_thread), place(in_other_scheduler)}) {
    weft::run([&] {
      pipe_of_two p;
      const int number = p.reader.get();
      reader first(p.reader);
      reader second(p.reader);
      elsewhere([&] { const io::descriptor gone = std::move(p.reader); });
      CHECK(is_open(number));  // until those calls have ended, it names nothing else
      first.thread.join();
      second.thread.join();
      CHECK(first.error == std::errc::bad_file_descriptor);
      CHECK(second.error == std::errc::bad_file_descriptor);
      CHECK_FALSE(is_open(number));
    });
  }
}

TEST_CASE("a scheduler that sleeps wakes for a close elsewhere, and one that waits for nothing closes all the same") {
  weft::run([] {
    pipe_of_two p;
    const int number = p.reader.get();
    reader waits(p.reader);
    std::thread closer([&] { p.reader.close(); });
    waits.thread.join();
    CHECK(waits.error == std::errc::bad_file_descriptor);
    closer.join();
    CHECK_FALSE(is_open(number));

    pipe_of_two used;
    const int another = used.reader.get();
    io::write(used.writer, "x");
    CHECK(read_text(used.reader) == "x");
    on_other_kernel_thread([&] { used.reader.close(); });
    while (is_open(another)) weft::this_thread::yield();
  });
}

TEST_CASE("a scheduler whose processor is lent to a region closes what others left to it") {
  weft::run([] {
    pipe_of_two p;
    pipe_of_two done;
    reader waits(p.reader);
    weft::thread other([&] {
      weft::blocking([&] {
        on_other_kernel_thread([&] { p.reader.close(); });
        char c = 0;
        ::fcntl(done.reader.get(), F_SETFL, 0);
        CHECK(::read(done.reader.get(), &c, 1) == 1);
      });
    });
    waits.thread.join();
    CHECK(waits.error == std::errc::bad_file_descriptor);
    io::write(done.writer, "x");
    other.join();
  });
}

TEST_CASE("a close elsewhere waits for what workers have begun, and ends the rest") {
  weft::run([] {
    const temporary_directory where;
    for (int round = 0; round < 10; ++round) {
      weft::file file(where / "file", weft::open_mode::read_write | weft::open_mode::create);
      const int number = file.descriptor().get();
      file.write_at(0, "something to write back");
      std::vector<std::error_code> ends(40);
      std::vector<weft::thread> threads;
      for (std::error_code& end : ends) {
        threads.emplace_back([&] { io::fsync(file.descriptor(), end); });
      }
      let_others_wait();
      on_other_kernel_thread([&] { file.close(); });
      for (weft::thread& t : threads) t.join();
      for (const std::error_code& end : ends) CHECK((!end || end == std::errc::bad_file_descriptor));
      while (is_open(number)) weft::this_thread::yield();
    }
  });
}

TEST_CASE("a descriptor that outlives its scheduler is closed at once, wherever it is") {
  pipe_of_two p;
  weft::run([&] {
    io::write(p.writer, "x");
    CHECK(read_text(p.reader) == "x");
  });
  const int number = p.reader.get();
  on_other_kernel_thread([&] { p.reader.close(); });
  CHECK_FALSE(is_open(number));
}

TEST_CASE("what is left to a scheduler is closed with it") {
  int number = -1;
  weft::run([&] {
    pipe_of_two p;
    number = p.reader.get();
    io::write(p.writer, "x");
    CHECK(read_text(p.reader) == "x");
    on_other_kernel_thread([&] { p.reader.close(); });
  });
  CHECK_FALSE(is_open(number));
}

TEST_CASE("a forked child closes its copy at once, and its parent's calls go on") {
  weft::run([] {
    pipe_of_two p;
    const int number = p.reader.get();
    reader waits(p.reader);
    const pid_t child = ::fork();
    if (child == 0) {
      std::error_code ec;
      p.reader.close(ec);
      ::_exit(!ec && !is_open(number) ? 0 : 1);
    }
    int status = 0;
    CHECK(weft::blocking([&] { return ::waitpid(child, &status, 0); }) == child);
    CHECK(status == 0);
    CHECK(is_open(number));
    io::write(p.writer, "x");
    waits.thread.join();
    CHECK_FALSE(waits.error);
  });
}
