// both-transfers every-privilege
// Calls that block, made inside regions, each while the processor is lent in place and while file operations of other threads
// are in flight: none may be harmed, whatever the scheduler does meanwhile. These are the calls that an interrupted kernel
// thread shows itself in: by EINTR, a short result or an early end.
#include <doctest/doctest.h>

#include <functional>
#include <future>
#include <string>
#include <vector>

#include "tests/blocking_calls.hpp"
#include "tests/engine_fixture.hpp"
#include "tests/io_fixture.hpp"
#include "weft/blocking.hpp"
#include "weft/file.hpp"
#include "weft/runtime.hpp"

namespace {

/// Threads that keep file operations in flight until told to stop.
class busy_files {
 public:
  explicit busy_files(const temporary_directory& place)
      : file_(place / "busy", weft::open_mode::read_write | weft::open_mode::create) {
    for (int i = 0; i < 4; ++i) {
      threads_.emplace_back([this] {
        static constexpr std::string_view block = "what is to reach the disk";
        while (!stop_) {
          file_.write_at(0, block);
          file_.sync();
        }
      });
    }
  }
  ~busy_files() {
    stop_ = true;
    for (weft::thread& t : threads_) t.join();
  }
  busy_files(const busy_files&) = delete;
  busy_files& operator=(const busy_files&) = delete;

 private:
  weft::file file_;
  bool stop_ = false;
  std::vector<weft::thread> threads_;
};

// Makes the call in a region while another thread's ordinary operations go on, and the one that ends it does so in a region too.
void check(const call& c) {
  weft::thread other([&] {
    if (c.meanwhile) weft::blocking([&] { c.meanwhile(); });
  });
  long result = 0;
  std::chrono::nanoseconds took{};
  weft::thread caller([&] {
    result = weft::blocking([&] {
      const auto before = std::chrono::steady_clock::now();
      const long r = c.make();
      took = std::chrono::steady_clock::now() - before;
      return r;
    });
  });
  caller.join();
  other.join();
  // The name is part of what is compared: doctest's CAPTURE belongs to a kernel thread.
  CHECK(c.name + " " + std::to_string(result) == c.name + " " + std::to_string(c.expected));
  const bool early = !c.meanwhile && took.count() < step_ns * 9 / 10;
  CHECK(c.name + (early ? " ended early" : "") == c.name);
}

void check_all(things& t) {
  for (const call& c : timed_calls(t)) check(c);
  for (const call& c : woken_calls(t)) {
    if (c.name == "flock") REQUIRE(::flock(t.locked_too, LOCK_EX) == 0);
    check(c);
  }
}

// On a kernel thread on which no scheduler has ended yet: the kernel interrupts those once more (upcall/ring.hpp).
template <class F>
void run_on_new_kernel_thread(F fn) {
  std::async(std::launch::async, [&] { weft::run(fn); }).get();
}

}  // namespace

TEST_CASE("no call is harmed in a region entered in place") {
  things t;
  run_on_new_kernel_thread([&] { check_all(t); });
}

TEST_CASE("no call is harmed in a region entered while file operations are in flight") {
  things t;
  run_on_new_kernel_thread([&] {
    const busy_files busy(t.place);
    check_all(t);
  });
}

TEST_CASE("neither the start of a scheduler nor a probe ends a plain wait on its kernel thread") {
  things t;
  constexpr int long_enough_ms = 100;  // the kernel lets 15 to 35 pass
  const auto plain_wait = [&t] {
    epoll_event e{};
    return outcome(::epoll_wait(t.set, &e, 1, long_enough_ms));
  };
  run_on_new_kernel_thread([&] { CHECK(plain_wait() == 0); });
  run_on_new_kernel_thread([&] {
    static_cast<void>(weft::probe());
    CHECK(plain_wait() == 0);
  });
}

TEST_CASE(
    "a region entered while the ring has operations in flight is carried to another kernel thread, and the ring's come back") {
  temporary_directory place;
  weft::run([&] {
    const busy_files busy(place);
    const auto kernel_thread = [] { return ::syscall(SYS_gettid); };
    int carried = 0;
    constexpr int most = 2000;
    for (int i = 0; i < most && carried < 20; ++i) {
      weft::this_thread::yield();
      const long before = kernel_thread();
      if (weft::blocking(kernel_thread) != before) ++carried;
    }
    const bool has_ring = weft::probe().transfer == weft::upcall::transfer::ring;
    CHECK((carried > 0 || !has_ring));
  });
}
