// every-privilege
// Threads with time slices take turns; those without, and those that hold ticks off, are left alone.
#include <doctest/doctest.h>

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/trace.hpp"

using namespace std::chrono_literals;

namespace {

constexpr weft::attributes with_slices{.name = "crunch", .time_slice = true};

// Threads that compute until it is their turn, round after round: without preemption the first never ends.
void take_turns(int threads, int rounds) {
  std::atomic<int> turn{0};
  std::vector<weft::thread> all;
  for (int i = 0; i < threads; ++i) {
    all.emplace_back(with_slices, [&, i] {
      for (int round = 0; round < rounds; ++round) {
        while (turn.load(std::memory_order_relaxed) != round * threads + i) compute(100);
        turn.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (weft::thread& t : all) t.join();
  CHECK(turn == threads * rounds);
}

// One that counts for as long as it exists, whenever it is given the processor.
class counter {
 public:
  counter()
      : thread_(with_slices, [this] {
          while (!over_.load(std::memory_order_relaxed)) {
            count_.fetch_add(1, std::memory_order_relaxed);
            compute(100);
          }
        }) {}
  ~counter() {
    over_ = true;
    thread_.join();
  }
  counter(const counter&) = delete;
  counter& operator=(const counter&) = delete;
  [[nodiscard]] long now() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> over_{false};
  std::atomic<long> count_{0};
  weft::thread thread_;
};

std::atomic<int> signals_seen{0};

class signal_handler {
 public:
  explicit signal_handler(int signal) : signal_(signal) {
    struct sigaction own {};
    own.sa_handler = [](int) { signals_seen.fetch_add(1, std::memory_order_relaxed); };
    sigaction(signal, &own, &before_);
    signals_seen = 0;
  }
  ~signal_handler() { sigaction(signal_, &before_, nullptr); }
  signal_handler(const signal_handler&) = delete;
  signal_handler& operator=(const signal_handler&) = delete;

 private:
  int signal_;
  struct sigaction before_ {};
};

}  // namespace

// The first case, because what ends the ticks is registered by the first thread with time slices.
TEST_CASE("no thread is preempted while the program exits") {
  if (!no_slices().empty()) return skip(no_slices());
  static std::atomic<long> ran{0};
  const child_end end = in_child([] {
    std::atexit([] {
      const long before = ran;
      compute_for(several_slices);
      _exit(ran == before ? 7 : 8);
    });
    weft::run(sliced(), [] {
      weft::thread other(with_slices, [] {
        for (;; ++ran) compute(1000);
      });
      weft::this_thread::set_time_slice(true);
      while (ran == 0) compute(1000);
      std::exit(0);
    });
  });
  CHECK(end.exited_with(7));
}

TEST_CASE("computing threads with time slices take turns") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(1ms), [] {
    take_turns(3, 10);
    CHECK(preemptions() > 0);
  });
}

TEST_CASE("a computing thread with time slices lets timers, I/O and other threads run") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(), [] {
    counter crunch;
    for (int i = 0; i < 5; ++i) weft::this_thread::sleep_for(100us);
    pipe_of_two p;
    weft::thread reader([&] { CHECK(read_text(p.reader) == "word"); });
    let_others_wait();
    CHECK(weft::io::write(p.writer, std::string("word")) == 4);
    reader.join();
    weft::channel<int> numbers;
    weft::thread sender([&] {
      for (int i = 0; i < 10; ++i) numbers.send(i);
    });
    for (int i = 0; i < 10; ++i) CHECK(numbers.receive() == i);
    sender.join();
    CHECK(crunch.now() > 0);
  });
}

TEST_CASE("a thread that did not ask for time slices is never preempted") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(), [] {
    counter crunch;
    weft::this_thread::yield();
    const long before = crunch.now();
    const std::uint64_t preempted = preemptions();
    compute_for(several_slices);
    CHECK(crunch.now() == before);
    CHECK(preemptions() == preempted);
  });
}

TEST_CASE("without options::time_slice nobody is preempted, whatever a thread asks for") {
  weft::run([] {
    std::atomic<bool> ran{false};
    weft::thread asks(with_slices, [&] {
      weft::this_thread::set_time_slice(true);
      compute_for(several_slices);
      CHECK(!ran);
    });
    weft::thread other([&] { ran = true; });
    asks.join();
    other.join();
    CHECK(preemptions() == 0);
  });
}

TEST_CASE("no_preemption holds ticks off, nested and across calls of weft") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    counter crunch;
    weft::mutex free;
    weft::thread(with_slices, [&] {
      {
        const weft::no_preemption outer;
        const long before = crunch.now();
        { const weft::no_preemption inner; }
        for (int i = 0; i < 100; ++i) {
          compute_for(several_slices / 100);
          const std::lock_guard hold(free);
        }
        wrong.unless(crunch.now() == before);
      }
      for (const long before = crunch.now(); crunch.now() == before;) compute(1000);
    }).join();
  });
  CHECK(wrong.count() == 0);
}

TEST_CASE("no_preemption off a weft thread does nothing") { const weft::no_preemption here; }

TEST_CASE("a thread turns its time slices on and off") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(), [] {
    counter crunch;
    for (int i = 0; i < 3; ++i) {
      weft::this_thread::set_time_slice(true);
      for (const long before = crunch.now(); crunch.now() == before;) compute(1000);
      weft::this_thread::set_time_slice(false);
      const long before = crunch.now();
      compute_for(several_slices / 3);
      CHECK(crunch.now() == before);
    }
  });
}

