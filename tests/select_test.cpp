// Select: which case is chosen, that no other is carried out, and what becomes of those that were waited for.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/adjustable_clock.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/select.hpp"

using namespace std::chrono_literals;

namespace {

// Moving one whose fuse is lit throws.
struct fragile {
  static inline bool throws = false;
  int value = 0;
  explicit fragile(int v) : value(v) {}
  fragile(fragile&& other) : value(other.value) {  // NOLINT: may throw
    if (throws) throw std::runtime_error("moved");
  }
};

}  // namespace

TEST_CASE("what can be carried out is, without a wait, and nothing else") {
  simulate([] {
    weft::channel<int> empty(1);
    weft::channel<int> full(1);
    full.send(7);
    std::optional<int> a;
    std::optional<int> b;
    CHECK(weft::select(weft::on_receive(empty, a), weft::on_receive(full, b)) == 1);
    CHECK(a == std::nullopt);
    CHECK(b == 7);
    CHECK(weft::select(weft::on_receive(empty, a), weft::on_send(empty, 8)) == 1);
    CHECK(weft::select(weft::on_receive(empty, a), weft::on_send(empty, 9)) == 0);
    CHECK(a == 8);
    CHECK(empty.size() == 0);
  });
}

TEST_CASE("the first of several that comes ends the wait, and the others are waited for no more") {
  simulate([] {
    std::array<weft::channel<std::string>, 3> from;
    for (std::size_t i = 0; i < from.size(); ++i) {
      weft::thread sender([&, i] { from[i].send(std::to_string(i)); });
      std::array<std::optional<std::string>, 3> got;
      CHECK(weft::select(weft::on_receive(from[0], got[0]), weft::on_receive(from[1], got[1]),
                         weft::on_receive(from[2], got[2])) == i);
      for (std::size_t j = 0; j < from.size(); ++j) CHECK(got[j].has_value() == (i == j));
      CHECK(got[i] == std::to_string(i));
      sender.join();
      for (auto& each : from) CHECK_FALSE(each.try_send("nobody waits"));
    }
  });
}

TEST_CASE("of two selects that wait for one value one gets it, and the other waits on") {
  simulate([] {
    weft::channel<int> values;
    weft::channel<int> quit;
    int received = 0;
    int ended = 0;
    const auto wait = [&] {
      std::optional<int> value;
      std::optional<int> nothing;
      (weft::select(weft::on_receive(values, value), weft::on_receive(quit, nothing)) == 0 ? received : ended)++;
    };
    weft::thread a(wait);
    weft::thread b(wait);
    values.send(1);
    quit.close();
    a.join();
    b.join();
    CHECK(received == 1);
    CHECK(ended == 1);
  });
}

TEST_CASE("a value is moved from only when its send is chosen") {
  simulate([] {
    weft::channel<std::unique_ptr<int>> to;
    weft::channel<int> other(1);
    other.send(1);
    auto value = std::make_unique<int>(5);
    std::optional<int> got;
    CHECK(weft::select(weft::on_send(to, value), weft::on_receive(other, got)) == 1);
    REQUIRE(value != nullptr);
    weft::thread receiver([&] { CHECK(*to.receive().value() == 5); });
    CHECK(weft::select(weft::on_send(to, value), weft::on_receive(other, got)) == 0);
    CHECK(value == nullptr);
    receiver.join();
  });
}

TEST_CASE("otherwise() is chosen when nothing can be carried out, and null channels never are") {
  simulate([] {
    weft::channel<int> empty;
    weft::channel<int>* const none = nullptr;
    std::optional<int> got = 3;
    CHECK(weft::select(weft::on_receive(empty, got), weft::otherwise()) == 1);
    CHECK(got == std::nullopt);
    CHECK(weft::select(weft::on_receive(none, got), weft::on_send(none, 4), weft::select_case(), weft::otherwise()) == 3);
    empty.close();
    CHECK(weft::select(weft::otherwise(), weft::on_receive(empty, got)) == 1);
  });
}

