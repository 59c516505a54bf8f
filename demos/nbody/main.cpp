// nbody: figure 3 of the paper on scheduler activations, on this machine: how long a program takes, with less and less memory.
//
// It shows: the same N-body simulation (Barnes and Hut, O(N log N): a thread for every few bodies, a lock around every look at
// the tree) on kernel threads, on user-level threads without upcalls, and on user-level threads with them. As in the paper the
// program manages its memory itself, in a buffer cache, and a miss blocks the thread in the kernel. Kernel threads overlap
// their misses but are dear to start and to lock; user-level threads are cheap, but a miss that the scheduler does not hear of
// stops all of them; with weft::blocking around it, it stops only one. One core for all three; all must compute the same.
// Source: T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992, section 5.3 and figure 3.
//
//   build/release/demos/nbody [--quick] [FILE.svg]      --help tells the rest
//
// Last line, for machines: crossing=PERCENT kernel_ms=…/… plain_ms=…/… upcalls_ms=…/… (with most and with least memory)
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "plot.hpp"
#include "simulation.hpp"

namespace {

constexpr std::string_view help =
    "Usage: nbody [--quick] [--miss-us N] [FILE.svg]\n"
    "\n"
    "Runs an N-body simulation with less and less memory on kernel threads, on user-level threads\n"
    "without upcalls and on user-level threads with them, all on one core; prints a table and draws it.\n"
    "  FILE.svg      where the drawing goes; nbody.svg if not given\n"
    "  --miss-us N   a miss of the cache blocks its thread for N µs, from 1 to 1000000; 2000 if not given\n"
    "  --quick       a small simulation and three amounts of memory\n"
    "  --help        say this\n";

struct command_line {
  problem work;
  std::vector<int> percents{100, 90, 80, 70, 60, 50, 40};
  std::string file = "nbody.svg";
  bool help = false;
};

// One way to run it, and its line in the plot.
struct way {
  run_result (*run)(const problem&);
  curve drawn;
};
using ways = std::array<way, 3>;
enum : std::size_t { kernel_threads, without_upcalls, with_upcalls };

ways all_ways() {
  return {{{run_on_kernel_threads, {"kernel threads", "#666666", "square", {}}},
           {run_without_upcalls, {"weft, without upcalls: plain calls", "#d55e00", "triangle", {}}},
           {run_with_upcalls, {"weft, with upcalls: weft::blocking", "#0072b2", "circle", {}}}}};
}

// Throws when two runs did not compute the same, to the last bit.
void compare(const run_result& a, const run_result& b) {
  if (a.fingerprint != b.fingerprint) throw std::runtime_error("two runs computed different places for the bodies");
}

// Short runs are repeated, because a disturbance is large beside them: the shortest of up to three counts.
run_result run_well(const way& how, const problem& work) {
  run_result best = how.run(work);
  double spent = best.milliseconds;
  for (int more = 0; more < 2 && spent + best.milliseconds < 700; ++more) {
    const run_result again = how.run(work);
    compare(best, again);
    spent += again.milliseconds;
    if (again.milliseconds < best.milliseconds) best = again;
  }
  return best;
}

void print_head(const problem& work) {
  std::printf("%zu bodies, %d steps, a thread for every %zu bodies, %zu at once; a miss blocks for %.3g ms; one core.\n\n",
              work.bodies, work.steps, work.group, work.at_once, static_cast<double>(work.disk_time.count()) / 1e3);
  std::printf("          |    kernel threads      | weft, without upcalls  | weft, with upcalls\n");
  std::printf("  memory  |       time      misses |       time      misses |       time      misses\n");
  std::printf("----------+------------------------+------------------------+-----------------------\n");
}

void measure(const command_line& asked, ways& all) {
  problem work = asked.work;
  std::optional<run_result> first;
  for (const int percent : asked.percents) {
    work.memory_percent = static_cast<std::size_t>(percent);
    std::printf("  %4d %% ", percent);
    for (way& each : all) {
      const run_result made = run_well(each, work);
      if (!first) first = made;
      compare(*first, made);
      each.drawn.seconds.push_back(made.milliseconds / 1e3);
      std::printf(" | %8.1f ms %9llu  ", made.milliseconds, static_cast<unsigned long long>(made.misses));
      std::fflush(stdout);
    }
    std::printf("\n");
  }
}

bool upcalls_are_best(const ways& all) {
  constexpr double noise = 1.2;  // at 100 % nothing is missed, and the two programs are the same
  const std::vector<double>& ours = all[with_upcalls].drawn.seconds;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    if (ours[i] > noise * std::min(all[kernel_threads].drawn.seconds[i], all[without_upcalls].drawn.seconds[i])) return false;
  }
  return true;
}