TEST_CASE("a time slice below 100 microseconds is an error") {
  for (const auto slice : {99us, 1us, -1us}) {
    const failure f = failure_of([&] {
      weft::run(sliced(slice), [] {});
      return 0;
    });
    CHECK(f.code == std::errc::invalid_argument);
    CHECK(f.says("options::time_slice is shorter than 100 µs"));
  }
}

TEST_CASE("a signal that the program handles is an error for the one who spawns, and nothing is lost") {
  if (!no_slices().empty()) return skip(no_slices());
  const signal_handler own(SIGUSR2);
  weft::options how = sliced();
  how.preemption_signal = SIGUSR2;
  how.max_threads = 2;
  weft::run(how, [] {
    for (int i = 0; i < 10; ++i) {
      const failure f = failure_of([&] {
        weft::thread(with_slices, [] {}).join();
        return 0;
      });
      CHECK(f.code == std::errc::device_or_resource_busy);
      CHECK(f.says("options::preemption_signal is "));
    }
    CHECK(failure_of([] {
            weft::this_thread::set_time_slice(true);
            return 0;
          }).code == std::errc::device_or_resource_busy);
    weft::thread([] {}).join();
  });
}

TEST_CASE("where the program handles SIGTRAP itself, ticks come from the CPU clock") {
  if (!no_slices().empty()) return skip(no_slices());
  const signal_handler own(SIGTRAP);
  weft::run(sliced(), [] { take_turns(2, 5); });
  CHECK(signals_seen == 0);
  raise(SIGTRAP);
  CHECK(signals_seen == 1);
}

TEST_CASE("ticks end with the scheduler, and leave the signal mask as it was") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::options how = sliced();
  how.preemption_signal = SIGRTMIN + 3;
  sigset_t both;
  sigset_t before;
  sigemptyset(&both);
  for (const int signal : {SIGTRAP, how.preemption_signal}) sigaddset(&both, signal);
  for (const int change : {SIG_BLOCK, SIG_UNBLOCK}) {
    pthread_sigmask(change, &both, &before);
    weft::run(how, [] { take_turns(2, 5); });
    sigset_t after;
    pthread_sigmask(SIG_UNBLOCK, &both, &after);
    CHECK(sigismember(&after, SIGTRAP) == (change == SIG_BLOCK ? 1 : 0));
    const signal_handler perf(SIGTRAP);
    const signal_handler timer(how.preemption_signal);
    compute_for(several_slices);
    CHECK(signals_seen == 0);
  }
}

TEST_CASE("tiny and small stacks have no room for a tick, and are left alone; deep ones are preempted") {
  if (!no_slices().empty()) return skip(no_slices());
  struct deep {
    static int sum(int depth) {
      std::array<volatile char, 512> frame{};
      compute(20'000);
      frame[0] = 1;
      return depth == 0 ? 0 : frame[0] + sum(depth - 1);
    }
  };
  mistakes wrong;
  weft::run(sliced(), [&] {
    counter crunch;
    weft::thread tiny({.stack = 4096, .tiny = true, .time_slice = true}, [&] { compute(50'000'000); });
    weft::thread small({.stack = 32 * 1024, .time_slice = true}, [&] { compute(50'000'000); });
    weft::thread big(with_slices, [&] {
      for (int i = 0; i < 10; ++i) wrong.unless(deep::sum(300) == 300);
    });
    for (weft::thread* t : {&tiny, &small, &big}) t->join();
    CHECK(preemptions() > 0);
  });
  CHECK(wrong.count() == 0);
}

TEST_CASE("a preempted thread is told of by an upcall with its number and cause") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(), [] {
    std::uint32_t number = 0;
    const weft::upcall::subscription news = weft::upcall::subscribe([&](std::span<const weft::upcall::event> batch) {
      for (const weft::upcall::event& e : batch) {
        if (e.what == weft::upcall::kind::preempted && e.why == weft::upcall::cause::time_slice) number = e.thread;
      }
    });
    std::atomic<bool> over{false};
    weft::thread crunch(with_slices, [&] {
      while (!over.load(std::memory_order_relaxed)) compute(1000);
    });
    while (number == 0) weft::this_thread::yield();
    over = true;
    CHECK(number == crunch.get_id().number());
    crunch.join();
  });
}

extern "C" {
[[gnu::noinline]] void computes_until(const std::atomic<bool>& over) {
  while (!over.load(std::memory_order_relaxed)) compute(1000);
  asm volatile("" ::: "memory");
}
}

TEST_CASE("the backtrace of a preempted thread begins in the code that was interrupted") {
  if (!no_slices().empty()) return skip(no_slices());
  weft::run(sliced(), [] {
    std::atomic<bool> over{false};
    weft::thread crunch(with_slices, [&] { computes_until(over); });
    while (preemptions() == 0) weft::this_thread::yield();
    const std::string text = weft::dump_threads();
    over = true;
    crunch.join();
    INFO(text);
    const std::size_t at = text.find("\"crunch\"");
    REQUIRE(at != std::string::npos);
    const std::size_t first = text.find("#0 ", at);
    REQUIRE(first != std::string::npos);
    CHECK(text.substr(first, text.find('\n', first) - first).find("computes_until") != std::string::npos);
    CHECK(text.find("thread_main", first) != std::string::npos);
  });
}
