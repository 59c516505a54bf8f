// both-transfers every-privilege
// Regions under torture, on the real kernel: threads that block in regions, call weft from inside, are cancelled, throw, fork
// and exec, beside timers, pipes and files. Two threads of one scheduler never run at once, no call is harmed, nothing is left
// open. Iterations are counted, never timed. WEFT_SEED=n repeats a choice of actions, not the kernel's timing.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"

using namespace std::chrono_literals;

namespace {

std::uint64_t seed() {
  const char* const given = std::getenv("WEFT_SEED");
  return given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Those of the kernel's own, for io_uring, end some seconds later.
std::size_t kernel_threads() {
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
  std::mutex plain;  // of kernel threads: its owner must never change its kernel thread inside a region
  int guarded = 0;
  weft::mutex mutex;
  weft::channel<int> channel{4};
  weft::file file{place / "file", weft::open_mode::read_write | weft::open_mode::create};

  void expect(bool right) {
    if (!right) harmed.fetch_add(1, std::memory_order_relaxed);
  }
};

/// One thread's choices.
class actor {
 public:
  actor(world& w, std::uint64_t number) : w_(w), random_(seed() * 1000 + number) {}

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
        w_.expect(w_.file.write_at(static_cast<off_t>(below(16) * block.size()), block) == block.size());
        return;
      }
      default:
        w_.expect(weft::blocking([&] { return region(); }) == 5);
    }
  }

  int region() {
    switch (below(9)) {
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
    w_.expect(::nanosleep(&t, nullptr) == 0);
  }

  void through_a_pipe() {
    int fd[2];
    w_.expect(::pipe2(fd, O_CLOEXEC) == 0);
    char c = 'p';
    w_.expect(::write(fd[1], &c, 1) == 1);
    nap(below(100));
    w_.expect(::read(fd[0], &c, 1) == 1 && c == 'p');
    ::close(fd[0]);
    ::close(fd[1]);
  }

  void under_a_plain_mutex() {
    const std::lock_guard hold(w_.plain);
    const int before = w_.guarded;
    nap(below(60));
    w_.expect(w_.guarded == before);
    w_.guarded = before + 1;
  }

  void under_a_file_lock() {
    const int fd = ::open((w_.place / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    w_.expect(fd >= 0 && ::flock(fd, LOCK_EX) == 0);
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
    w_.expect(::gettid() == before);
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
    w_.expect(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }

  world& w_;
  std::mt19937_64 random_;
};

void torture(const weft::options& how, int threads, int steps) {
  std::thread([] {}).join();  // a sanitizer starts a kernel thread of its own with the first
  const std::size_t open_before = open_descriptors();
  const std::size_t alive_before = kernel_threads();
  weft::run(how, [&] {
    world w;
    std::vector<weft::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back([&w, i, steps] { actor(w, static_cast<std::uint64_t>(i)).live(steps); });
    }
    for (std::size_t i = 0; i < all.size(); i += 7) {
      weft::this_thread::sleep_for(200us);
      all[i].request_cancel();
    }
    for (weft::thread& t : all) t.join();
    CHECK(w.collisions == 0);
    CHECK(w.harmed == 0);
    CHECK(w.inside == 0);
    using weft::upcall::cause;
    using weft::upcall::kind;
    const weft::upcall::tally counts = weft::upcall::counts();
    CHECK(counts.of(kind::blocked, cause::region) == counts.of(kind::unblocked, cause::region));
  });
  CHECK(open_descriptors() == open_before);
  // One that was joined may still be on its way out of the kernel.
  for (int looks = 0; looks < 100'000 && kernel_threads() != alive_before; ++looks) ::sched_yield();
  CHECK(kernel_threads() == alive_before);
}

}  // namespace

TEST_CASE("regions under torture harm no call, let no two threads run at once, and leave nothing behind") { torture({}, 40, 60); }

TEST_CASE("the same with few activations, so that regions queue for them") {
  weft::options few;
  few.max_activations = 3;
  few.switches_per_poll = 5;
  torture(few, 25, 40);
}
