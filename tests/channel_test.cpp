// Channels: order, close, drain, deadlines, cancellation, types that throw.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/channel.hpp"

using namespace std::chrono_literals;

namespace {

// Counts its living copies; moving one whose fuse is lit throws.
struct counted {
  static inline int alive = 0;
  static inline bool throws = false;
  int value;
  explicit counted(int v) : value(v) { ++alive; }
  counted(counted&& other) : value(other.value) {  // NOLINT: may throw
    if (throws) throw std::runtime_error("moved");
    ++alive;
  }
  counted& operator=(counted&&) = delete;
  ~counted() { --alive; }
};

}  // namespace

TEST_CASE("an unbuffered send waits until its value was taken") {
  simulate([] {
    weft::channel<int> c;
    std::string order;
    weft::thread sender([&] {
      order += 's';
      c.send(1);
      order += 'S';
    });
    weft::this_thread::yield();
    order += 'r';
    CHECK(c.receive() == 1);
    sender.join();
    CHECK(order == "srS");
  });
}

TEST_CASE("values arrive in the order in which they were sent, for every capacity") {
  for (const std::size_t capacity : {0U, 1U, 2U, 3U, 7U, 128U}) {
    for (const std::uint64_t seed : seeds(10)) {
      CAPTURE(capacity);
      CAPTURE(seed);
      simulate(seed, [capacity] {
        weft::channel<int> c(capacity);
        weft::thread sender([&] {
          for (int i = 0; i < 300; ++i) {
            c.send(i);
            if (i % 5 == 0) weft::this_thread::yield();
          }
          c.close();
        });
        int expected = 0;
        for (const int value : c) {
          CHECK(value == expected);
          ++expected;
          if (value % 3 == 0) weft::this_thread::yield();
        }
        CHECK(expected == 300);
        sender.join();
      });
    }
  }
}

TEST_CASE("many senders and many receivers lose and double nothing") {
  for (const std::size_t capacity : {0U, 1U, 16U}) {
    for (const std::uint64_t seed : seeds(20)) {
      CAPTURE(capacity);
      CAPTURE(seed);
      simulate(seed, [capacity] {
        weft::channel<int> c(capacity);
        std::vector<int> seen(400, 0);
        std::vector<weft::thread> senders;
        std::vector<weft::thread> receivers;
        for (int s = 0; s < 4; ++s) {
          senders.emplace_back([&, s] {
            for (int i = 0; i < 100; ++i) {
              c.send(s * 100 + i);
              if (i % 7 == s) weft::this_thread::sleep_for(1us);
            }
          });
        }
        for (int r = 0; r < 3; ++r) {
          receivers.emplace_back([&] {
            while (const auto value = c.receive()) ++seen[static_cast<std::size_t>(*value)];
          });
        }
        for (auto& t : senders) t.join();
        c.close();
        for (auto& t : receivers) t.join();
        CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
      });
    }
  }
}

TEST_CASE("close drains: receivers get what is there, then nothing; senders are refused") {
  simulate([] {
    weft::channel<int> c(2);
    c.send(1);
    c.send(2);
    bool refused = false;
    weft::thread late([&] {
      try {
        c.send(3);
      } catch (const weft::channel_closed& error) {
        refused = error.code() == std::errc::broken_pipe;
      }
    });
    weft::this_thread::yield();
    c.close();
    c.close();
    late.join();
    CHECK(refused);
    CHECK(c.receive() == 1);
    CHECK(c.receive() == 2);
    CHECK_FALSE(c.receive().has_value());
    CHECK(c.closed());
    CHECK_THROWS_AS(c.send(4), weft::channel_closed);
    CHECK_THROWS_AS(static_cast<void>(c.try_send(4)), weft::channel_closed);
  });
}

TEST_CASE("close wakes every receiver that waits") {
  simulate([] {
    weft::channel<int> c;
    int woken = 0;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 5; ++i) {
      threads.emplace_back([&] { woken += c.receive().has_value() ? 100 : 1; });
    }
    weft::this_thread::yield();
    c.close();
    for (auto& t : threads) t.join();
    CHECK(woken == 5);
  });
}

TEST_CASE("tries and deadlines take nothing from a value that was not sent") {
  simulate([] {
    weft::channel<std::unique_ptr<int>> c(1);
    auto one = std::make_unique<int>(1);
    CHECK(c.try_send(one));
    CHECK(one == nullptr);
    auto two = std::make_unique<int>(2);
    CHECK_FALSE(c.try_send(two));
    CHECK_FALSE(c.try_send_for(two, 1ms));
    REQUIRE(two != nullptr);
    CHECK(**c.try_receive() == 1);
    CHECK_FALSE(c.try_receive().has_value());
    CHECK_FALSE(c.receive_for(1ms).has_value());
    CHECK(c.try_send_until(two, weft::clock::now()));
    CHECK(**c.receive() == 2);
    CHECK(c.size() == 0);
    CHECK(c.capacity() == 1);
  });
}

