// The rows of very many threads: sleeping, parked, and fanned out. Needs the `Library` of thread_rows.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

struct sleeper {
  std::chrono::milliseconds duration;
  std::int64_t late_ns;  // how long after its deadline it ran again; negative = woken early
};

/// Starts one thread per sleeper and waits until all of them have slept.
template <class Library> void sleep_all(std::vector<sleeper>& sleepers) {
  std::vector<typename Library::thread> threads;
  threads.reserve(sleepers.size());
  for (sleeper& each : sleepers) {
    threads.push_back(Library::spawn([&each] {
      const std::int64_t deadline = now_ns() + std::chrono::nanoseconds(each.duration).count();
      Library::sleep_for(each.duration);
      each.late_ns = now_ns() - deadline;
    }));
  }
  for (auto& thread : threads) thread.join();
}

/// CPU seconds for 100,000 threads that each sleep 1 to 1,000 ms, on stacks that were used once before. Prints the 99th
/// percentile of lateness in ms as the row sleep-100k-p99, and a warning if anyone woke early.
template <class Library> double sleep_many() {
  std::vector<sleeper> sleepers(100'000);
  random_sequence random;
  for (sleeper& each : sleepers) each.duration = std::chrono::milliseconds(1 + random.below(1000));
  sleep_all<Library>(sleepers);

  const double cpu_before = cpu_ns();
  sleep_all<Library>(sleepers);
  const double cpu_seconds = (cpu_ns() - cpu_before) * 1e-9;

  std::sort(sleepers.begin(), sleepers.end(), [](auto& a, auto& b) { return a.late_ns < b.late_ns; });
  const double earliest_ms = static_cast<double>(sleepers.front().late_ns) * 1e-6;
  if (earliest_ms < 0) std::fprintf(stderr, "woke a thread %.3f ms early\n", -earliest_ms);
  print_figure("sleep-100k-p99", static_cast<double>(sleepers[sleepers.size() * 99 / 100].late_ns) * 1e-6);
  return cpu_seconds;
}

/// Bytes of memory and page tables per thread, for a million threads made by `spawn` that wait for a condition that never
/// comes. The handles that this program keeps are not counted.
template <class Library, class Spawn> [[noreturn]] double parked_bytes(Spawn spawn) {
  constexpr long threads = 1'000'000;
  struct {
    typename Library::mutex mutex;
    typename Library::condition_variable never;
    long parked = 0;
  } shared;
  std::vector<typename Library::thread> handles(threads);

  const double before = memory_bytes();
  for (auto& handle : handles) {
    handle = spawn([&shared] {
      std::unique_lock lock(shared.mutex);
      ++shared.parked;
      for (;;) shared.never.wait(lock);
    });
    if ((&handle - handles.data()) % 1024 == 0) Library::yield();
  }
  while (shared.parked < threads) Library::yield();
  finish_row((memory_bytes() - before) / threads);
}

/// A number of leaves, and the channel to which their sum goes.
template <class Channel> struct skynet_branch {
  Channel* upward;
  std::uint64_t first_leaf;
  std::uint64_t leaves;
};

/// Sends the sum of the branch's leaves upward: its own number if it is one, else what ten children report, which `Start` starts.
template <class Library, class Start, class Channel> void skynet_grow(skynet_branch<Channel> branch) {
  constexpr std::size_t fan_out = 10;
  if (branch.leaves == 1) return branch.upward->send(branch.first_leaf);
  Channel reports(16);
  std::array<skynet_branch<Channel>, fan_out> parts;
  std::array<typename Library::thread, fan_out> children;
  for (std::size_t i = 0; i < fan_out; ++i) {
    const std::uint64_t leaves = branch.leaves / fan_out;
    parts[i] = {&reports, branch.first_leaf + i * leaves, leaves};
    children[i] = Start::spawn([&part = parts[i]] { skynet_grow<Library, Start>(part); });
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < fan_out; ++i) sum += reports.receive();
  for (auto& child : children) child.join();
  branch.upward->send(sum);
}

/// Children run before their parents go on, where the library offers that.
template <class Library> struct child_first {
  template <class Body> static auto spawn(Body body) { return Library::spawn_child_first(body); }
};

/// Parents go on, and children run when it is their turn.
template <class Library> struct child_later {
  template <class Body> static auto spawn(Body body) { return Library::spawn(body); }
};

/// ms for a tree of threads, ten children each, to add up the numbers of its million leaves.
template <class Library, class Start> double skynet() {
  using channel = typename Library::buffered;
  const auto most = static_cast<std::uint64_t>(at_most_asked_for(1'000'000));
  std::uint64_t leaves = 1;
  while (leaves * 10 <= most) leaves *= 10;
  channel total(16);
  const std::int64_t start = now_ns();
  skynet_grow<Library, Start>(skynet_branch<channel>{&total, 0, leaves});
  if (total.receive() != leaves * (leaves - 1) / 2) fail("the leaves do not add up");
  return static_cast<double>(now_ns() - start) * 1e-6;
}

template <class Library> std::vector<row> scale_rows() {
  return {
      {"sleep-100k", sleep_many<Library>},
      {"parked-1m", [] { return parked_bytes<Library>([](auto body) { return Library::spawn_fresh(body); }); }},
      {"skynet-1m", skynet<Library, child_first<Library>>},
      {"skynet-1m-later", skynet<Library, child_later<Library>>},
  };
}

}  // namespace bench
