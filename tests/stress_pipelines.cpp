// Seeded schedules of pipelines: stages of every kind in chains, merged and parted by lot, with waits, failures, readers that
// leave early and threads that are asked to end, on a simulated kernel. What arrives is right, and nobody is left behind.
// WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/nursery.hpp"
#include "weft/pipeline.hpp"

using namespace std::chrono_literals;
namespace stages = weft::stages;

namespace {

struct failure : std::runtime_error {
  failure() : std::runtime_error("by lot") {}
};

// Values are counted; copies are values of their own.
struct value {
  value(int& c, int n) : count(&c), number(n) { ++*count; }
  value(const value& other) : count(other.count), number(other.number) { ++*count; }
  value(value&& other) noexcept : count(other.count), number(other.number) { ++*count; }
  value& operator=(const value&) = default;
  value& operator=(value&&) noexcept = default;
  ~value() { --*count; }
  int* count;
  int number;
};
using stream = weft::pipeline<value>;

struct world {
  world(simulated_source& k, std::uint64_t seed) : kernel(k), fails(seed % 3 == 0) {}
  simulated_source& kernel;
  const bool fails;     // stages may fail
  bool ordered = true;  // nothing in this pipeline changes the order
  int copies = 1;       // how often each value is to arrive
  int values = 0;       // alive
};

void wait(world& w) {
  switch (w.kernel.below(5)) {
    case 0:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(40)));
    case 1:
      return weft::this_thread::yield();
    case 2: {
      weft::upcall::operation request;
      request.length = 5;
      return static_cast<void>(weft::detail::perform(request));
    }
    default:
      return;
  }
}

void live(world& w) {
  wait(w);
  if (w.fails && w.kernel.chance(60)) throw failure();
}

weft::stage_options some_options(world& w) {
  const bool ordered = !w.kernel.chance(3);
  const auto workers = 1 + w.kernel.below(4);
  if (!ordered && workers > 1) w.ordered = false;
  const weft::attributes how{.start = w.kernel.chance(4) ? weft::start::now : weft::start::later};
  return {.workers = workers, .ordered = ordered, .buffer = w.kernel.below(3), .threads = how};
}

stream source(world& w, int count) {
  return weft::generate<value>(
      [&w, count](weft::channel<value>& out) {
        for (int n = 0; n < count; ++n) {
          live(w);
          out.send(value(w.values, n));
        }
      },
      some_options(w));
}

stream through_stage(world& w, stream from) {
  switch (w.kernel.below(4)) {
    case 0:
      return std::move(from) | stages::transform(
                                   [&w](value v) {
                                     live(w);
                                     return v;
                                   },
                                   some_options(w));
    case 1:
      return std::move(from) | stages::filter(
                                   [&w](const value&) {
                                     live(w);
                                     return true;
                                   },
                                   some_options(w));
    case 2:
      return std::move(from) | stages::expand(
                                   [&w](value v) {
                                     live(w);
                                     return std::vector<value>(1, v);
                                   },
                                   some_options(w));
    default:
      return std::move(from) | stages::buffer(w.kernel.below(4));
  }
}

// Parts the stream and joins it again: every value arrives once for each branch.
stream parted_and_joined(world& w, stream from) {
  const auto count = 1 + w.kernel.below(3);
  std::vector<stream> branches = weft::tee(std::move(from), count, some_options(w));
  if (count > 1 && w.kernel.chance(3)) branches.pop_back();
  if (branches.size() > 1) w.ordered = false;
  w.copies *= static_cast<int>(branches.size());
  for (stream& each : branches) {
    if (w.kernel.chance(2)) each = through_stage(w, std::move(each));
  }
  return weft::merge(std::move(branches), some_options(w));
}

stream some_pipeline(world& w, int count) {
  stream made = source(w, count);
  for (auto stages_left = w.kernel.below(5); stages_left > 0; --stages_left) {
    made = w.kernel.chance(4) ? parted_and_joined(w, std::move(made)) : through_stage(w, std::move(made));
  }
  return made;
}

void check_all(const world& w, const std::vector<int>& got, int count) {
  if (w.ordered && w.copies == 1) CHECK(std::ranges::is_sorted(got));
  std::map<int, int> times;
  for (const int n : got) ++times[n];
  CHECK(static_cast<int>(times.size()) == count);
  for (const auto& [n, t] : times) CHECK(t == w.copies);
}

// Reads a pipeline to its end, or leaves early.
void read_one(world& w) {
  w.ordered = true;
  w.copies = 1;
  const int count = static_cast<int>(w.kernel.below(12));
  stream from = some_pipeline(w, count);
  const auto enough = w.kernel.chance(3) ? w.kernel.below(8) : 10'000;
  std::vector<int> got;
  while (got.size() < enough) {
    std::optional<value> next = from.receive();
    if (!next.has_value()) return check_all(w, got, count);
    got.push_back(next->number);
    wait(w);
  }
  if (w.kernel.chance(2)) from.close();
}

int threads_alive() { return std::atoi(weft::dump_threads().substr(std::string(R"(scheduler "weft": )").size()).c_str()); }

}  // namespace

TEST_CASE("pipelines deliver what they should, and leave nobody and nothing behind, for every schedule") {
  int whole = 0;
  int failed = 0;
  int ended = 0;
  for (const std::uint64_t seed : seeds(1500)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(seed % 9);
    weft::run(how, [&] {
      world w(source, seed);
      for (int i = 0; i < 4; ++i) {
        const auto patience = std::chrono::microseconds(w.kernel.chance(4) ? w.kernel.below(300) : 1'000'000);
        try {
          ++(weft::with_timeout(patience, [&] { read_one(w); }) ? whole : ended);
        } catch (const failure&) {
          ++failed;
        }
        CHECK(w.values == 0);
      }
      CHECK(threads_alive() == 1);
    });
  }
  if (std::getenv("WEFT_SEED") != nullptr) return;
  CHECK(whole > 1000);
  CHECK(failed > 100);
  CHECK(ended > 100);
}
