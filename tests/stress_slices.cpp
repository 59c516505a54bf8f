// both-transfers every-privilege
// Time slices under torture, on the real kernel: threads with them and without compute, lock, send, sleep, read and write, go
// into regions, throw, are cancelled, fork and exec, and spawn others that do. Two threads of one scheduler never run at once, no
// plain call ends early, nothing is wrong. Iterations are counted, never timed. WEFT_SEED=n repeats the choices, not the ticks.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/process.hpp"

using namespace std::chrono_literals;

namespace {

std::uint64_t seed() {
  const char* const given = std::getenv("WEFT_SEED");
  return given == nullptr ? 1 : std::strtoull(given, nullptr, 10);
}

struct world {
  temporary_directory place;
  mistakes harmed;
  mistakes collided;
  std::atomic<int> inside{0};
  std::shared_ptr<int> shared = std::make_shared<int>(5);
  weft::mutex mutex;
  int guarded = 0;
  weft::channel<int> channel{4};
  weft::file file{place / "file", weft::open_mode::read_write | weft::open_mode::create};
};

/// One thread's choices.
class actor {
 public:
  actor(world& w, std::uint64_t number) : w_(w), random_(seed() * 1'000'003 + number) {}

  void live(int steps) {
    for (int i = 0; i < steps; ++i) {
      alone();
      compute(static_cast<int>(below(60'000)));
      try {
        act();
      } catch (const std::runtime_error&) {
        compute(static_cast<int>(below(20'000)));
      }
      const std::shared_ptr<int> copy = w_.shared;
      compute(static_cast<int>(below(500)));
      w_.harmed.unless(*copy == 5);
    }
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  // What only one thread at a time may do; nobody else comes in between, because ticks are held off.
  void alone() {
    const weft::no_preemption whole;
    w_.collided.unless(w_.inside.exchange(1, std::memory_order_relaxed) == 0);
    compute(static_cast<int>(below(2000)));
    w_.inside.store(0, std::memory_order_relaxed);
  }

  void act() {
    switch (below(14)) {
      case 0:
        return weft::this_thread::sleep_for(std::chrono::microseconds(below(300)));
      case 1:
        return weft::this_thread::yield();
      case 2:
        return under_the_mutex();
      case 3:
        return with_the_file();
      case 4:
        return with_the_channel();
      case 5:
        return plain_calls();
      case 6:
        return with_a_child();
      case 7:
        compute(static_cast<int>(below(20'000)));
        throw std::runtime_error("out of the middle");
      case 8:
        if (below(6) == 0) run_a_program();
        return;
      case 9:
        return weft::this_thread::set_time_slice(below(4) != 0);
      case 10:
        return arithmetic();
      default:
        return w_.harmed.unless(weft::blocking([&] { return region(); }) == 5);
    }
  }

  void under_the_mutex() {
    const std::lock_guard hold(w_.mutex);
    const int before = w_.guarded;
    compute(static_cast<int>(below(30'000)));
    if (below(3) == 0) weft::this_thread::yield();
    w_.harmed.unless(w_.guarded == before);
    w_.guarded = before + 1;
  }

  void with_the_file() {
    std::array<char, 64> block{};
    w_.harmed.unless(w_.file.write_at(static_cast<off_t>(below(16) * block.size()), block) == block.size());
  }

  void with_the_channel() {
    int value = 1;
    static_cast<void>(w_.channel.try_send_for(value, 50us));
    static_cast<void>(w_.channel.receive_for(50us));
  }

  void plain_calls() {
    const timespec t{0, static_cast<long>(below(60'000))};
    w_.harmed.unless(::nanosleep(&t, nullptr) == 0);
    w_.harmed.unless(::poll(nullptr, 0, 0) == 0);
    errno = ERANGE;
    compute(static_cast<int>(below(30'000)));
    w_.harmed.unless(errno == ERANGE);
  }

  void with_a_child() {
    int result = 0;
    weft::thread child({.start = below(2) == 0 ? weft::start::now : weft::start::later, .time_slice = below(2) == 0}, [&] {
      compute(20'000);
      result = 7;
    });
    if (below(4) == 0) child.request_cancel();
    child.join();
    w_.harmed.unless(result == 7);
  }

  void arithmetic() {
    double x = 1;
    long double y = 1;
    for (std::uint64_t i = below(20'000); i > 0; --i) {
      x = x * 0.5 + 1;
      y = y * 0.5L + 1;
      asm volatile("" : "+m"(x), "+m"(y));
    }
    w_.harmed.unless(x >= 1 && x <= 2 && y >= 1 && y <= 2);
  }

  void run_a_program() {
    if (below(2) == 0) return w_.harmed.unless(weft::process::spawn({"/bin/true"}).wait().success());
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/true", "true", nullptr);
      ::_exit(1);
    }
    int status = -1;
    w_.harmed.unless(::waitpid(child, &status, 0) == child && status == 0);
  }

  int region() {
    const long before = ::gettid();
    const timespec t{0, static_cast<long>(below(100'000))};
    errno = EDOM;
    compute(static_cast<int>(below(20'000)));
    w_.harmed.unless(errno == EDOM);
    if (below(3) != 0) w_.harmed.unless(::nanosleep(&t, nullptr) == 0);
    if (below(3) == 0) weft::this_thread::sleep_for(10us);
    if (below(4) == 0) under_the_mutex();
    w_.harmed.unless(::gettid() == before && weft::in_blocking_region());
    if (below(5) == 0) throw std::runtime_error("out of a region");
    return 5;
  }

  world& w_;
  std::mt19937_64 random_;
};

void torture(const weft::options& how, int threads, int steps) {
  MESSAGE("WEFT_SEED=" << seed());
  weft::run(how, [&] {
    world w;
    std::atomic<bool> over{false};
    weft::thread cruncher({.time_slice = true}, [&] {
      while (!over.load(std::memory_order_relaxed)) compute(1000);
    });
    std::vector<weft::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back(weft::attributes{.time_slice = i % 3 != 0},
                       [&w, i, steps] { actor(w, static_cast<std::uint64_t>(i)).live(steps); });
    }
    for (std::size_t i = 0; i < all.size(); i += 5) {
      weft::this_thread::sleep_for(500us);
      all[i].request_cancel();
    }
    for (weft::thread& t : all) t.join();
    over = true;
    cruncher.join();
    CHECK(w.collided.count() == 0);
    CHECK(w.harmed.count() == 0);
    CHECK(w.shared.use_count() == 1);
    CHECK(preemptions() > 0);
    using weft::upcall::cause;
    using weft::upcall::kind;
    const weft::upcall::tally counts = weft::upcall::counts();
    CHECK(counts.of(kind::blocked, cause::region) == counts.of(kind::unblocked, cause::region));
  });
}

}  // namespace

TEST_CASE("time slices under torture break no call, let no two threads run at once, and get nothing wrong") {
  if (!no_slices().empty()) return skip(no_slices());
  torture(sliced(), 30, 300);
}

TEST_CASE("the same with few activations and long slices, so that regions queue for them") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::options few = sliced(1ms);
  few.max_activations = 3;
  few.switches_per_poll = 5;
  torture(few, 20, 200);
}

TEST_CASE("the same with one activation, where regions hold the processor") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::options alone = sliced();
  alone.max_activations = 1;
  torture(alone, 20, 200);
}
