// both-transfers
// Mailboxes: what goes in comes out, what fails, who waits, and who is asked to end.
#include "weft/mailbox.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/cancel.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

// Its moves fail when they are told to.
struct fragile {
  explicit fragile(int n) : number(n) { ++alive; }
  fragile(fragile&& other) : number(other.number) {
    if (moves_left == 0) throw std::runtime_error("move");
    --moves_left;
    ++alive;
  }
  ~fragile() { --alive; }
  int number;
  static inline int moves_left = 0;
  static inline int alive = 0;
};

}  // namespace

TEST_CASE("values come out in the order in which they went in, and a full mailbox takes no more") {
  for (const std::size_t capacity : {1U, 2U, 3U, 4U, 5U, 8U}) {
    CAPTURE(capacity);
    weft::mailbox<int> m(capacity);
    CHECK(m.capacity() == capacity);
    int next_in = 0;
    int next_out = 0;
    for (std::size_t round = 0; round < 20; ++round) {
      for (std::size_t i = 0; i < capacity; ++i) CHECK(m.try_send(next_in++));
      CHECK(m.size() == capacity);
      int refused = -1;
      CHECK(!m.try_send(refused));
      for (std::size_t i = 0; i < capacity - round % capacity; ++i) CHECK(m.try_receive() == next_out++);
      for (std::size_t i = 0; i < capacity - round % capacity; ++i) CHECK(m.try_send(next_in++));
      for (std::size_t i = 0; i < capacity; ++i) CHECK(m.receive() == next_out++);
      CHECK(m.size() == 0);
      CHECK(!m.try_receive().has_value());
    }
  }
}

TEST_CASE("a mailbox for no value is refused with a sentence") {
  try {
    const weft::mailbox<int> m(0);
    FAIL_CHECK("it was made");
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::invalid_argument);
    CHECK(std::string(error.what()).find("a capacity of 0") != std::string::npos);
  }
}

TEST_CASE("a closed mailbox refuses values, gives out those it has, and can be closed again") {
  weft::mailbox<std::unique_ptr<int>> m(3);
  m.send(std::make_unique<int>(1));
  m.send(std::make_unique<int>(2));
  CHECK(!m.closed());
  m.close();
  m.close();
  CHECK(m.closed());
  auto kept = std::make_unique<int>(3);
  CHECK_THROWS_AS(static_cast<void>(m.try_send(kept)), weft::channel_closed);
  CHECK_THROWS_AS(static_cast<void>(m.try_send_for(kept, 0s)), weft::channel_closed);
  CHECK_THROWS_AS(m.send(std::make_unique<int>(4)), weft::channel_closed);
  CHECK(*kept == 3);
  int sum = 0;
  for (const auto& value : m) sum += *value;
  CHECK(sum == 3);
  CHECK(!m.receive().has_value());
  CHECK(!m.receive_for(1h).has_value());
  CHECK(!m.receive_until(std::chrono::system_clock::now() + 1h).has_value());
}

TEST_CASE("what is left in a mailbox is destroyed with it") {
  const auto counted = std::make_shared<int>(0);
  {
    weft::mailbox<std::shared_ptr<int>> m(4);
    for (int i = 0; i < 3; ++i) m.send(counted);
    static_cast<void>(m.receive());
    for (int i = 0; i < 2; ++i) m.send(counted);
    CHECK(counted.use_count() == 5);
  }
  CHECK(counted.use_count() == 1);
}

TEST_CASE("a move that throws loses no other value, and its place can be used again") {
  fragile::moves_left = 1000;
  {
    weft::mailbox<fragile> m(3);
    for (int round = 0; round < 5; ++round) {
      CHECK(m.try_send(fragile(1)));
      fragile fails(2);
      fragile::moves_left = 0;
      CHECK_THROWS_AS(static_cast<void>(m.try_send(fails)), std::runtime_error);
      fragile::moves_left = 1000;
      CHECK(m.try_send(fragile(3)));
      fragile::moves_left = 0;
      CHECK_THROWS_AS(static_cast<void>(m.try_receive()), std::runtime_error);  // this one is gone
      fragile::moves_left = 1000;
      CHECK(m.try_send(fragile(4)));
      CHECK(m.receive()->number == 3);
      CHECK(m.receive()->number == 4);
      CHECK(!m.try_receive().has_value());
    }
    CHECK(m.try_send(fragile(5)));
    fragile fails(6);
    fragile::moves_left = 0;
    CHECK_THROWS_AS(static_cast<void>(m.try_send(fails)), std::runtime_error);
    fragile::moves_left = 1000;
  }
  CHECK(fragile::alive == 0);
}

TEST_CASE("a receiver that waits is not ended by a send that fails, but by the next one") {
  fragile::moves_left = 1000;
  weft::run([] {
    weft::mailbox<fragile> m(2);
    int got = 0;
    weft::thread waits([&] { got = m.receive()->number; });
    weft::this_thread::yield();
    fragile fails(1);
    fragile::moves_left = 0;
    CHECK_THROWS_AS(static_cast<void>(m.try_send(fails)), std::runtime_error);
    fragile::moves_left = 1000;
    weft::this_thread::yield();
    m.send(fragile(2));
    waits.join();
    CHECK(got == 2);
  });
  CHECK(fragile::alive == 0);
}