TEST_CASE("times: the earliest ends the wait, never early; something that can be carried out comes before one that has passed") {
  simulate([] {
    weft::channel<int> c(1);
    std::optional<int> got;
    const weft::time_point begin = weft::detail::now();
    CHECK(weft::select(weft::on_timeout(30ms), weft::on_receive(c, got), weft::on_timeout(20ms)) == 2);
    CHECK(weft::detail::now() >= begin + 20ms);
    CHECK(weft::select(weft::on_receive(c, got), weft::on_time(begin)) == 1);
    CHECK(weft::select(weft::on_receive(c, got), weft::on_timeout(-1h)) == 1);
    c.send(1);
    CHECK(weft::select(weft::on_timeout(0s), weft::on_receive(c, got)) == 1);
    adjustable_clock::reading = 50ms;
    CHECK(weft::select(weft::on_receive(c, got), weft::on_time(adjustable_clock::time_point(40ms))) == 1);
    CHECK(weft::select(weft::on_receive(c, got), weft::on_timeout(std::chrono::hours::max()), weft::on_timeout(1ms)) == 2);
    weft::thread sender([&] { c.send(2); });
    CHECK(weft::select(weft::on_receive(c, got), weft::on_timeout(1h)) == 0);
    CHECK(got == 2);
    sender.join();
  });
}

TEST_CASE("a closed channel: a receive brings nothing, a send throws channel_closed, before and during the wait") {
  simulate([] {
    weft::channel<int> c;
    std::optional<int> got;
    weft::thread closer([&] { c.close(); });
    CHECK(weft::select(weft::on_receive(c, got), weft::on_timeout(1h)) == 0);
    CHECK(got == std::nullopt);
    closer.join();
    CHECK(weft::select(weft::on_receive(c, got)) == 0);
    CHECK_THROWS_AS(weft::select(weft::on_send(c, 1)), weft::channel_closed);

    weft::channel<int> d;
    weft::thread later([&] { d.close(); });
    CHECK_THROWS_AS(weft::select(weft::on_timeout(1h), weft::on_send(d, 1)), weft::channel_closed);
    later.join();
  });
}

TEST_CASE("one channel in several cases: it is waited for once in each, and a select does not meet itself") {
  simulate([] {
    weft::channel<int> c;
    std::optional<int> first;
    std::optional<int> second;
    int value = 3;
    CHECK(weft::select(weft::on_send(c, value), weft::on_receive(c, first), weft::on_timeout(1ms)) == 2);
    weft::thread sender([&] { c.send(1); });
    const std::size_t chosen = weft::select(weft::on_receive(c, first), weft::on_receive(c, second));
    CHECK(chosen < 2);
    CHECK(first.has_value() == (chosen == 0));
    CHECK(second.has_value() == (chosen == 1));
    sender.join();
    weft::thread receiver([&] { CHECK(c.receive() == 3); });
    CHECK(weft::select(weft::on_receive(c, first), weft::on_send(c, value)) == 1);
    receiver.join();
    CHECK_FALSE(c.try_receive().has_value());
  });
}

TEST_CASE("permits of semaphores") {
  simulate([] {
    weft::counting_semaphore<> none(0);
    weft::binary_semaphore one(1);
    CHECK(weft::select(weft::on_acquire(none), weft::on_acquire(one)) == 1);
    CHECK(weft::select(weft::on_acquire(none), weft::on_acquire(one), weft::otherwise()) == 2);
    weft::thread giver([&] { none.release(2); });
    CHECK(weft::select(weft::on_acquire(one), weft::on_acquire(none)) == 1);
    giver.join();
    CHECK(none.try_acquire());
    CHECK_FALSE(none.try_acquire());
    CHECK_FALSE(one.try_acquire());
  });
}

TEST_CASE("of cases that can all be carried out each is drawn as often as the others") {
  simulate([] {
    constexpr int rounds = 9000;
    std::array<weft::channel<int>, 3> full{weft::channel<int>(1), weft::channel<int>(1), weft::channel<int>(1)};
    weft::channel<int> empty;
    std::array<int, 4> drawn{};
    for (int i = 0; i < rounds; ++i) {
      for (auto& each : full) static_cast<void>(each.try_send(1));
      std::optional<int> got;
      ++drawn[weft::select(weft::on_receive(full[0], got), weft::on_receive(empty, got), weft::on_receive(full[1], got),
                           weft::on_receive(full[2], got))];
    }
    CHECK(drawn[1] == 0);
    for (const std::size_t i : {0U, 2U, 3U}) CHECK(std::abs(drawn[i] - rounds / 3) < rounds / 20);
  });
}

TEST_CASE("a list of ten thousand cases, used again and again") {
  simulate([] {
    constexpr std::size_t count = 10'000;
    std::vector<weft::channel<int>> channels(count);
    std::vector<std::optional<int>> got(count);
    std::vector<weft::select_case> cases;
    for (std::size_t i = 0; i < count; ++i) cases.push_back(weft::on_receive(channels[i], got[i]));
    for (const std::size_t i : {std::size_t{0}, count / 2, count - 1}) {
      weft::thread sender([&] { channels[i].send(static_cast<int>(i)); });
      CHECK(weft::select(cases) == i);
      CHECK(got[i] == static_cast<int>(i));
      sender.join();
    }
    CHECK(std::count_if(got.begin(), got.end(), [](const auto& g) { return g.has_value(); }) == 1);
  });
}

