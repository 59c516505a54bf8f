// dining_philosophers: five threads at a round table, five forks between them, two forks to eat. Nobody may starve.
//
// It shows: weft::mutex in three ways that cannot deadlock: both forks at once by std::scoped_lock, which the standard library
// implements for any lockable type; forks taken in one order, the lower number first; and a waiter, a weft::counting_semaphore
// that seats one philosopher less than there are forks. And, with --deadlock, what weft says when it goes wrong: each takes the
// fork on the left and waits for the one on the right, so all wait, which the scheduler notices; weft::run throws
// weft::deadlock, whose text (on standard error, too) names the threads, what each waits for and who has it, in a circle.
//
//   build/release/demos/dining_philosophers [--deadlock]      --help tells the rest
//
// Source: E. W. Dijkstra, "Hierarchical ordering of sequential processes", Acta Informatica 1, 1971.
// Last line, for machines: meals=… most_at_once=… or, with --deadlock, deadlock=1 in_circle=…
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <deque>
#include <functional>
#include <iostream>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>
#include <weft/mutex.hpp>
#include <weft/nursery.hpp>
#include <weft/runtime.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

#include "command_line.hpp"

namespace {

constexpr std::string_view help =
    "Usage: dining_philosophers [--deadlock] [--philosophers N] [--meals N]\n"
    "\n"
    "Lets philosophers eat with forks that they share with their neighbours, in\n"
    "three ways that cannot deadlock, and tells how many ate at once, and how long\n"
    "the hungriest waited.\n"
    "  --deadlock         instead: each takes the left fork, then the right one, and\n"
    "                     weft reports who waits for whom\n"
    "  --philosophers N   2 to 10000; default 5\n"
    "  --meals N          of each, 1 to 100000; default 100\n"
    "  --help             say this\n";

struct plan {
  std::size_t philosophers = 5;
  std::size_t meals = 100;
  bool deadlock = false;
};

struct table {
  explicit table(const plan& how)
      : asked(how), forks(how.philosophers), chairs(static_cast<std::ptrdiff_t>(how.philosophers) - 1) {}

  const plan asked;
  std::deque<weft::mutex> forks;  // between number i and number i + 1: fork i + 1
  weft::counting_semaphore<> chairs;
  std::size_t meals = 0;
  std::size_t eating = 0;
  std::size_t most_at_once = 0;
  std::chrono::duration<double, std::milli> longest_wait{0};

  weft::mutex& left(std::size_t who) { return forks[who]; }
  weft::mutex& right(std::size_t who) { return forks[(who + 1) % forks.size()]; }