void print_end(const ways& all, const std::optional<crossing>& crossed, const std::string& file) {
  if (crossed) {
    std::printf("\nWithout upcalls user-level threads become slower than kernel threads at %.0f %% of the memory",
                crossed->percent);
    std::printf(" (1991: between 50 and 40 %%).\n");
  } else {
    std::printf("\nWithout upcalls user-level threads did not become slower than kernel threads (1991: between 50 and 40 %%).\n");
  }
  std::printf("With upcalls they are %s. 1991, from 100 to 40 %%: kernel threads 20 to 70 s, without\n",
              upcalls_are_best(all) ? "the fastest everywhere, or as fast" : "not the fastest everywhere in this run");
  std::printf("upcalls 10 to 96 s, with upcalls 9 to 52 s. All runs computed the same. Drawn in %s\n\n", file.c_str());
  std::printf("crossing=%s", crossed ? std::to_string(static_cast<int>(crossed->percent + 0.5)).c_str() : "none");
  constexpr std::array names{"kernel_ms", "plain_ms", "upcalls_ms"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::printf(" %s=%.1f/%.1f", names[i], all[i].drawn.seconds.front() * 1e3, all[i].drawn.seconds.back() * 1e3);
  }
  std::printf("\n");
}

// As nothing runs in parallel, what is compared is how threads wait, not how many cores they use.
void stay_on_one_core() {
  const int core = ::sched_getcpu();
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (core >= 0) CPU_SET(static_cast<unsigned>(core), &cores);
  if (core < 0 || ::sched_setaffinity(0, sizeof cores, &cores) != 0) {
    throw std::system_error(errno, std::generic_category(), "cannot stay on one core");
  }
}

std::ofstream open_file(const std::string& path) {
  std::ofstream out(path);
  if (!out) throw std::system_error(errno, std::generic_category(), "cannot write " + path);
  return out;
}

void run_all(const command_line& asked) {
  std::ofstream file = open_file(asked.file);  // before all the work
  stay_on_one_core();
  print_head(asked.work);
  ways all = all_ways();
  measure(asked, all);
  const auto crossed = find_crossing(asked.percents, all[without_upcalls].drawn, all[kernel_threads].drawn);
  const double miss = static_cast<double>(asked.work.disk_time.count()) / 1e3;
  plot drawn{"N-body: execution time against available memory", {}, asked.percents, {}, crossed};
  drawn.subtitle = std::to_string(asked.work.bodies) + " bodies, Barnes–Hut, one core; a miss of the buffer cache blocks for " +
                   std::to_string(miss).substr(0, std::to_string(miss).find('.') + 2) + " ms";
  for (way& each : all) drawn.curves.push_back(each.drawn);
  write_svg(file, drawn);
  if (!file.flush()) throw std::runtime_error("cannot write " + asked.file);
  print_end(all, crossed, asked.file);
}

int number_after(std::string_view option, const char* text, int most) {
  int value = 0;
  const std::string_view all = text == nullptr ? "" : text;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), value);
  if (all.empty() || error != std::errc{} || end != all.data() + all.size() || value < 1 || value > most) {
    throw std::invalid_argument(std::string(option) + " wants a number from 1 to " + std::to_string(most) + ", not \"" +
                                std::string(all) + "\"");
  }
  return value;
}

command_line parse(int argc, char** argv) {
  command_line asked;
  bool named = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h") {
      asked.help = true;
    } else if (argument == "--quick") {
      asked.work.bodies = 2000;
      asked.work.pages = 24;
      asked.work.steps = 2;
      asked.percents = {100, 80, 60};
    } else if (argument == "--miss-us") {
      asked.work.disk_time = std::chrono::microseconds(number_after(argument, argv[++i], 1'000'000));
    } else if (argument.starts_with('-') || named || argument.empty()) {
      throw std::invalid_argument("it knows --quick, --miss-us N, --help and one file, not \"" + std::string(argument) + "\"");
    } else {
      asked.file = argument;
      named = true;
    }
  }
  return asked;
}

}  // namespace

int main(int argc, char** argv) try {
  const command_line asked = parse(argc, argv);
  if (asked.help) {
    std::cout << help;
  } else {
    run_all(asked);
  }
  return 0;
} catch (const std::exception& error) {
  std::fflush(stdout);
  std::cerr << "nbody: " << error.what() << '\n';
  return 2;
}
