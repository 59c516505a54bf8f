// How calls on descriptors begin and end: open, close, deadlines, cancellation, signals. both-transfers
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>

#include "tests/io_fixture.hpp"
#include "weft/io.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace io = weft::io;
using namespace std::chrono_literals;

TEST_CASE("closing a descriptor wakes whoever reads, writes or polls it with bad_file_descriptor") {
  weft::run([] {
    for (const bool owned : {true, false}) {
      pipe_of_two p;
      fill(p.writer);
      std::error_code read_error, write_error, poll_error;
      char line[10];
      const int reader = p.reader.get();
      const int writer = p.writer.get();
      {
        // The pipe is full, so its reader would not wait: that one waits on another.
        pipe_of_two quiet;
        const int quiet_reader = quiet.reader.get();
        weft::jthread r([&] { io::read(owned ? io::handle(quiet.reader) : io::handle(quiet_reader), line, read_error); });
        weft::jthread w([&] { io::write(owned ? io::handle(p.writer) : io::handle(writer), "x", write_error); });
        weft::jthread l([&] { io::poll(owned ? io::handle(quiet.reader) : io::handle(quiet_reader), POLLIN, poll_error); });
        let_others_wait();
        quiet.reader.close();
        p.writer.close();
      }
      CHECK(read_error == std::errc::bad_file_descriptor);
      CHECK(write_error == std::errc::bad_file_descriptor);
      CHECK(poll_error == std::errc::bad_file_descriptor);
      CHECK(::fcntl(reader, F_GETFD) >= 0);
      CHECK(::fcntl(writer, F_GETFD) == -1);
    }
  });
}

TEST_CASE("a number that is closed and used again for another file works with both") {
  weft::run([] {
    int last = -1;
    for (int round = 0; round < 50; ++round) {
      pipe_of_two p;
      weft::jthread writer([&] { io::write(p.writer, "round"); });
      CHECK(read_text(p.reader) == "round");
      if (last >= 0) CHECK(p.reader.get() == last);
      last = p.reader.get();
    }
  });
}

