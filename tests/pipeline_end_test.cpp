// How pipelines end: by an exception, because nobody reads any more, with the thread that holds them; and that nobody is left.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/nursery.hpp"
#include "weft/pipeline.hpp"
#include "weft/runtime.hpp"

using namespace std::chrono_literals;
namespace stages = weft::stages;

namespace {

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

void let_others_run() {
  for (int i = 0; i < 50; ++i) weft::this_thread::yield();
}

// As the dump has it: `scheduler "weft": 5 threads: …`
int threads_alive() { return std::atoi(weft::dump_threads().substr(std::string(R"(scheduler "weft": )").size()).c_str()); }

// What `fn` throws, in words.
template <class F> std::string failure_of(F fn) {
  try {
    fn();
  } catch (const std::exception& error) {
    return error.what();
  } catch (const weft::cancelled&) {
    return "cancelled";
  }
  return "none";
}

weft::pipeline<int> endless() {
  return weft::generate<int>([](weft::channel<int>& out) {
    for (int n = 1;; ++n) out.send(n);
  });
}

// Fails at the value 3.
int fail_at_three(int n) {
  if (n == 3) throw std::runtime_error("three");
  return n;
}

int wait_for_ever(int n) {
  weft::this_thread::sleep_for(1000h);
  return n;
}

}  // namespace

TEST_CASE("an exception ends all stages and is thrown to the reader, every time") {
  simulate([] {
    for (const std::size_t workers : {1U, 3U}) {
      for (const bool ordered : {true, false}) {
        auto stream = endless() | stages::transform(fail_at_three, {.workers = workers, .ordered = ordered}) | stages::buffer(2) |
                      stages::filter([](int) { return true; });
        const std::string first = failure_of([&] { static_cast<void>(stream.to_vector()); });
        CHECK(first == "three");
        const std::string again = failure_of([&] { static_cast<void>(stream.receive()); });
        CHECK(again == "three");
        let_others_run();
        CHECK(threads_alive() == 1);
      }
    }
  });
}

