// A thread that keeps the processor is reported: with its name, where it is, and once for each place.
#include <doctest/doctest.h>

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <chrono>
#include <string>
#include <system_error>

#include "tests/captured_errors.hpp"
#include "weft/blocking.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

weft::options reporting() {
  weft::options how;
  how.stall_report = 20ms;
  return how;
}

volatile double sink = 1;

// Inlined always: a place is a function, and these are to be told apart.
[[gnu::always_inline]] inline void compute(int rounds) {
  for (int i = 0; i < rounds; ++i) sink = sink * 1.0000001;
}

}  // namespace

// Functions that a backtrace must name. They end when something was reported, however long that takes. A stall may be seen in a
// function that they call, and be passed over because that was reported before: so they begin a new one now and then.
extern "C" {
[[gnu::noinline]] void computes_without_end(const captured_errors& errors) {
  for (const std::size_t before = errors.size(); errors.size() == before; weft::this_thread::yield()) {
    for (int i = 0; i < 1000 && errors.size() == before; ++i) compute(100'000);
  }
  asm volatile("" ::: "memory");
}
[[gnu::noinline]] void computes_elsewhere(const captured_errors& errors) {
  for (const std::size_t before = errors.size(); errors.size() == before; weft::this_thread::yield()) {
    for (int i = 0; i < 1001 && errors.size() == before; ++i) compute(100'001);
  }
  asm volatile("" ::: "memory");
}
[[gnu::noinline]] int naps_without_end(const captured_errors& errors) {
  const timespec nap{0, 150'000'000};
  int broken = 0;
  for (const std::size_t before = errors.size(); errors.size() == before;) broken += nanosleep(&nap, nullptr) != 0 ? 1 : 0;
  asm volatile("" ::: "memory");
  return broken;
}
}

TEST_CASE("a thread that computes for too long is reported with its name and where it is") {
  const captured_errors errors;
  weft::run(reporting(), [&] { weft::thread({.name = "crunch"}, [&] { computes_without_end(errors); }).join(); });
  const std::string text = errors.text();
  INFO(text);
  CHECK(text.find("thread 2 \"crunch\" has kept the processor for ") != std::string::npos);
  CHECK(text.find("computes_without_end") != std::string::npos);
}

TEST_CASE("a thread that waits in the kernel outside a region is reported with the call, and not disturbed") {
  const captured_errors errors;
  int broken = 0;
  weft::run(reporting(), [&] { weft::thread({.name = "naps"}, [&] { broken = naps_without_end(errors); }).join(); });
  const std::string text = errors.text();
  INFO(text);
  CHECK(broken == 0);
  CHECK(text.find("thread 2 \"naps\" has kept the processor for ") != std::string::npos);
  CHECK(text.find(", waiting in ") != std::string::npos);
  CHECK(text.find("clock_nanosleep") != std::string::npos);
  CHECK(text.find("naps_without_end") != std::string::npos);
}

TEST_CASE("a stall in a region that could not be lent is reported too") {
  const captured_errors errors;
  weft::options alone = reporting();
  alone.max_activations = 1;
  int broken = 0;
  weft::run(alone, [&] { weft::blocking([&] { broken = naps_without_end(errors); }); });
  CHECK(broken == 0);
  CHECK(errors.count("has kept the processor") == 1);
  CHECK(errors.count(", waiting in ") == 1);
}

TEST_CASE("each place is reported once") {
  const captured_errors errors;
  weft::run(reporting(), [&] {
    computes_without_end(errors);
    weft::this_thread::yield();
    for (int i = 0; i < 3; ++i) {
      const auto end = weft::clock::now() + 100ms;
      weft::thread([&] {
        while (weft::clock::now() < end) compute(1000);
      }).join();
    }
    computes_elsewhere(errors);
    weft::this_thread::yield();
  });
  const std::string text = errors.text();
  INFO(text);
  CHECK(errors.count("computes_without_end") == 1);
}

TEST_CASE("a region, a sleep and an idle scheduler are no stalls") {
  const captured_errors errors;
  weft::run(reporting(), [] {
    weft::this_thread::sleep_for(200ms);
    const timespec nap{0, 200'000'000};
    weft::blocking([&] { CHECK(nanosleep(&nap, nullptr) == 0); });
    weft::this_thread::sleep_for(600ms);
  });
  CHECK(errors.text() == "");
}

TEST_CASE("WEFT_STALL asks for reports") {
  const captured_errors errors;
  setenv("WEFT_STALL", "20", 1);
  weft::run([&] { computes_without_end(errors); });
  unsetenv("WEFT_STALL");
  CHECK(errors.count("thread 1 \"main\" has kept the processor") == 1);
}

TEST_CASE("a signal that the program handles is refused") {
  struct sigaction own {};
  struct sigaction before {};
  own.sa_handler = [](int) {};
  sigaction(SIGUSR2, &own, &before);
  weft::options how = reporting();
  how.preemption_signal = SIGUSR2;
  CHECK_THROWS_AS(weft::run(how, [] {}), std::system_error);
  sigaction(SIGUSR2, &before, nullptr);
  how.preemption_signal = SIGKILL;
  CHECK_THROWS_AS(weft::run(how, [] {}), std::system_error);
  how.preemption_signal = 12345;
  CHECK_THROWS_AS(weft::run(how, [] {}), std::system_error);
}
