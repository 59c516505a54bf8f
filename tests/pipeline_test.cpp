// Pipelines: what their stages do to a stream, who runs ahead of whom, and how streams join and part.
// How they end is in pipeline_end_test.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <iterator>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/pipeline.hpp"
#include "weft/runtime.hpp"

using namespace std::chrono_literals;
namespace stages = weft::stages;

static_assert(std::ranges::input_range<weft::pipeline<int>> && std::ranges::view<weft::pipeline<int>>);
static_assert(std::ranges::input_range<weft::pipeline<std::unique_ptr<int>>>);
static_assert(!std::copyable<weft::pipeline<int>>);

namespace {

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

void let_others_run() {
  for (int i = 0; i < 50; ++i) weft::this_thread::yield();
}

// The longer the later: what is started first ends last.
int late_first(int n) {
  weft::this_thread::sleep_for(std::chrono::milliseconds(100 - n));
  return n;
}

// The numbers in a text, to be read once.
struct numbers_of {
  std::istream* text;
  [[nodiscard]] std::istream_iterator<int> begin() const { return std::istream_iterator<int>(*text); }
  [[nodiscard]] static std::istream_iterator<int> end() { return {}; }
};

// Counts how often it was copied.
struct counted {
  explicit counted(int* c) : copies(c) {}
  counted(const counted& other) : copies(other.copies) { ++*copies; }
  counted(counted&&) noexcept = default;
  counted& operator=(const counted&) = delete;
  counted& operator=(counted&&) noexcept = default;
  ~counted() = default;
  int* copies;
};

}  // namespace

TEST_CASE("stages transform, keep and expand values in order") {
  simulate([] {
    const std::vector<int> in = numbers(5);
    std::string all;
    for (const char c : in | stages::filter([](int n) { return n != 2; }) | stages::transform([](int n) {
                          return std::to_string(n * n) + ' ';
                        }) | stages::expand([](std::string word) { return word; })) {
      all += c;
    }
    CHECK(all == "1 9 16 25 ");
  });
}

TEST_CASE("a stream of nothing ends at once") {
  simulate([] {
    CHECK(weft::from(std::vector<int>{}).to_vector().empty());
    CHECK((std::vector<int>{} | stages::transform(late_first, {.workers = 3})).to_vector().empty());
    CHECK((std::vector<int>{} | stages::expand([](int) { return std::vector<int>(); })).to_vector().empty());
  });
}

TEST_CASE("streams begin with containers, views, inputs, channels and functions") {
  simulate([] {
    const std::vector<int> in = numbers(4);
    CHECK(weft::from(in).to_vector() == in);
    CHECK(weft::from(std::span<const int>(in).subspan(1, 2)).to_vector() == std::vector<int>{2, 3});
    std::istringstream text("3 1 4");
    CHECK(weft::from(numbers_of{&text}).to_vector() == std::vector<int>{3, 1, 4});
    CHECK(weft::from(std::vector<bool>{true, false}).to_vector() == std::vector<bool>{true, false});

    weft::channel<int> channel(4);
    for (const int n : in) channel.send(n);
    channel.close();
    CHECK((channel | stages::buffer(2)).to_vector() == in);
    const auto count_to_two = [](weft::channel<int>& out) {
      out.send(1);
      out.send(2);
    };
    CHECK(weft::generate<int>(count_to_two, {.buffer = 5}).to_vector() == std::vector<int>{1, 2});
  });
}

TEST_CASE("values are moved through every stage, out of a container that is given away and not out of one that is lent") {
  simulate([] {
    std::vector<std::unique_ptr<int>> in;
    for (const int n : numbers(6)) in.push_back(std::make_unique<int>(n));
    const auto keep = [](const std::unique_ptr<int>& n) { return *n % 2 == 0; };
    const auto same = [](std::unique_ptr<int> n) { return n; };
    const auto alone = [](std::unique_ptr<int> n) {
      std::vector<std::unique_ptr<int>> one;
      one.push_back(std::move(n));
      return one;
    };
    auto even = std::move(in) | stages::filter(keep, {.workers = 2}) | stages::transform(same, {.workers = 2}) |
                stages::buffer(1) | stages::expand(alone);
    auto merged = weft::merge(std::move(even), weft::from(std::vector<std::unique_ptr<int>>(1)));
    int sum = 0;
    int empty = 0;
    for (const std::unique_ptr<int>& n : merged) n ? sum += *n : ++empty;
    CHECK(sum == 12);
    CHECK(empty == 1);

    int copies = 0;
    std::vector<counted> lent(3, counted(&copies));
    copies = 0;
    CHECK((lent | stages::buffer(1)).to_vector().size() == 3);
    CHECK(copies == 3);
    CHECK((std::move(lent) | stages::buffer(1)).to_vector().size() == 3);
    CHECK(copies == 3);
  });
}

