// run-alone
// What threads cost in memory, as the kernel counts it.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "tests/skip.hpp"
#include "weft/nursery.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

// Bytes in a line "key:   123 kB" of a file in /proc/self.
std::size_t bytes(const char* file, std::string_view key) {
  std::ifstream in(std::string("/proc/self/") + file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key)) return std::stoul(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}
// Memory and the page tables for it. VmRSS would be cheaper and off by up to 64 pages per core.
std::size_t in_use() { return bytes("smaps_rollup", "Rss") + bytes("status", "VmPTE"); }

void run_and_end(int count) {
  for (int i = 0; i < count; ++i) {
    weft::thread t([] { weft::this_thread::yield(); });
    t.join();
  }
}

bool watched_by_a_sanitizer() { return std::string_view(WEFT_TEST_SANITIZER) != "none"; }

}  // namespace

TEST_CASE("a hundred thousand threads made and ended in a loop leave memory as it was") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer keeps memory of its own for every thread");
  simulate([] {
    run_and_end(1000);
    const std::size_t before = in_use();
    run_and_end(100'000);
    CHECK(in_use() <= before + 256 * 1024);
  });
}

TEST_CASE("crowds that come and go leave memory as it was") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer keeps memory of its own for every thread");
  simulate([] {
    const auto crowd = [] {
      std::vector<weft::thread> threads;
      for (int i = 0; i < 5000; ++i) threads.emplace_back([] { weft::this_thread::yield(); });
      for (auto& t : threads) t.join();
    };
    crowd();
    const std::size_t before = in_use();
    for (int i = 0; i < 20; ++i) crowd();
    CHECK(in_use() <= before + 256 * 1024);
  });
}

TEST_CASE("a nursery that lives long keeps nothing of the children that came and went") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer keeps memory of its own for every thread");
  simulate([] {
    weft::nursery n;
    const auto come_and_go = [&n](int crowds) {
      for (int i = 0; i < crowds; ++i) {
        for (int j = 0; j < 100; ++j) n.spawn([] { weft::this_thread::yield(); });
        while (n.size() != 0) weft::this_thread::yield();
      }
    };
    come_and_go(10);
    const std::size_t before = in_use();
    come_and_go(1'000);
    CHECK(in_use() <= before + 256 * 1024);
  });
}

TEST_CASE("a scheduler that idles gives back the stacks of a crowd that went home") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer keeps memory of its own for every thread");
  simulate([] {
    std::vector<weft::thread> threads;
    for (int i = 0; i < 20'000; ++i) threads.emplace_back([] { weft::this_thread::yield(); });
    for (auto& t : threads) t.join();
    const std::size_t before = in_use();
    for (int i = 0; i < 4; ++i) weft::this_thread::sleep_for(std::chrono::seconds(10));
    CHECK(in_use() + 15'000 * 4096 < before);
    weft::thread after([] {});
    after.join();
  });
}

TEST_CASE("a thread for which there is no address space is an error for its spawner, and the scheduler goes on") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer needs its address space");
  const auto end = in_child([] {
    simulate([] {
      weft::counting_semaphore<> hold(0);
      std::vector<weft::thread> threads;
      const rlimit little{bytes("status", "VmSize") + 256 * 1024 * 1024, RLIM_INFINITY};
      setrlimit(RLIMIT_AS, &little);
      std::string what;
      try {
        for (;;) threads.emplace_back([&] { hold.acquire(); });
      } catch (const std::system_error& error) {
        what = error.what();
      }
      if (what.find("RLIMIT_AS") == std::string::npos || threads.size() < 100) {
        std::fprintf(stderr, "%zu threads: %s", threads.size(), what.c_str());
        _exit(2);
      }
      weft::this_thread::yield();
      hold.release(static_cast<std::ptrdiff_t>(threads.size()));
      for (auto& t : threads) t.join();
      weft::thread again([] {});
      again.join();
    });
  });
  INFO(end.errors);
  CHECK(end.exited_with(0));
}

TEST_CASE("a parked thread on a 64 KiB stack with a guard costs at most 4,300 bytes") {
  if (watched_by_a_sanitizer()) return skip("the sanitizer keeps memory of its own for every thread");
  constexpr std::size_t count = 100'000;
  simulate([] {
    weft::counting_semaphore<> end(0);
    const std::size_t before = in_use();
    std::vector<weft::thread> threads;
    threads.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      threads.emplace_back(weft::attributes{.stack = 64 * 1024, .start = weft::start::now}, [&] { end.acquire(); });
    }
    const std::size_t each = (in_use() - before) / count;
    MESSAGE("bytes per parked thread: ", each);
    CHECK(each <= 4300);
    end.release(count);
    for (auto& t : threads) t.join();
  });
}