  // With both forks in hand. No lock for these counters: threads of one scheduler change only where one of them waits.
  void eat(weft::clock::time_point hungry, std::chrono::microseconds how_long) {
    longest_wait = std::max<std::chrono::duration<double, std::milli>>(longest_wait, weft::clock::now() - hungry);
    most_at_once = std::max(most_at_once, ++eating);
    weft::this_thread::sleep_for(how_long);
    --eating;
    ++meals;
  }
};

using manners = std::function<void(table&, std::size_t who, const std::function<void()>& eat)>;

void both_at_once(table& t, std::size_t who, const std::function<void()>& eat) {
  const std::scoped_lock forks(t.left(who), t.right(who));
  eat();
}

void lower_number_first(table& t, std::size_t who, const std::function<void()>& eat) {
  const std::size_t other = (who + 1) % t.forks.size();
  const std::lock_guard first(t.forks[std::min(who, other)]);
  const std::lock_guard second(t.forks[std::max(who, other)]);
  eat();
}

void with_a_waiter(table& t, std::size_t who, const std::function<void()>& eat) {
  t.chairs.acquire();
  {
    const std::lock_guard left(t.left(who));
    const std::lock_guard right(t.right(who));
    eat();
  }
  t.chairs.release();
}

void left_then_right(table& t, std::size_t who, const std::function<void()>& eat) {
  const std::lock_guard left(t.left(who));
  weft::this_thread::yield();  // just long enough for everybody to take one
  const std::lock_guard right(t.right(who));
  eat();
}

void live(table& t, std::size_t who, const manners& way) {
  std::minstd_rand random(static_cast<unsigned>(who + 1));
  const auto a_while = [&random] { return std::chrono::microseconds(random() % 200); };
  for (std::size_t meal = 0; meal < t.asked.meals; ++meal) {
    if (!t.asked.deadlock) weft::this_thread::sleep_for(a_while());  // thinks
    const auto hungry = weft::clock::now();
    way(t, who, [&] { t.eat(hungry, a_while()); });
  }
}

void dine(table& t, const manners& way) {
  weft::with_nursery([&](weft::nursery& guests) {
    for (std::size_t who = 0; who < t.asked.philosophers; ++who) {
      const std::string name = "philosopher " + std::to_string(who + 1);
      guests.spawn({.name = name}, [&t, who, &way] { live(t, who, way); });
    }
  });
}

int three_ways(const plan& how) {
  struct way {
    const char* name;
    manners take_forks;
  };
  const way ways[] = {{"std::scoped_lock of both forks", both_at_once},
                      {"the lower number first", lower_number_first},
                      {"a waiter seats all but one", with_a_waiter}};
  std::cout << how.philosophers << " philosophers and as many forks; each eats " << how.meals
            << (how.meals == 1 ? " time" : " times") << ".\n\n"
            << "                                     meals   at once   longest wait   all of it\n";
  std::size_t meals = 0;
  std::size_t most = 0;
  for (const way& each : ways) {
    const auto begin = weft::clock::now();
    std::optional<table> t(how);
    weft::run([&] { dine(*t, each.take_forks); });
    const std::chrono::duration<double, std::milli> took = weft::clock::now() - begin;
    std::printf("  %-31s %9zu %9zu %11.2f ms %8.0f ms\n", each.name, t->meals, t->most_at_once, t->longest_wait.count(),
                took.count());
    std::fflush(stdout);
    meals += t->meals;
    most = std::max(most, t->most_at_once);
  }
  std::cout << "\nNobody starved. With --deadlock each takes the left fork first, and nobody eats.\n"
            << "meals=" << meals << " most_at_once=" << most << '\n';
  return meals == 3 * how.philosophers * how.meals ? 0 : 1;
}

std::string_view quoted(std::string_view text) {
  const std::size_t begin = text.find('"') + 1;
  return text.substr(begin, text.find('"', begin) - begin);
}

// The lines of the report about the circle, in short: thread 2 "philosopher 1" waits in mutex 0x… held by thread 3 "…"
std::size_t print_circle(const std::string& report) {
  constexpr std::size_t enough = 12;
  std::size_t in_circle = 0;
  std::istringstream lines(report);
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" waits in mutex ") == line.npos) continue;
    const std::string_view who = quoted(line);
    const std::string_view holder = quoted(std::string_view(line).substr(line.find(" held by ")));
    if (++in_circle <= enough) std::cout << "  " << who << " waits for a fork that " << holder << " has\n";
  }
  if (in_circle > enough) std::cout << "  … and " << in_circle - enough << " more\n";
  return in_circle;
}

int deadlock(const plan& how) {
  std::cout << "Each of " << how.philosophers << " philosophers takes the fork on the left, then waits for the\n"
            << "one on the right. weft notices, and reports on standard error:\n"
            << std::endl;
  table t(how);
  try {
    weft::run([&] { dine(t, left_then_right); });
  } catch (const weft::deadlock& report) {
    std::cout << "\nIn short:\n";
    const std::size_t in_circle = print_circle(report.what());
    std::cout << "weft::run has thrown that as weft::deadlock. All threads were unwound, the forks\n"
                 "are free again, and the program goes on.\n"
              << "deadlock=1 in_circle=" << in_circle << '\n';
    return 0;
  }
  std::cout << "\nNobody waited in vain: there was no deadlock.\ndeadlock=0 in_circle=0\n";
  return 1;
}

int dine_as_asked(int argc, char** argv) {
  plan how;
  for (demo::arguments left(argc, argv); left.more();) {
    const std::string_view argument = left.next();
    if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    }
    if (argument == "--deadlock") {
      how.deadlock = true;
    } else if (argument == "--philosophers") {
      how.philosophers = left.number(argument, 2, 10'000);
    } else if (argument == "--meals") {
      how.meals = left.number(argument, 1, 100'000);
    } else {
      demo::refuse_argument(argument);
    }
  }
  return how.deadlock ? deadlock(how) : three_ways(how);
}

}  // namespace

int main(int argc, char** argv) {
  return demo::run_main("dining_philosophers", [&] { return dine_as_asked(argc, argv); });
}