TEST_CASE("other threads run on while one waits at either end") {
  weft::run([] {
    weft::mailbox<int> m(1);
    std::string story;
    weft::thread receiver([&] { story += "got " + std::to_string(*m.receive()) + ","; });
    weft::thread other([&] {
      story += "other,";
      m.send(1);
    });
    receiver.join();
    other.join();
    m.send(2);
    weft::thread sender([&] {
      m.send(3);
      story += "sent,";
    });
    weft::this_thread::yield();
    story += "main,";
    CHECK(m.receive() == 2);
    CHECK(m.receive() == 3);
    sender.join();
    CHECK(story == "other,got 1,main,sent,");
  });
}

TEST_CASE("those who wait are woken in the order in which they came") {
  weft::run([] {
    weft::mailbox<int> m(1);
    std::string order;
    std::vector<weft::thread> threads;
    for (const char name : {'a', 'b', 'c'}) {
      threads.emplace_back([&, name] {
        static_cast<void>(m.receive());
        order += name;
      });
    }
    weft::this_thread::yield();
    for (int i = 0; i < 3; ++i) m.send(i);
    for (auto& t : threads) t.join();
    CHECK(order == "abc");
  });
}

TEST_CASE("who was woken for a value that another one took is first in line again") {
  weft::run([] {
    weft::mailbox<int> m(2);
    std::string order;
    std::vector<weft::thread> threads;
    for (const char name : {'a', 'b'}) {
      threads.emplace_back([&, name] {
        static_cast<void>(m.receive());
        order += name;
      });
    }
    weft::this_thread::yield();
    m.send(1);  // wakes a
    CHECK(m.try_receive() == 1);
    weft::this_thread::yield();  // a finds nothing
    m.send(2);
    m.send(3);
    for (auto& t : threads) t.join();
    CHECK(order == "ab");
  });
}

TEST_CASE("the deadline of a weft thread's wait is its scheduler's") {
  simulation sim;
  weft::mailbox<int> m(1);
  sim.spawn("late", [&] {
    const auto begin = weft::detail::now();
    CHECK(!m.receive_for(5ms).has_value());
    CHECK(weft::detail::now() - begin == 5ms);
    m.send(1);
    int value = 2;
    CHECK(!m.try_send_for(value, 5ms));
    CHECK(value == 2);
    CHECK(weft::detail::now() - begin == 10ms);
    CHECK(m.receive_until(weft::time_point::min()) == 1);
    CHECK(!m.receive_for(0s).has_value());
  });
  sim.run();
}

TEST_CASE("a thread that is asked to end stops waiting, and no value is lost") {
  weft::run([] {
    weft::mailbox<int> m(1);
    bool cancelled = false;
    weft::thread receiver([&] {
      try {
        static_cast<void>(m.receive());
      } catch (const weft::cancelled&) {
        cancelled = true;
        throw;
      }
    });
    weft::this_thread::yield();
    m.send(7);  // it is chosen, and asked to end before it runs: the value has arrived, so it takes it or leaves it there
    receiver.request_cancel();
    receiver.join();
    CHECK(cancelled != !m.try_receive().has_value());
    weft::thread sender([&] {
      m.send(1);
      m.send(2);
    });
    weft::this_thread::yield();
    sender.request_cancel();
    sender.join();
    CHECK(m.try_receive() == 1);
    CHECK(!m.try_receive().has_value());
  });
}

TEST_CASE("one who was chosen and leaves lets the next one have what is there") {
  simulation sim;
  weft::mailbox<int> m(2);
  int got = 0;
  weft::thread* first = nullptr;
  sim.spawn("main of the story", [&] {
    weft::thread gives_up([&] { static_cast<void>(m.receive()); });
    weft::thread waits([&] { got = *m.receive(); });
    weft::this_thread::yield();
    first = &gives_up;
    // From another kernel thread: the choice is made before the scheduler learns of it, the request comes in between.
    std::thread([&] { m.send(5); }).join();
    first->request_cancel();
    gives_up.join();
    if (!m.closed() && got == 0) weft::this_thread::yield();
    m.close();
    waits.join();
  });
  try {
    sim.run();
  } catch (const std::bad_optional_access&) {
    FAIL_CHECK("the value was lost");
  }
  CHECK(got == 5);
}

TEST_CASE("deadlines over a stretch of code end a wait at a mailbox") {
  weft::run([] {
    weft::mailbox<int> m(1);
    CHECK(!weft::with_timeout(1ms, [&] { static_cast<void>(m.receive()); }));
    m.send(1);
    CHECK(!weft::with_timeout(1ms, [&] { m.send(2); }));
    CHECK(m.receive() == 1);
    CHECK(!m.try_receive().has_value());
  });
}
