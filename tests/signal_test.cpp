// both-transfers
// Signals in mid-run lose nothing: timers that interrupt every wait, children that end, a process stopped and continued.
#include <doctest/doctest.h>

#include <sched.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "weft/channel.hpp"
#include "weft/net.hpp"
#include "weft/process.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace {

volatile std::sig_atomic_t alarms = 0;

// SIGALRM every 200 µs without SA_RESTART, as long as it lives: every wait is interrupted again and again.
class storm_of_signals {
 public:
  storm_of_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { alarms = alarms + 1; };
    sigaction(SIGALRM, &action, &before_);
    const itimerval often{{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~storm_of_signals() {
    const itimerval off{};
    setitimer(ITIMER_REAL, &off, nullptr);
    sigaction(SIGALRM, &before_, nullptr);
  }
  storm_of_signals(const storm_of_signals&) = delete;
  storm_of_signals& operator=(const storm_of_signals&) = delete;

 private:
  struct sigaction before_ {};
};

// Sends `rounds` numbered messages through a Unix socket pair and back; returns their sum as it came back.
std::uint64_t echo_numbers(int rounds) {
  auto [near, far] = weft::net::unix_stream::pair();
  weft::thread echo([&far = far, rounds] {
    for (int i = 0; i < rounds; ++i) {
      std::uint64_t value = 0;
      far.read_exactly(weft::io::buffer(&value, sizeof value));
      far.write_all(weft::io::const_buffer(&value, sizeof value));
    }
  });
  std::uint64_t sum = 0;
  for (int i = 1; i <= rounds; ++i) {
    const std::uint64_t value = static_cast<std::uint64_t>(i);
    near.write_all(weft::io::const_buffer(&value, sizeof value));
    std::uint64_t back = 0;
    near.read_exactly(weft::io::buffer(&back, sizeof back));
    sum += back;
  }
  echo.join();
  return sum;
}

std::uint64_t eight_echoes(int rounds) {
  std::uint64_t sum = 0;
  std::vector<weft::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { sum += echo_numbers(rounds); });
  }
  for (auto& t : threads) t.join();
  return sum;
}

}  // namespace

TEST_CASE("no operation ends early or twice in a storm of signals") {
  const storm_of_signals storm;
  weft::run([] {
    for (int round = 0; round < 20 || alarms < 20; ++round) {
      const auto start = weft::clock::now();
      weft::this_thread::sleep_for(std::chrono::milliseconds(2));
      CHECK(weft::clock::now() - start >= std::chrono::milliseconds(2));
      CHECK(eight_echoes(50) == 8ULL * 50 * 51 / 2);
    }
  });
  CHECK(alarms >= 20);
}

TEST_CASE("children that end in mid-run disturb nobody, whatever the program does with SIGCHLD") {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {};
  sigaction(SIGCHLD, &action, &before);
  weft::run([] {
    weft::thread echoes([] { CHECK(eight_echoes(200) == 8ULL * 200 * 201 / 2); });
    std::vector<weft::thread> waits;
    for (int i = 0; i < 10; ++i) {
      waits.emplace_back([] { CHECK(weft::process::spawn({"true"}).wait().success()); });
    }
    for (auto& t : waits) t.join();
    echoes.join();
  });
  sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("a process that is stopped and continued goes on where it was") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const std::uint64_t sum = weft::run([] { return eight_echoes(3000); });
    _exit(sum == 8ULL * 3000 * 3001 / 2 ? 0 : 1);
  }
  int status = 0;
  int stops = 0;
  for (; stops < 40; ++stops) {
    kill(child, SIGSTOP);
    if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) break;
    kill(child, SIGCONT);
    for (int i = 0; i < 200; ++i) sched_yield();
  }
  if (!WIFEXITED(status)) waitpid(child, &status, 0);
  CHECK(stops > 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("Ctrl-C ends a program that does not handle it") {
  const auto plain = in_child([] {
    weft::run([] {
      weft::thread([] { raise(SIGINT); }).join();
      weft::this_thread::sleep_for(std::chrono::hours(1));
    });
  });
  CHECK(plain.killed_by(SIGINT));
}

TEST_CASE("Ctrl-C reaches a program that waits for it on a kernel thread") {
  if (std::string_view(WEFT_TEST_SANITIZER) == "thread") return skip("ThreadSanitizer allows no new threads in a forked child");
  const auto handled = in_child([] {
    static weft::poster way;
    weft::run([] {
      weft::channel<int> stop;
      way = weft::make_poster();
      // What a handler may do is little; a kernel thread that waits for the signal may do anything.
      sigset_t interrupt;
      sigemptyset(&interrupt);
      sigaddset(&interrupt, SIGINT);
      pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
      std::thread waits([&] {
        int signal = 0;
        sigwait(&interrupt, &signal);
        way.post([&stop, signal] { stop.send(signal); });
      });
      kill(getpid(), SIGINT);
      if (stop.receive() == SIGINT) _exit(7);
    });
  });
  CHECK(handled.exited_with(7));
}
