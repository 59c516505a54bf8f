// both-transfers every-privilege
// options::activations = all: threads that wait in the kernel in their own code, unmarked, hold up nobody.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/all_code.hpp"
#include "tests/blocking_calls.hpp"
#include "tests/captured_errors.hpp"
#include "tests/skip.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;
using weft::upcall::cause;
using weft::upcall::kind;

namespace {

weft::options all() {
  weft::options how;
  how.activations = weft::activations::all;
  return how;
}

std::uint64_t blocked(cause why) { return weft::upcall::counts().of(kind::blocked, why); }

thread_local int kept_by_kernel_thread = 0;

// A plain read that only another weft thread's write can end: without a takeover nobody would ever run again.
char read_plainly(const pipe_pair& from) {
  char c = 0;
  CHECK(::read(from[0], &c, 1) == 1);
  return c;
}

}  // namespace

TEST_CASE("a thread that waits in a plain read lets the one run that writes") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    const pipe_pair there{O_CLOEXEC};
    const pipe_pair back{O_CLOEXEC};
    weft::jthread echo([&] {
      for (int i = 0; i < 100; ++i) put(back[1], std::string(1, read_plainly(there)));
    });
    for (int i = 0; i < 100; ++i) {
      const char sent = static_cast<char>('a' + i % 26);
      put(there[1], std::string(1, sent));
      CHECK(read_plainly(back) == sent);
    }
    CHECK(blocked(cause::call) > 0);
    echo.join();
    CHECK(blocked(cause::call) == weft::upcall::counts().of(kind::unblocked, cause::call));
  });
}

TEST_CASE("no call is harmed in a thread's own code") {
  if (!all_code_works()) return skip(no_all_code);
  things t;
  // Not on a kernel thread on which a scheduler has ended: the kernel interrupts those once more (upcall/ring.hpp).
  std::async(std::launch::async, [&] {
    weft::run(all(), [&] {
      std::vector<call> calls = timed_calls(t);
      for (call& c : woken_calls(t)) calls.push_back(std::move(c));
      for (const call& c : calls) {
        if (c.name == "flock") CHECK(::flock(t.locked_too, LOCK_EX) == 0);
        weft::thread other([&] {
          if (c.meanwhile) c.meanwhile();
        });
        const long result = c.make();
        other.join();
        CHECK(c.name + " " + std::to_string(result) == c.name + " " + std::to_string(c.expected));
      }
    });
  }).get();
}

TEST_CASE("identity stays with the scheduler: errno, thread_local and pthread_self are the same wherever a thread goes on") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    kept_by_kernel_thread = 7;
    const pthread_t self = ::pthread_self();
    const int* const place = &kept_by_kernel_thread;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([&, i] {
        const timespec nap{0, 1'000'000 + i * 1000};
        for (int round = 0; round < 5; ++round) {
          errno = 1000 + i;
          CHECK(::nanosleep(&nap, nullptr) == 0);
          CHECK(errno == 1000 + i);
          CHECK(::pthread_equal(::pthread_self(), self) != 0);
          CHECK(&kept_by_kernel_thread == place);
        }
      });
    }
    for (weft::thread& t : threads) t.join();
    CHECK(kept_by_kernel_thread == 7);
  });
}

TEST_CASE("exceptions in flight belong to the thread that waits in their handlers") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    std::vector<weft::thread> threads;
    for (int i = 0; i < 20; ++i) {
      threads.emplace_back([i] {
        const timespec nap{0, 500'000 + i * 10'000};
        try {
          try {
            throw std::runtime_error(std::to_string(i));
          } catch (...) {
            CHECK(::nanosleep(&nap, nullptr) == 0);
            throw;
          }
        } catch (const std::runtime_error& e) {
          CHECK(e.what() == std::to_string(i));
        }
      });
    }
    for (weft::thread& t : threads) t.join();
    CHECK(std::uncaught_exceptions() == 0);
  });
}