TEST_CASE("workers work side by side, and their results leave in the order of the values") {
  simulate([] {
    int inside = 0;
    int most = 0;
    const auto work = [&](int n) {
      most = std::max(most, ++inside);
      weft::this_thread::sleep_for(std::chrono::milliseconds(n * 7 % 10));
      --inside;
      return n;
    };
    const std::vector<int> in = numbers(40);
    CHECK((in | stages::transform(work, {.workers = 8})).to_vector() == in);
    CHECK(most == 8);
    const auto odd = [&](int n) { return work(n) % 2 == 1; };
    const std::vector<int> kept = (in | stages::filter(odd, {.workers = 5})).to_vector();
    CHECK(kept.size() == 20);
    CHECK(std::ranges::is_sorted(kept));
    const auto twice = [&](int n) { return std::vector<int>(2, work(n)); };
    const std::vector<int> doubled = (in | stages::expand(twice, {.workers = 3})).to_vector();
    CHECK(doubled.size() == 80);
    CHECK(std::ranges::is_sorted(doubled));
  });
}

TEST_CASE("without order results leave as they are made") {
  simulate([] {
    const std::vector<int> in = numbers(5);
    const std::vector<int> out = (in | stages::transform(late_first, {.workers = 5, .ordered = false})).to_vector();
    CHECK(out == std::vector<int>{5, 4, 3, 2, 1});
    CHECK((in | stages::transform(late_first, {.workers = 5})).to_vector() == in);
  });
}

TEST_CASE("in order a slow value holds up as many later ones as there are other workers") {
  simulate([] {
    int begun = 0;
    const auto work = [&](int n) {
      ++begun;
      if (n == 1) weft::this_thread::sleep_for(1h);
      return n;
    };
    auto slow = numbers(100) | stages::transform(work, {.workers = 4, .buffer = 100});
    weft::this_thread::sleep_for(1s);
    CHECK(begun == 4);
    auto fast = numbers(100) | stages::transform(work, {.workers = 4, .ordered = false, .buffer = 100});
    weft::this_thread::sleep_for(1s);
    CHECK(begun == 104);
    CHECK(slow.to_vector() == numbers(100));
  });
}

TEST_CASE("a stage runs ahead of the next one by a value in its hands and by what its buffer holds") {
  simulate([] {
    int made = 0;
    const auto count = [&made](weft::channel<int>& out) {
      for (;;) {
        ++made;
        out.send(made);
      }
    };
    auto tight = weft::generate<int>(count);
    let_others_run();
    CHECK(made == 1);
    made = 0;
    auto loose = weft::generate<int>(count, {.buffer = 10});
    let_others_run();
    CHECK(made == 11);
    made = 0;
    auto longer = weft::generate<int>(count) | stages::buffer(5);
    let_others_run();
    CHECK(made == 5 + 1 + 1);
    CHECK(longer.receive() == 1);
    let_others_run();
    CHECK(made == 5 + 1 + 1 + 1);
  });
}

TEST_CASE("for_each returns when all is done, and its workers work side by side") {
  simulate([] {
    const std::vector<int> in = numbers(30);
    int sum = 0;
    int inside = 0;
    int most = 0;
    const auto add = [&](int n) {
      most = std::max(most, ++inside);
      weft::this_thread::sleep_for(1ms);
      sum += n;
      --inside;
    };
    in | stages::for_each(add, {.workers = 6});
    CHECK(sum == 465);
    CHECK(most == 6);
  });
}

TEST_CASE("stages can be kept, joined and used again, and functions may be move-only where they are used once") {
  simulate([] {
    const auto half = stages::filter([](int n) { return n % 2 == 0; }) | stages::transform([](int n) { return n / 2; });
    CHECK((numbers(8) | half).to_vector() == numbers(4));
    CHECK((numbers(16) | half | half).to_vector() == numbers(4));
    const auto add = [by = std::make_unique<int>(3)](int n) { return n + *by; };
    static_assert(!std::is_copy_constructible_v<decltype(add)>);
    CHECK((numbers(2) | stages::transform([by = std::make_unique<int>(3)](int n) { return n + *by; })).to_vector() ==
          std::vector<int>{4, 5});
  });
}