TEST_CASE("only what is there when all optionals have been emptied can be carried out") {
  struct thief {
    weft::channel<int>* from;
    explicit thief(weft::channel<int>& c) : from(&c) {}
    thief(thief&& other) noexcept : from(std::exchange(other.from, nullptr)) {}
    ~thief() {
      if (from != nullptr) static_cast<void>(from->try_receive());
    }
  };
  simulate([] {
    weft::channel<int> numbers(1);
    weft::channel<thief> thieves;
    std::optional<int> number;
    std::optional<thief> taken(numbers);
    numbers.send(1);
    CHECK(weft::select(weft::on_receive(numbers, number), weft::on_receive(thieves, taken), weft::otherwise()) == 2);
    CHECK(number == std::nullopt);
    numbers.send(2);
    CHECK(weft::select(weft::on_receive(thieves, taken), weft::on_receive(numbers, number), weft::otherwise()) == 1);
    CHECK(number == 2);
  });
}

TEST_CASE("a move that throws leaves the value where it is, and the channel as it was") {
  simulate([] {
    weft::channel<fragile> c(2);
    c.send(fragile(1));
    c.send(fragile(2));
    std::optional<fragile> got;
    fragile::throws = true;
    CHECK_THROWS_AS(weft::select(weft::on_receive(c, got)), std::runtime_error);
    fragile::throws = false;
    CHECK(weft::select(weft::on_receive(c, got)) == 0);
    CHECK(got->value == 1);
    fragile three(3);
    fragile::throws = true;
    CHECK_THROWS_AS(weft::select(weft::on_send(c, three)), std::runtime_error);
    fragile::throws = false;
    CHECK(c.size() == 1);
    CHECK(weft::select(weft::on_send(c, three)) == 0);
    CHECK(c.receive()->value == 2);
    CHECK(c.receive()->value == 3);
  });
}

TEST_CASE("a cancelled select has carried out nothing and waits nowhere any more") {
  simulate([] {
    weft::channel<int> a;
    weft::channel<int> b;
    weft::binary_semaphore s(0);
    int sent = 5;
    weft::thread waits([&] {
      std::optional<int> got;
      static_cast<void>(
          weft::select(weft::on_receive(a, got), weft::on_send(b, sent), weft::on_acquire(s), weft::on_timeout(1h)));
    });
    weft::this_thread::yield();
    waits.request_cancel();
    s.release();
    CHECK_FALSE(a.try_send(1));
    CHECK_FALSE(b.try_receive().has_value());
    waits.join();
    CHECK(s.try_acquire());
    weft::thread at_once([&] { static_cast<void>(weft::select(std::span<weft::select_case>())); });
    at_once.request_cancel();
    at_once.join();
  });
}

TEST_CASE("what came before the cancellation is not lost") {
  simulate([] {
    weft::channel<int> a;
    weft::channel<int> b;
    std::optional<int> got;
    weft::thread waits([&] {
      std::optional<int> nothing;
      CHECK(weft::select(weft::on_receive(b, nothing), weft::on_receive(a, got)) == 1);
    });
    weft::this_thread::yield();
    CHECK(a.try_send(1));
    waits.request_cancel();
    waits.join();
    CHECK(got == 1);
  });
}

TEST_CASE("select in a region of blocking(), and off a weft thread") {
  weft::run([] {
    weft::channel<int> c;
    weft::thread sender([&] { c.send(4); });
    std::optional<int> got;
    CHECK(weft::blocking([&] { return weft::select(weft::on_receive(c, got), weft::on_timeout(1h)); }) == 0);
    CHECK(got == 4);
    sender.join();
  });
  weft::channel<int> c(1);
  std::optional<int> got;
  try {
    static_cast<void>(weft::select(weft::on_receive(c, got)));
    FAIL("no error");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::operation_not_permitted);
    CHECK(std::string(error.what()).find("select") != std::string::npos);
  }
}

TEST_CASE("a deadlock names what is selected from") {
  try {
    weft::run([] {
      weft::channel<int> c;
      weft::binary_semaphore s(0);
      std::optional<int> got;
      static_cast<void>(weft::select(weft::on_receive(c, got), weft::on_acquire(s)));
    });
    FAIL("no deadlock");
  } catch (const weft::deadlock& deadlock) {
    CHECK(std::string(deadlock.what()).find("parked in select of channel receive 0x") != std::string::npos);
    CHECK(std::string(deadlock.what()).find(", semaphore 0x") != std::string::npos);
  }
}