TEST_CASE("timed sends take temporaries, and points in time may be on any clock and as far away as can be said") {
  simulate([] {
    weft::channel<std::unique_ptr<int>> c(1);
    CHECK(c.try_send_for(std::make_unique<int>(1), 1ms));
    CHECK_FALSE(c.try_send_for(std::make_unique<int>(2), 1ms));
    CHECK_FALSE(c.try_send_until(std::make_unique<int>(2), std::chrono::system_clock::now() - 1s));
    CHECK(**c.receive_until(std::chrono::system_clock::now()) == 1);
    CHECK(c.try_send_until(std::make_unique<int>(3), std::chrono::time_point<weft::clock, std::chrono::hours>::max()));
    CHECK(**c.receive() == 3);
    CHECK_FALSE(c.receive_until(std::chrono::system_clock::now() - 1s).has_value());
    weft::thread sender([&] { c.send(std::make_unique<int>(4)); });
    CHECK(**c.receive_until(std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>::max()) == 4);
    sender.join();
  });
}

TEST_CASE("a cancelled sender's value reaches nobody, a cancelled receiver takes none") {
  simulate([] {
    weft::channel<int> c;
    weft::thread sender([&] { c.send(1); });
    weft::this_thread::yield();
    sender.request_cancel();
    sender.join();
    CHECK_FALSE(c.try_receive().has_value());
    weft::thread receiver([&] { c.receive(); });
    weft::this_thread::yield();
    receiver.request_cancel();
    receiver.join();
    CHECK_FALSE(c.try_send(2));
  });
}

TEST_CASE("a value that arrived before the cancellation is not lost") {
  simulate([] {
    weft::channel<int> c;
    int got = 0;
    weft::thread receiver([&] { got = c.receive().value_or(-1); });
    weft::this_thread::yield();
    c.send(7);
    receiver.request_cancel();
    receiver.join();
    CHECK(got == 7);
  });
}

TEST_CASE("a move that throws loses no value, and none leaks") {
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{2}}) {
    CAPTURE(capacity);
    simulate([capacity] {
      weft::channel<counted> c(capacity);
      std::vector<weft::thread> senders;
      for (int i = 0; i < 4; ++i) {
        senders.emplace_back([&c, i] { c.send(counted(i)); });
      }
      weft::this_thread::yield();
      counted::throws = true;
      CHECK_THROWS_AS(c.receive(), std::runtime_error);
      CHECK_THROWS_AS(c.receive(), std::runtime_error);
      counted::throws = false;
      for (int i = 0; i < 4; ++i) {
        const std::optional<counted> value = c.receive();
        REQUIRE(value.has_value());
        CHECK(value->value == i);
      }
      for (auto& t : senders) t.join();
    });
    CHECK(counted::alive == 0);
  }
}

TEST_CASE("a destructor that waits loses, doubles and damages no value, for every capacity") {
  struct waits_at_the_end {
    std::unique_ptr<int> value;
    int yields;
    waits_at_the_end(int v, int y) : value(std::make_unique<int>(v)), yields(y) {}
    waits_at_the_end(waits_at_the_end&&) noexcept = default;
    waits_at_the_end& operator=(waits_at_the_end&&) = delete;
    ~waits_at_the_end() {
      for (int i = 0; i < yields; ++i) weft::this_thread::yield();
    }
  };
  for (const std::size_t capacity : {0U, 1U, 2U, 3U, 7U}) {
    CAPTURE(capacity);
    simulate([capacity] {
      weft::channel<waits_at_the_end> c(capacity);
      std::vector<int> seen(300, 0);
      std::vector<weft::thread> senders;
      std::vector<weft::thread> receivers;
      for (int s = 0; s < 3; ++s) {
        senders.emplace_back([&, s] {
          for (int i = 0; i < 100; ++i) c.send(waits_at_the_end(s * 100 + i, (i * 7 + s) % 5));
        });
      }
      for (int r = 0; r < 4; ++r) {
        receivers.emplace_back([&] {
          while (const auto got = c.receive()) {
            REQUIRE(got->value != nullptr);
            ++seen[static_cast<std::size_t>(*got->value)];
          }
        });
      }
      for (auto& t : senders) t.join();
      c.close();
      for (auto& t : receivers) t.join();
      CHECK(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }));
      CHECK(c.size() == 0);
    });
  }
}

TEST_CASE("values left in a channel are destroyed with it") {
  simulate([] {
    weft::channel<counted> c(8);
    for (int i = 0; i < 5; ++i) c.send(counted(i));
    c.receive();
    c.send(counted(9));
  });
  CHECK(counted::alive == 0);
}