TEST_CASE("a value may be expanded into a pipeline of its own, and several are read ahead") {
  simulate([] {
    int at_work = 0;
    int most = 0;
    const auto countdown = [&](int n) {
      return weft::generate<std::unique_ptr<int>>([&, n](weft::channel<std::unique_ptr<int>>& out) {
        most = std::max(most, ++at_work);
        weft::this_thread::sleep_for(1ms);
        for (int i = n; i > 0; --i) out.send(std::make_unique<int>(i));
        --at_work;
      });
    };
    std::string all;
    for (const auto& n : numbers(4) | stages::expand(countdown, {.workers = 3})) all += std::to_string(*n);
    CHECK(all == "1213214321");
    CHECK(most == 3);
  });
}

TEST_CASE("merge hands on all values, those of one stream in their order, and ends when all have ended") {
  simulate([] {
    weft::channel<int> late;
    auto merged = weft::merge(weft::from(numbers(10)), weft::from(numbers(20)), late);
    std::vector<int> all;
    for (int i = 0; i < 30; ++i) all.push_back(merged.receive().value());
    CHECK(std::accumulate(all.begin(), all.end(), 0) == 55 + 210);
    for (const int n : numbers(10)) CHECK(std::ranges::count(all, n) == 2);
    CHECK_FALSE(merged.receive_for(1s).has_value());
    late.send(100);
    CHECK(merged.receive() == 100);
    late.close();
    CHECK_FALSE(merged.receive().has_value());

    std::vector<int> order;
    for (const int n : weft::merge(weft::from(std::vector<int>{1, 2, 3}), weft::from(std::vector<int>{10, 20, 30}))) {
      order.push_back(n);
    }
    CHECK(std::ranges::find(order, 1) < std::ranges::find(order, 2));
    CHECK(std::ranges::find(order, 2) < std::ranges::find(order, 3));
    CHECK(std::ranges::find(order, 10) < std::ranges::find(order, 20));
    CHECK(weft::merge(std::vector<weft::pipeline<int>>{}).to_vector().empty());
  });
}

TEST_CASE("merge takes any range of channels, or of pointers to them") {
  simulate([] {
    std::deque<weft::channel<int>> channels;
    std::vector<std::unique_ptr<weft::channel<int>>> owned;
    std::vector<weft::channel<int>*> lent;
    for (int i = 0; i < 3; ++i) {
      channels.emplace_back(1).send(i);
      owned.push_back(std::make_unique<weft::channel<int>>(1));
      owned.back()->send(i);
      channels.back().close();
      owned.back()->close();
    }
    const auto sum = [](weft::pipeline<int> all) {
      const std::vector<int> got = all.to_vector();
      return std::accumulate(got.begin(), got.end(), 100 * static_cast<int>(got.size()));
    };
    CHECK(sum(weft::merge(channels)) == 303);
    CHECK(sum(weft::merge(owned)) == 303);
    weft::channel<int> last(1);
    last.send(7);
    last.close();
    lent.push_back(&last);
    CHECK(sum(weft::merge(lent, {.buffer = 1})) == 107);
  });
}

TEST_CASE("every branch of a tee gets every value, in whatever order they are read") {
  simulate([] {
    auto [a, b, c] = weft::tee<3>(weft::from(numbers(10)));
    for (const int n : numbers(10)) {
      CHECK(c.receive() == n);
      CHECK(a.receive() == n);
      CHECK(b.receive() == n);
    }
    CHECK_FALSE(a.receive().has_value());
    CHECK_FALSE(b.receive().has_value());
    CHECK_FALSE(c.receive().has_value());
    CHECK(weft::tee(weft::from(numbers(3)), 1).front().to_vector() == numbers(3));
  });
}

TEST_CASE("a tee copies for all branches but one, and not for those that are closed") {
  simulate([] {
    for (const int closed : {0, 1, 3}) {
      int copies = 0;
      auto source = weft::generate<counted>([&](weft::channel<counted>& out) { out.send(counted(&copies)); });
      auto branches = weft::tee(std::move(source), 4, {.buffer = 1});
      for (int i = 0; i < closed; ++i) branches[static_cast<std::size_t>(i)].close();
      for (auto& branch : branches) static_cast<void>(branch.to_vector());
      CHECK(copies == 3 - closed);
    }
  });
}

