// What threads under torture do: block, call weft, lock, throw, fork and exec, in marked regions or in their own code.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

inline std::uint64_t seed() {
  const char* const given = std::getenv("WEFT_SEED");
  return given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
}

inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Those of the kernel's own, for io_uring, end some seconds later.
inline std::size_t kernel_threads() {
  std::size_t count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (!name.starts_with("iou-")) ++count;
  }
  return count;
}

struct world {
  temporary_directory place;
  std::atomic<int> inside{0};
  std::atomic<int> collisions{0};
  std::atomic<int> harmed{0};
  std::atomic<const char*> first_harm{nullptr};
  int error_then = 0;
  std::mutex plain;  // of kernel threads: its owner must never change its kernel thread inside a region
  int guarded = 0;
  weft::mutex mutex;
  weft::channel<int> channel{4};
  weft::file file{place / "file", weft::open_mode::read_write | weft::open_mode::create};

  /// `what` went wrong unless `right`; the first one is kept for the report.
  void expect(bool right, const char* what) {
    if (right) return;
    const char* nothing = nullptr;
    if (first_harm.compare_exchange_strong(nothing, what)) error_then = errno;
    harmed.fetch_add(1, std::memory_order_relaxed);
  }
  [[nodiscard]] std::string harm() const {
    return harmed == 0 ? "none" : std::string(first_harm) + ", errno " + std::to_string(error_then);
  }
};

/// Which code of an actor is marked by weft::blocking. Without locks: none is held in unmarked code across a wait.
enum class marks : std::uint8_t { all, some, some_without_locks };

/// One thread's choices.
class actor {
 public:
  actor(world& w, std::uint64_t number, marks which = marks::all) : w_(w), which_(which), random_(seed() * 1000 + number) {}

  void live(int steps) {
    for (int i = 0; i < steps; ++i) {
      ordinary();
      try {
        act();
      } catch (const std::runtime_error&) {
        ordinary();
      }
    }
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  // What only one thread at a time may do, long enough to be met.
  void ordinary() {
    const weft::no_preemption here;
    if (w_.inside.exchange(1, std::memory_order_relaxed) != 0) w_.collisions.fetch_add(1, std::memory_order_relaxed);
    for (std::uint64_t i = below(200); i > 0; --i) asm volatile("" ::: "memory");
    w_.inside.store(0, std::memory_order_relaxed);
  }

  void act() {
    switch (below(12)) {
      case 0:
        return weft::this_thread::sleep_for(std::chrono::microseconds(below(300)));
      case 1:
        return weft::this_thread::yield();
      case 2: {
        const std::lock_guard hold(w_.mutex);
        return weft::this_thread::yield();
      }
      case 3: {
        std::array<char, 64> block{};
        w_.expect(w_.file.write_at(static_cast<off_t>(below(16) * block.size()), block) == block.size(), "write_at");
        return;
      }
      default:
        marked_ = which_ == marks::all || below(4) == 0;
        w_.expect(marked_ ? weft::blocking([&] { return region(); }) == 5 : region() == 5, "region");
    }
  }

  int region() {
    const std::uint64_t what = below(9);
    if (!marked_ && which_ == marks::some_without_locks && (what == 2 || what == 3)) return 5;
    switch (what) {
      case 0:
        nap(below(400));
        break;
      case 1:
        through_a_pipe();
        break;
      case 2:
        under_a_plain_mutex();
        break;
      case 3:
        under_a_file_lock();
        break;
      case 4:
        weft_calls();
        break;
      case 5:
        memory();
        break;
      case 6:
        nap(below(50));
        throw std::runtime_error("out of a region");
      case 7:
        if (below(8) == 0) run_a_program();
        break;
      default:
        break;
    }
    return 5;
  }

  void nap(std::uint64_t microseconds) {
    const timespec t{0, static_cast<long>(microseconds) * 1000};
    w_.expect(::nanosleep(&t, nullptr) == 0, "nanosleep");
    if (!marked_) ordinary();
  }

  void through_a_pipe() {
    int fd[2];
    w_.expect(::pipe2(fd, O_CLOEXEC) == 0, "pipe2");
    char c = 'p';
    w_.expect(::write(fd[1], &c, 1) == 1, "write");
    nap(below(100));
    w_.expect(::read(fd[0], &c, 1) == 1 && c == 'p', "read");
    ::close(fd[0]);
    ::close(fd[1]);
  }

  void under_a_plain_mutex() {
    const std::lock_guard hold(w_.plain);
    const int before = w_.guarded;
    nap(below(60));
    w_.expect(w_.guarded == before, "what the mutex guards");
    w_.guarded = before + 1;
  }

  void under_a_file_lock() {
    const int fd = ::open((w_.place / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    w_.expect(fd >= 0 && ::flock(fd, LOCK_EX) == 0, "flock");
    nap(below(60));
    ::close(fd);
  }

  void weft_calls() {
    const long before = ::gettid();
    errno = ERANGE;
    nap(below(60));
    int value = 1;
    static_cast<void>(w_.channel.try_send_for(value, 50us));
    static_cast<void>(w_.channel.receive_for(50us));
    {
      const std::lock_guard hold(w_.mutex);
      nap(below(30));
    }
    weft::this_thread::sleep_for(10us);
    w_.expect(!marked_ || ::gettid() == before, "gettid");
  }

  void memory() {
    std::vector<std::unique_ptr<char[]>> blocks;
    for (int i = 0; i < 20; ++i) blocks.push_back(std::make_unique<char[]>(16 + below(3000)));
    nap(below(30));
  }

  void run_a_program() {
    char name[] = "/bin/true";
    char* arguments[] = {name, nullptr};
    const pid_t child = ::fork();
    if (child == 0) {
      ::execv(name, arguments);
      ::_exit(1);
    }
    int status = -1;
    w_.expect(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "waitpid");
  }

  world& w_;
  marks which_;
  bool marked_ = true;  // what runs now is
  std::mt19937_64 random_;
};

/// Checks at its end that nothing was left behind since its beginning: descriptors, kernel threads.
class nothing_left {
 public:
  nothing_left() {
    std::thread([] {}).join();  // a sanitizer starts a kernel thread of its own with the first
    open_ = open_descriptors();
    alive_ = kernel_threads();
  }
  void check() const {
    CHECK(open_descriptors() == open_);
    // One that was joined may still be on its way out of the kernel.
    for (int looks = 0; looks < 100'000 && kernel_threads() != alive_; ++looks) ::sched_yield();
    CHECK(kernel_threads() == alive_);
  }

 private:
  std::size_t open_ = 0;
  std::size_t alive_ = 0;
};