TEST_CASE("closing twice is nothing for an owner and an error for a number") {
  weft::run([] {
    pipe_of_two p;
    const int number = p.reader.get();
    p.reader.close();
    p.reader.close();
    CHECK_FALSE(p.reader);
    std::error_code ec;
    io::close(number, ec);
    CHECK(ec == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("a released descriptor lives on under another number, and who waited on the old one is woken") {
  weft::run([] {
    pipe_of_two p;
    std::error_code ec;
    weft::thread reader([&] {
      char line[10];
      io::read(p.reader, line, ec);
    });
    let_others_wait();
    const io::descriptor moved(p.reader.release());
    reader.join();
    CHECK(ec == std::errc::bad_file_descriptor);
    CHECK_FALSE(p.reader);
    io::write(p.writer, "still here");
    CHECK(read_text(moved) == "still here");
  });
}

TEST_CASE("a read whose deadline comes first times out and takes nothing away from the next one") {
  weft::run([] {
    pipe_of_two p;
    char line[10];
    const weft::time_point before = weft::clock::now();
    CHECK(failure_of([&] { return io::read(p.reader, line, before + 5ms); }).code == std::errc::timed_out);
    CHECK(weft::clock::now() >= before + 5ms);
    std::error_code ec;
    CHECK(io::read(p.reader, line, ec, weft::clock::now() - 1s) == 0);
    CHECK(ec == std::errc::timed_out);
    io::write(p.writer, "late");
    CHECK(io::read(p.reader, line, weft::clock::now() + 10s) == 4);
  });
}

TEST_CASE("a thread asked to end leaves its read by `cancelled`, in both forms, and its data stays") {
  weft::run([] {
    pipe_of_two p;
    std::string buffer(10, '.');
    int left = 0;
    for (const bool code_form : {false, true}) {
      weft::thread reader([&] {
        try {
          std::error_code ec;
          code_form ? io::read(p.reader, buffer, ec) : io::read(p.reader, buffer);
        } catch (const weft::cancelled&) {
          ++left;
          throw;
        }
      });
      let_others_wait();
      reader.request_cancel();
      reader.join();
    }
    CHECK(left == 2);
    io::write(p.writer, "data");
    CHECK(buffer == "..........");
    CHECK(read_text(p.reader) == "data");
  });
}

TEST_CASE("a thread asked to end still closes what it owns") {
  weft::run([] {
    pipe_of_two p;
    weft::thread owner([mine = std::move(p.writer), other = p.reader.get()]() mutable {
      try {
        char line[1];
        io::read(other, line);
      } catch (const weft::cancelled&) {
      }
      mine.close();
    });
    let_others_wait();
    owner.request_cancel();
    owner.join();
    CHECK(read_text(p.reader).empty());
  });
}

TEST_CASE("descriptors made here are close-on-exec and non-blocking where that means anything") {
  temporary_directory where;
  weft::run([&] {
    pipe_of_two p;
    const io::descriptor socket(io::socket(AF_INET, SOCK_STREAM));
    const io::descriptor file(io::open(where / "file", O_RDWR | O_CREAT));
    for (const int d : {p.reader.get(), p.writer.get(), socket.get(), file.get()}) {
      CHECK((::fcntl(d, F_GETFD) & FD_CLOEXEC) != 0);
      CHECK(((::fcntl(d, F_GETFL) & O_NONBLOCK) != 0) == (d != file.get()));
    }
  });
}

TEST_CASE("opening a FIFO waits for its other end, and so does reading it") {
  temporary_directory where;
  const std::string path = where / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  weft::run([&] {
    std::string text;
    weft::thread reader([&] {
      const io::descriptor end(io::open(path, O_RDONLY));
      CHECK((::fcntl(end.get(), F_GETFL) & O_NONBLOCK) != 0);
      text = read_text(end);
    });
    let_others_wait();
    const io::descriptor end(io::open(path, O_WRONLY));
    io::write(end, "through");
    reader.join();
    CHECK(text == "through");
  });
}

TEST_CASE("blocking descriptors of somebody else's are waited for like our own") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  weft::run([&] {
    std::string text;
    weft::thread reader([&] { text = read_text(ends[0]); });
    let_others_wait();
    io::write(ends[1], "plain");
    reader.join();
    CHECK(text == "plain");
    io::close(ends[0]);
    io::close(ends[1]);
  });
}

namespace {
std::atomic<int> signals{0};
}

TEST_CASE("signals that interrupt system calls never reach the caller") {
  struct sigaction count {}, before {};
  count.sa_handler = [](int) { ++signals; };  // without SA_RESTART
  REQUIRE(::sigaction(SIGUSR1, &count, &before) == 0);
  const pthread_t here = ::pthread_self();
  std::jthread storm([here](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      ::pthread_kill(here, SIGUSR1);
      std::this_thread::yield();
    }
  });
  weft::run([&] {
    pipe_of_two there, back;
    weft::jthread echo([&] {
      char byte[1];
      while (io::read(there.reader, byte) == 1) io::write_all(back.writer, byte);
    });
    int rounds = 0;
    for (char byte[1] = {'x'}; rounds < 2000 || signals < 100; ++rounds) {
      io::write_all(there.writer, byte);
      CHECK(io::read(back.reader, byte, weft::clock::now() + 10s) == 1);
    }
    there.writer.close();
  });
  storm.request_stop();
  storm.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("off a weft thread a call that could wait is refused, and a descriptor still closes") {
  int number = -1;
  {
    const auto [reader, writer] = io::pipe();
    const io::descriptor r(reader), w(writer);
    number = reader;
    char line[4];
    std::error_code ec;
    CHECK(failure_of([&] { return io::read(r, line); }).code == std::errc::operation_not_permitted);
    CHECK(failure_of([&] { return io::read(r, line, ec); }).code == std::errc::operation_not_permitted);
  }
  CHECK(::fcntl(number, F_GETFD) == -1);
}

TEST_CASE("an owner's first call does not trust what is known of a number that another scheduler used last and closed") {
  weft::run([] {
    for (const bool cancelled_first : {false, true}) {
      CAPTURE(cancelled_first);
      char line[4];
      std::error_code ec;
      int number = -1;
      {
        pipe_of_two old;
        number = old.reader.get();
        io::read(old.reader, line, ec, weft::clock::now());  // registers it
        std::thread([gone = std::move(old.reader)]() mutable {
          weft::run([&] {
            std::error_code late;
            char none[1];
            io::read(gone, none, late, weft::clock::now());
            gone.close();
          });
        }).join();
      }
      pipe_of_two next;
      CHECK(next.reader.get() == number);
      if (cancelled_first) {  // a call that was never made finds nothing out
        weft::thread ending([&] {
          weft::this_thread::yield();
          CHECK_THROWS_AS(io::read(next.reader, line, ec), weft::cancelled);
        });
        let_others_wait();
        ending.request_cancel();
        ending.join();
      }
      io::descriptor moved = std::move(next.reader);
      weft::jthread writer([&] { io::write(next.writer, "x"); });
      CHECK(io::read(moved, line, ec, weft::clock::now() + 10s) == 1);
    }
  });
}