TEST_CASE("a branch of a tee that nobody reads holds up the others by what the buffer leaves, until it is closed") {
  simulate([] {
    auto [slow, fast] = weft::tee<2>(weft::from(numbers(10)), {.buffer = 2});
    std::vector<int> got;
    while (std::optional<int> n = fast.receive_for(1s)) got.push_back(*n);
    CHECK(got == numbers(3));  // two are in the other's buffer, the third is in the hands of the tee
    slow.close();
    while (std::optional<int> n = fast.receive()) got.push_back(*n);
    CHECK(got == numbers(10));
    CHECK(slow.to_vector() == numbers(2));
  });
}

TEST_CASE("a branch that is destroyed while the tee waits for it is left out, and what it had is gone with it") {
  simulate([] {
    const auto shared = std::make_shared<int>(1);
    std::vector<std::shared_ptr<int>> in(5, shared);
    auto branches = weft::tee(weft::from(std::move(in)), 3, {.buffer = 1});
    let_others_run();
    branches.erase(branches.begin() + 1);
    branches[0].close();
    CHECK(branches[1].to_vector().size() == 5);
    branches.clear();
    CHECK(shared.use_count() == 1);
  });
}

TEST_CASE("what a stage had not read of its branch is gone with the stage, although the tee goes on") {
  simulate([] {
    const auto shared = std::make_shared<int>(1);
    auto branches = weft::tee<2>(weft::generate<std::shared_ptr<int>>([&](weft::channel<std::shared_ptr<int>>& out) {
                                   for (int i = 0; i < 4; ++i) out.send(shared);
                                   weft::this_thread::sleep_for(1h);
                                 }),
                                 {.buffer = 10});
    {
      auto slow = std::move(branches[1]) | stages::transform([](std::shared_ptr<int> p) {
                    weft::this_thread::sleep_for(1h);
                    return p;
                  });
      for (int i = 0; i < 4; ++i) CHECK(branches[0].receive().has_value());
      let_others_run();
      CHECK(shared.use_count() == 1 + 4);
    }
    CHECK(shared.use_count() == 1);
  });
}

TEST_CASE("a pipeline is a case of select, among others") {
  simulate([] {
    weft::channel<int> quiet;
    auto stream = weft::from(numbers(2));
    std::optional<int> got;
    std::optional<int> other;
    for (const int n : numbers(2)) {
      CHECK(weft::select(weft::on_receive(quiet, other), weft::on_receive(stream, got)) == 1);
      CHECK(got == n);
    }
    CHECK(weft::select(weft::on_receive(quiet, other), weft::on_receive(stream, got)) == 1);
    CHECK_FALSE(got.has_value());
    CHECK_FALSE(stream.receive().has_value());
  });
}

TEST_CASE("reads can be tried and limited in time") {
  simulate([] {
    weft::channel<int> in;
    auto stream = in | stages::transform([](int n) { return n; });
    CHECK_FALSE(stream.try_receive().has_value());
    CHECK_FALSE(stream.receive_for(1ms).has_value());
    CHECK_FALSE(stream.receive_until(weft::clock::now() - 1s).has_value());
    in.send(5);
    let_others_run();
    CHECK(stream.try_receive() == 5);
    in.send(6);
    CHECK(stream.receive_for(1h) == 6);
  });
}

TEST_CASE("several threads may share the reading of one pipeline") {
  simulate([] {
    auto stream = weft::from(numbers(100));
    int sum = 0;
    {
      std::vector<weft::jthread> readers;
      for (int i = 0; i < 7; ++i) {
        readers.emplace_back([&] {
          for (const int n : stream) sum += n;
        });
      }
    }
    CHECK(sum == 5050);
  });
}

TEST_CASE("stages and their readers may use regions") {
  weft::run([] {
    const auto square = [](int n) { return weft::blocking([n] { return n * n; }); };
    auto stream = numbers(20) | stages::transform(square, {.workers = 4});
    int sum = 0;
    weft::blocking([&] {
      for (const int n : stream) sum += n;
      stream.close();
    });
    CHECK(sum == 2870);
  });
}

TEST_CASE("a thousand workers and three thousand stages are no trouble") {
  simulate([] {
    const std::vector<int> in = numbers(3000);
    CHECK((in | stages::transform(late_first, {.workers = 1000})).to_vector() == in);
    weft::pipeline<int> chain = weft::from(numbers(10));
    for (int i = 0; i < 3000; ++i) chain = std::move(chain) | stages::transform([](int n) { return n + 1; });
    CHECK(chain.to_vector().back() == 3010);
    std::vector<weft::pipeline<int>> many;
    for (int i = 0; i < 1000; ++i) many.push_back(weft::from(numbers(3)));
    CHECK(weft::merge(std::move(many)).to_vector().size() == 3000);
  });
}
