// skynet: a million threads, each of which does next to nothing. What does it cost to have them?
//
// It shows: a tree of threads. Each starts ten more and adds up what they send it through a channel; those at the end of the
// tree send their own number. With the defaults that is a million threads that compute, and 111,110 that wait for them. By
// default a child runs at once and its parent goes on when it waits or ends (weft::start::now): so few are alive at a time, and
// one stack serves many. With --later a child runs when its turn comes (weft::start::later, as std::thread): then the whole
// tree is alive at once, and the memory it takes is printed.
//
//   build/release/demos/skynet [--later] [--width N] [--depth N]      --help tells the rest
//
// Source of the benchmark: A. Temerev, "skynet", 2016. Last line, for machines: sum=… threads=… alive_at_once=… peak_mib=…
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>
#include <weft/channel.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

#include "command_line.hpp"

namespace {

constexpr std::uint64_t most_leaves = 20'000'000;

constexpr std::string_view help =
    "Usage: skynet [--later] [--width N] [--depth N]\n"
    "\n"
    "Starts a tree of threads: each starts N more and adds up what they send, down to\n"
    "the last level, where each sends its number. Prints the sum and what it took.\n"
    "  --now       a child runs before its parent goes on; the default\n"
    "  --later     it runs when its turn comes: the whole tree is alive at once\n"
    "  --width N   children of each thread, 1 to 1000000; default 10\n"
    "  --depth N   levels below the first thread, 0 to 1000; default 6\n"
    "  --help      say this\n"
    "The last level may have 20000000 threads at most, and the tree twice as many.\n";

struct tree {
  std::uint64_t width = 10;
  std::uint64_t depth = 6;
  weft::start start = weft::start::now;
  std::uint64_t leaves = 1;   // on the last level
  std::uint64_t started = 0;  // threads so far
  std::uint64_t alive = 0;
  std::uint64_t most_alive = 0;
};

void measure(tree& t) {
  std::uint64_t all = 0;
  for (std::uint64_t level = 0; level < t.depth; ++level) {
    t.leaves *= t.width;
    all += t.leaves;
    if (t.leaves > most_leaves || all > 2 * most_leaves) {
      throw std::invalid_argument("a tree of width " + std::to_string(t.width) + " and depth " + std::to_string(t.depth) +
                                  " has too many threads: 20000000 on the last level and twice as many in all are the limit");
    }
  }
}

void count_one(tree& t) {
  ++t.started;
  t.most_alive = std::max(t.most_alive, ++t.alive);
}

// Sends to `parent` the sum of the numbers from `first` to `first + count - 1`.
void node(tree& t, weft::channel<std::uint64_t>& parent, std::uint64_t first, std::uint64_t count, std::uint64_t level) {
  if (level == t.depth) {
    parent.send(first);
  } else {
    weft::channel<std::uint64_t> sums(t.width);  // room for all: nobody waits to send
    const std::uint64_t each = count / t.width;
    std::vector<weft::thread> children;
    children.reserve(t.width);
    for (std::uint64_t i = 0; i < t.width; ++i) {
      count_one(t);
      children.emplace_back(weft::attributes{.start = t.start},
                            [&t, &sums, first, each, i, level] { node(t, sums, first + i * each, each, level + 1); });
    }
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < t.width; ++i) sum += sums.receive().value();
    for (weft::thread& child : children) child.join();
    parent.send(sum);
  }
  --t.alive;
}

// What the program had in memory at most. Of this program alone, as getrusage's figure is not.
long peak_mib() {
  std::ifstream status("/proc/self/status");
  long kib = 0;
  for (std::string word; status >> word;) {
    if (word == "VmHWM:") status >> kib;
  }
  return kib / 1024;
}

int grow(tree& t) {
  measure(t);
  const auto begin = weft::clock::now();
  const std::uint64_t sum = weft::run([&] {
    weft::channel<std::uint64_t> result(1);
    count_one(t);
    weft::thread root([&] { node(t, result, 0, t.leaves, 0); });
    const std::uint64_t got = result.receive().value();
    root.join();
    return got;
  });
  const std::chrono::duration<double, std::milli> took = weft::clock::now() - begin;
  const std::uint64_t right = t.leaves * (t.leaves - 1) / 2;
  const double each = 1e6 * took.count() / static_cast<double>(t.started);
  std::cout << "Threads: " << t.started << ", of which " << t.most_alive << " were alive at once.\n"
            << "They have added up the numbers from 0 to " << t.leaves - 1 << ": " << sum << ", which is "
            << (sum == right ? "right" : "WRONG") << ".\n"
            << std::fixed << std::setprecision(1) << "It took " << took.count() << " ms, " << std::setprecision(0) << each
            << " ns a thread, on one kernel thread,\nand " << peak_mib() << " MiB of memory at most.\n"
            << "sum=" << sum << " threads=" << t.started << " alive_at_once=" << t.most_alive << " peak_mib=" << peak_mib()
            << '\n';
  return sum == right ? 0 : 1;
}

int grow_as_asked(int argc, char** argv) {
  tree t;
  for (demo::arguments left(argc, argv); left.more();) {
    const std::string_view argument = left.next();
    if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    }
    if (argument == "--now" || argument == "--later") {
      t.start = argument == "--now" ? weft::start::now : weft::start::later;
    } else if (argument == "--width") {
      t.width = left.number(argument, 1, 1'000'000);
    } else if (argument == "--depth") {
      t.depth = left.number(argument, 0, 1000);
    } else {
      demo::refuse_argument(argument);
    }
  }
  return grow(t);
}

}  // namespace

int main(int argc, char** argv) {
  return demo::run_main("skynet", [&] { return grow_as_asked(argc, argv); });
}