TEST_CASE("a thread that waits inside stdio keeps the processor, because it holds the stream's lock") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    const pipe_pair pipe{O_CLOEXEC};
    FILE* const stream = ::fdopen(::dup(pipe[0]), "r");
    bool others_ran = false;
    weft::thread other([&] { others_ran = true; });
    std::thread writer([&] {  // no weft thread could
      nap();
      nap();
      put(pipe[1], "x");
    });
    CHECK(std::fgetc(stream) == 'x');
    CHECK(!others_ran);
    writer.join();
    other.join();
    std::fclose(stream);
  });
}

TEST_CASE("a region may wait anywhere, on a kernel thread and under an identity of its own") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    const pthread_t self = ::pthread_self();
    const pipe_pair pipe{O_CLOEXEC};
    weft::thread other([&] {
      const weft::thread::id me = weft::this_thread::get_id();
      weft::blocking([&] {
        CHECK(weft::in_blocking_region());
        CHECK(::pthread_equal(::pthread_self(), self) == 0);
        FILE* const stream = ::fdopen(::dup(pipe[0]), "r");
        CHECK(std::fgetc(stream) == 'x');
        weft::this_thread::yield();
        CHECK(weft::this_thread::get_id() == me);
        std::fclose(stream);
      });
      CHECK(!weft::in_blocking_region());
      CHECK(::pthread_equal(::pthread_self(), self) != 0);
    });
    weft::this_thread::yield();
    put(pipe[1], "x");
    other.join();
  });
}

TEST_CASE("cancellation, nesting and exceptions work in regions of threads in their own code") {
  if (!all_code_works()) return skip(no_all_code);
  weft::run(all(), [] {
    int ended = 0;
    weft::channel<int> entered;
    weft::thread asked([&] {
      try {
        weft::blocking([&] {
          weft::blocking([&] { entered.send(1); });
          nap();
        });
      } catch (const weft::cancelled&) {
        ended = 1;
        throw;
      }
    });
    CHECK(entered.receive() == 1);
    asked.request_cancel();
    asked.join();
    CHECK(ended == 1);
    CHECK_THROWS_AS(weft::blocking([] { throw std::runtime_error("out"); }), std::runtime_error);
    CHECK(weft::blocking([] { return 5; }) == 5);
  });
}

TEST_CASE("a page fault holds up its own thread only") {
  if (!all_code_works()) return skip(no_all_code);
  const int faults = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (faults < 0) return skip("userfaultfd is refused to this user");
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  uffdio_api api{UFFD_API, 0, 0};
  REQUIRE(::ioctl(faults, UFFDIO_API, &api) == 0);
  void* const memory = ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uffdio_register wanted{{reinterpret_cast<std::uintptr_t>(memory), page}, UFFDIO_REGISTER_MODE_MISSING, 0};
  REQUIRE(::ioctl(faults, UFFDIO_REGISTER, &wanted) == 0);
  weft::run(all(), [&] {
    weft::thread reader([&] { CHECK(static_cast<volatile char*>(memory)[10] == 'f'); });
    weft::this_thread::yield();  // it faults; only this thread can end that
    std::vector<char> content(page, 'f');
    uffdio_copy copy{reinterpret_cast<std::uintptr_t>(memory), reinterpret_cast<std::uintptr_t>(content.data()), page, 0, 0};
    CHECK(::ioctl(faults, UFFDIO_COPY, &copy) == 0);
    reader.join();
    CHECK(blocked(cause::page_fault) >= 1);
  });
  ::munmap(memory, page);
  ::close(faults);
}

TEST_CASE("where it is refused a sentence says so, and the same program runs to the same end") {
  if (all_code_works()) return skip("it is allowed here");
  const captured_errors errors;
  weft::run(all(), [] {
    const pipe_pair pipe{O_CLOEXEC};
    weft::thread reader([&] { CHECK(weft::blocking([&] { return read_plainly(pipe); }) == 'x'); });
    weft::this_thread::yield();
    put(pipe[1], "x");
    reader.join();
  });
  CHECK(errors.count("options::activations is all") == 1);
}