TEST_CASE("an exception may come from every kind of stage") {
  simulate([] {
    const auto fail_filter = [](int n) { return fail_at_three(n) != 0; };
    const auto fail_expand = [](int n) { return std::vector<int>(1, fail_at_three(n)); };
    const auto fail_source = [](weft::channel<int>& out) {
      for (int n = 1;; ++n) out.send(fail_at_three(n));
    };
    const auto drain = [](weft::pipeline<int> stream) { return failure_of([&] { static_cast<void>(stream.to_vector()); }); };
    const auto broken = [&] { return weft::generate<int>(fail_source); };
    CHECK(drain(broken()) == "three");
    CHECK(drain(endless() | stages::filter(fail_filter)) == "three");
    CHECK(drain(endless() | stages::expand(fail_expand)) == "three");
    CHECK(drain(broken() | stages::buffer(5)) == "three");
    CHECK(drain(weft::merge(endless(), broken())) == "three");
    CHECK(failure_of([&] { endless() | stages::for_each([](int n) { static_cast<void>(fail_at_three(n)); }, {.workers = 2}); }) ==
          "three");
    for (auto& branch : weft::tee<2>(broken(), {.buffer = 10})) CHECK(drain(std::move(branch)) == "three");
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("an exception overtakes the values before it") {
  simulate([] {
    auto stream = numbers(3) | stages::transform(fail_at_three, {.buffer = 10});
    let_others_run();
    const std::string thrown = failure_of([&] { static_cast<void>(stream.receive()); });
    CHECK(thrown == "three");
  });
}

TEST_CASE("an exception ends a stage further on that waits elsewhere than for values") {
  simulate([] {
    weft::channel<int> in;
    auto stream = in | stages::transform(fail_at_three) | stages::transform(wait_for_ever) | stages::buffer(1);
    const weft::time_point begin = weft::detail::now();
    in.send(1);
    let_others_run();  // the second stage has it, and waits
    in.send(3);
    const std::string thrown = failure_of([&] { static_cast<void>(stream.receive()); });
    CHECK(thrown == "three");
    CHECK(in.closed());
    let_others_run();
    CHECK(threads_alive() == 1);
    CHECK(weft::detail::now() - begin < 1h);
  });
}

TEST_CASE("an exception before a tee ends what comes behind every branch of it") {
  simulate([] {
    weft::channel<int> in;
    auto branches = weft::tee<3>(in | stages::transform(fail_at_three), {.buffer = 5});
    std::vector<weft::pipeline<int>> behind;
    for (auto& each : branches) behind.push_back(std::move(each) | stages::transform(wait_for_ever));
    in.send(1);
    let_others_run();
    in.send(3);
    let_others_run();
    CHECK(threads_alive() == 1);
    for (auto& each : behind) {
      const std::string thrown = failure_of([&] { static_cast<void>(each.receive()); });
      CHECK(thrown == "three");
    }
  });
}

TEST_CASE("an exception before a merge ends what is behind it, although the merge waits for room") {
  simulate([] {
    weft::channel<int> in;
    weft::channel<int> other;
    auto merged = weft::merge(in | stages::transform(fail_at_three), other) | stages::transform(wait_for_ever);
    in.send(1);
    in.send(2);
    let_others_run();  // the stage behind has the one, the merge the other
    in.send(3);
    let_others_run();
    CHECK(threads_alive() == 1);
    CHECK(other.closed());
    const std::string thrown = failure_of([&] { static_cast<void>(merged.receive()); });
    CHECK(thrown == "three");
  });
}

TEST_CASE("the first exception is the one that is told") {
  simulate([] {
    const auto fail_late = [](int n) -> int {
      try {
        weft::this_thread::sleep_for(1h);
      } catch (const weft::cancelled&) {
        throw std::runtime_error("after it was asked to end");
      }
      return n;
    };
    auto stream = numbers(3) | stages::transform(fail_at_three, {.workers = 3, .ordered = false, .buffer = 3}) |
                  stages::transform(fail_late);
    const std::string thrown = failure_of([&] { static_cast<void>(stream.to_vector()); });
    CHECK(thrown == "three");
  });
}

TEST_CASE("a stage's function that lets weft::cancelled pass without having been asked to end is a failure, not an end") {
  simulate([] {
    auto stream = numbers(5) | stages::transform([](int n) {
                    if (n == 3) throw weft::cancelled();
                    return n;
                  });
    const std::string thrown = failure_of([&] { static_cast<void>(stream.to_vector()); });
    CHECK(thrown == "cancelled");
  });
}

TEST_CASE("one branch of a tee that fails further on leaves the others alone") {
  simulate([] {
    auto branches = weft::tee<2>(weft::from(numbers(50)));
    auto failing = std::move(branches[1]) | stages::transform(fail_at_three, {.buffer = 2});
    CHECK(branches[0].to_vector() == numbers(50));
    const std::string thrown = failure_of([&] { static_cast<void>(failing.to_vector()); });
    CHECK(thrown == "three");
  });
}

TEST_CASE("a failing source of a merge ends the other sources") {
  simulate([] {
    weft::channel<int> other;
    {
      auto merged = weft::merge(other, endless(), weft::from(numbers(3)) | stages::transform(fail_at_three));
      const std::string thrown = failure_of([&] { static_cast<void>(merged.to_vector()); });
      CHECK(thrown == "three");
      let_others_run();
      CHECK(threads_alive() == 1);
    }
    CHECK(other.closed());
  });
}

TEST_CASE("when the reader goes every thread before it ends, wherever it waits") {
  simulate([] {
    weft::channel<int> empty;
    weft::channel<int> full;
    weft::jthread sender([&] { CHECK_THROWS_AS(full.send(1), weft::channel_closed); });
    {
      auto a = endless() | stages::transform([](int n) { return n; }, {.workers = 4}) | stages::buffer(3);
      auto b = numbers(9) | stages::transform(wait_for_ever, {.workers = 4});
      auto c = weft::merge(empty, endless());
      auto d = weft::tee(endless(), 5);
      auto e = weft::from(full);
      CHECK(a.receive() == 1);
      let_others_run();
      CHECK(threads_alive() == 2 + 1 + 4 + 1 + 1 + 4 + 3 + 2);
    }
    CHECK(threads_alive() == 2);
    CHECK(empty.closed());
  });
}

TEST_CASE("leaving the loop early ends the stream") {
  simulate([] {
    int sum = 0;
    for (const int n : endless() | stages::transform([](int n) { return n; }, {.workers = 2})) {
      if (n > 10) break;
      sum += n;
    }
    CHECK(sum == 55);
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("close asks all to end without waiting, and readers find the end") {
  simulate([] {
    auto stream = endless() | stages::transform(wait_for_ever);
    std::optional<int> got = 7;
    weft::thread reader([&] { got = stream.receive(); });
    let_others_run();
    stream.close();
    stream.close();
    reader.join();
    CHECK_FALSE(got.has_value());
    CHECK_FALSE(stream.receive().has_value());
    let_others_run();
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("a thread that is asked to end takes its pipelines along, although their threads need a while") {
  simulate([] {
    bool cleaned_up = false;
    weft::thread holder([&] {
      auto stream = numbers(5) | stages::transform([&](int n) {
                      try {
                        weft::this_thread::sleep_for(1h);
                      } catch (const weft::cancelled&) {
                        const weft::shield whole;
                        weft::this_thread::sleep_for(1s);
                        cleaned_up = true;
                        throw;
                      }
                      return n;
                    });
      static_cast<void>(stream.to_vector());
    });
    let_others_run();
    holder.request_cancel();
    holder.join();
    CHECK(cleaned_up);
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("a new pipeline in the place of an old one ends the old one") {
  simulate([] {
    auto stream = endless();
    stream = weft::from(numbers(2));
    CHECK(threads_alive() == 2);
    CHECK(stream.to_vector() == numbers(2));
    stream = weft::pipeline<int>();
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("a run ends although a detached thread still reads a pipeline without end") {
  int seen = 0;
  simulate([&] {
    weft::thread([&] {
      for (const int n : endless() | stages::buffer(4)) seen = n;
    }).detach();
    let_others_run();
  });
  CHECK(seen > 0);
}

TEST_CASE("a pipeline may be destroyed in a region, and after its run") {
  weft::run([] {
    auto stream = std::make_unique<weft::pipeline<int>>(endless() | stages::buffer(3));
    weft::blocking([&] { stream.reset(); });
    CHECK(threads_alive() == 1);
  });
  std::optional<weft::pipeline<int>> late;
  weft::run([&] {
    late = endless() | stages::transform([](int n) { return n; }, {.workers = 3});
    const std::optional<int> first = late->receive();
    CHECK(first == 1);
  });
  CHECK(failure_of([&] { static_cast<void>(late->receive()); }) != "none");
  late.reset();
}

TEST_CASE("stages whose threads have time slices end as any others") {
  weft::options how;
  how.time_slice = 100us;
  weft::run(how, [] {
    const weft::stage_options sliced{.workers = 3, .threads = {.time_slice = true}};
    const auto compute = [](int n) {
      volatile int sum = 0;
      for (int i = 0; i < 2000; ++i) sum = sum + i;
      return n;
    };
    for (int i = 0; i < 20; ++i) {
      auto stream = numbers(200) | stages::transform(compute, sliced) | stages::filter([](int) { return true; }, sliced);
      CHECK(stream.to_vector() == numbers(200));
      auto left = weft::tee(endless() | stages::transform(compute, sliced), 3, sliced);
      CHECK(left[1].receive() == 1);
    }
    CHECK(threads_alive() == 1);
  });
}

TEST_CASE("what makes no sense is a sentence") {
  simulate([] {
    auto stream = weft::from(numbers(3));
    const auto pass = stages::transform([](int n) { return n; });
    auto next = std::move(stream) | pass;
    const std::string nothing = failure_of([&] { static_cast<void>(stream.receive()); });
    CHECK(nothing.find("this pipeline holds nothing") != std::string::npos);
    CHECK(failure_of([&] { auto twice = std::move(stream) | pass; }).find("this pipeline holds nothing") != std::string::npos);
    CHECK(failure_of([&] { stream.close(); }) == "none");
    CHECK(failure_of([&] { auto none = numbers(1) | stages::transform(fail_at_three, {.workers = 0}); }).find("one worker") !=
          std::string::npos);
    CHECK(failure_of([&] { static_cast<void>(weft::tee(std::move(next), 0)); }).find("one branch") != std::string::npos);
    CHECK(threads_alive() == 1);
  });
  const std::string off = failure_of([] { auto stream = weft::from(numbers(3)); });
  CHECK(off.find("weft thread") != std::string::npos);
}

TEST_CASE("where threads run out nothing is left of a pipeline that could not be made") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  how.max_threads = 6;
  weft::run(how, [] {
    weft::channel<int> in;
    const auto pass = [](int n) { return n; };
    const auto too_much = [&] { auto stream = in | stages::transform(pass) | stages::transform(pass, {.workers = 5}); };
    CHECK_THROWS_AS(too_much(), std::system_error);
    CHECK(threads_alive() == 1);
    CHECK(in.closed());
    CHECK_THROWS_AS(static_cast<void>(weft::merge(std::vector<weft::pipeline<int>>(1))), std::system_error);
    CHECK((numbers(3) | stages::transform(pass, {.workers = 4})).to_vector() == numbers(3));
  });
}

TEST_CASE("a branch whose stage could not be made is left, and the others go on") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  how.max_threads = 3;  // main, the source and the tee
  weft::run(how, [] {
    auto branches = weft::tee<2>(weft::from(numbers(30)));
    const auto pass = stages::transform([](int n) { return n; }, {.workers = 9});
    CHECK_THROWS_AS([&] { auto too_much = std::move(branches[1]) | pass; }(), std::system_error);
    CHECK(branches[0].to_vector() == numbers(30));
  });
}

TEST_CASE("a tee that fails tells nothing to the stage of a branch that is gone") {
  simulate([] {
    weft::channel<int> in;
    auto branches = weft::tee<2>(in | stages::transform(fail_at_three), {.buffer = 5});
    { auto gone = std::move(branches[1]) | stages::transform(wait_for_ever); }
    in.send(1);
    in.send(3);
    const std::string thrown = failure_of([&] { static_cast<void>(branches[0].to_vector()); });
    CHECK(thrown == "three");
  });
}

TEST_CASE("a copy that throws fails the tee, for all branches") {
  struct fragile {
    explicit fragile(int v) : value(v) {}
    fragile(const fragile& other) : value(other.value) {
      if (value == 3) throw std::runtime_error("no copy");
    }
    fragile(fragile&&) = default;
    fragile& operator=(const fragile&) = delete;
    fragile& operator=(fragile&&) = default;
    ~fragile() = default;
    int value;
  };
  simulate([] {
    auto source = weft::generate<fragile>([](weft::channel<fragile>& out) {
      for (int n = 1;; ++n) out.send(fragile(n));
    });
    auto branches = weft::tee<2>(std::move(source), {.buffer = 5});
    let_others_run();
    for (auto& branch : branches) {
      const std::string thrown = failure_of([&] { static_cast<void>(branch.receive()); });
      CHECK(thrown == "no copy");
    }
  });
}
