// both-transfers
// Thread dumps: what people read when their program does not do what they expected.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/report_test.hpp"
#include "weft/channel.hpp"
#include "weft/io.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

// The part of a dump about one thread: its line and its backtrace.
std::string section(const std::string& dump, std::string_view name) {
  const std::size_t found = dump.find("\"" + std::string(name) + "\"");
  const std::size_t begin = found == std::string::npos ? found : dump.rfind('\n', found) + 1;
  if (begin == std::string::npos) return {};
  std::size_t end = dump.find('\n', found);
  while (end != std::string::npos && dump.compare(end, 4, "\n  #") == 0) end = dump.find('\n', end + 1);
  return dump.substr(begin, end - begin);
}

std::string hex(const void* address) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%lx", static_cast<unsigned long>(reinterpret_cast<std::uintptr_t>(address)));
  return text;
}

void let_others_run() {
  for (int i = 0; i < 4; ++i) weft::this_thread::yield();
}

}  // namespace

extern "C" {
[[gnu::noinline]] void asks_for_a_dump(std::string& dump) {
  dump = weft::dump_threads();
  asm volatile("" ::: "memory");
}
}

TEST_CASE("a dump tells each thread's number, name, state and what it waits for") {
  std::string dump;
  std::string mutex_address;
  weft::run([&] {
    weft::mutex m;
    mutex_address = hex(&m);
    m.lock();
    weft::channel<int> silent(0);
    weft::jthread locker({.name = "locker"}, [&] { std::lock_guard lock(m); });
    weft::jthread reader({.name = "reader"}, [&] { calls_one_that_parks(silent); });
    weft::jthread sleeper({.name = "sleeper"}, [] { weft::this_thread::sleep_for(24h); });
    weft::thread target({.name = "target"}, [&] { static_cast<void>(silent.receive()); });
    weft::jthread joiner({.name = "joiner"}, [&] { target.join(); });
    weft::jthread patient({.name = "patient"}, [&] { static_cast<void>(silent.receive_for(24h)); });
    weft::jthread ended({.name = "ended"}, [] {});
    let_others_run();
    weft::jthread fresh({.name = "fresh"}, [] {});
    asks_for_a_dump(dump);
    m.unlock();
    silent.close();
    sleeper.request_cancel();
  });
  INFO(dump);
  CHECK(contains(dump, "scheduler \"weft\": 9 threads: 1 created, 1 running, 6 parked, 1 finished\n"));
  CHECK(contains(dump, "thread 2 \"locker\" parked in mutex " + mutex_address + " held by thread 1 \"main\"\n"));
  CHECK(contains(dump, "thread 3 \"reader\" parked in channel receive 0x"));
  CHECK(contains(dump, "thread 4 \"sleeper\" parked in sleep\n"));
  CHECK(contains(dump, "thread 6 \"joiner\" parked in join of thread 5 \"target\"\n"));
  CHECK(contains(section(dump, "patient"), ", with a deadline"));
  CHECK(contains(dump, "thread 8 has ended and waits to be joined\n"));
  CHECK(contains(dump, "thread 9 \"fresh\" has not run yet"));
}

TEST_CASE("backtraces lead from the place of the wait to the thread's beginning, and those of the caller begin at the dump") {
  std::string dump;
  weft::run([&] {
    weft::channel<int> silent(0);
    weft::jthread reader({.name = "reader"}, [&] { calls_one_that_parks(silent); });
    let_others_run();
    asks_for_a_dump(dump);
    silent.close();
  });
  INFO(dump);
  const std::string reader = section(dump, "reader");
  CHECK_FALSE(contains(reader, "weft::detail::park"));  // how the scheduler does it is not the reader's business
  CHECK(contains(reader, " parks_in_a_channel+0x"));
  CHECK(contains(reader, " calls_one_that_parks+0x"));
  CHECK(contains(reader, "weft::sched::scheduler::thread_main()+0x"));
  CHECK(contains(reader, "(report_test)"));
  CHECK(reader.find("parks_in_a_channel") < reader.find("calls_one_that_parks"));
  const std::string main = section(dump, "main");
  CHECK(contains(main, "#0  0x"));
  CHECK(main.find("weft::dump_threads") < main.find("\n  #1 "));
  CHECK(contains(main, " asks_for_a_dump+0x"));
  CHECK_FALSE(contains(dump, " _Z"));  // every name can be read
}

TEST_CASE("a thread that waits in a catch block has a backtrace, and keeps its exception") {
  std::string dump;
  std::string caught;
  weft::run([&] {
    weft::channel<int> silent(0);
    weft::jthread handler({.name = "handler"}, [&] {
      try {
        try {
          throw std::runtime_error("first");
        } catch (const std::runtime_error&) {
          calls_one_that_parks(silent);
          throw;
        }
      } catch (const std::exception& e) {
        caught = e.what();
      }
    });
    let_others_run();
    try {
      throw std::logic_error("of another thread");
    } catch (const std::logic_error&) {
      dump = weft::dump_threads();
      silent.close();
      let_others_run();
    }
  });
  CHECK(contains(section(dump, "handler"), " calls_one_that_parks+0x"));
  CHECK(caught == "first");
}

TEST_CASE("a thread in the kernel is reported with the operation and its descriptor") {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  std::string dump;
  weft::run([&] {
    weft::jthread reader({.name = "reader"}, [&] {
      std::byte buffer[1];
      static_cast<void>(weft::io::read(ends[0], buffer));
    });
    let_others_run();
    dump = weft::dump_threads();
    reader.request_cancel();
  });
  close(ends[0]);
  close(ends[1]);
  INFO(dump);
  CHECK(contains(dump, "thread 2 \"reader\" in kernel: read of descriptor " + std::to_string(ends[0]) + "\n"));
}

TEST_CASE("who waits for a mutex that was handed on is reported with its present owner") {
  std::string dump;
  weft::run([&] {
    weft::mutex m;
    m.lock();
    weft::channel<int> silent(0);
    weft::jthread second({.name = "second"}, [&] {
      std::lock_guard lock(m);
      static_cast<void>(silent.receive());
    });
    weft::jthread third({.name = "third"}, [&] { std::lock_guard lock(m); });
    let_others_run();
    m.unlock();
    let_others_run();
    dump = weft::dump_threads();
    silent.close();
  });
  CHECK(contains(section(dump, "third"), " held by thread 2 \"second\""));
}

TEST_CASE("more than a thousand threads are told in groups of those that are at the same place") {
  constexpr int count = 1500;
  std::string dump;
  weft::run([&] {
    weft::channel<int> silent(0);
    std::vector<weft::jthread> threads;
    for (int i = 0; i < count; ++i) threads.emplace_back([&] { calls_one_that_parks(silent); });
    let_others_run();
    dump = weft::dump_threads();
    silent.close();
  });
  INFO(dump);
  CHECK(contains(dump, "1500 threads parked in channel receive (2, 3, 4, "));
  CHECK(contains(dump, "1 thread running (1)\n"));
  CHECK(contains(dump, " calls_one_that_parks+0x"));
  CHECK(dump.size() < 20'000);
}
