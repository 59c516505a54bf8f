// both-transfers
// Mailboxes between kernel threads: plain ones, schedulers, regions, threads with time slices.
#include "weft/mailbox.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/run_on.hpp"
#include "weft/thread.hpp"
#include "weft/upcall.hpp"

using namespace std::chrono_literals;

namespace {

std::error_code code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

// Says when the scheduler sleeps and only another kernel thread can wake it.
class source_that_sleeps : public simulated_source {
 public:
  source_that_sleeps() : simulated_source(0) {}
  void await_sleeps(int count) const {
    for (int seen = sleeps_; seen < count; seen = sleeps_) sleeps_.wait(seen);
  }

 protected:
  void wait_for_wake() override {
    ++sleeps_;
    sleeps_.notify_all();
    simulated_source::wait_for_wake();
  }

 private:
  std::atomic<int> sleeps_{0};
};

}  // namespace

TEST_CASE(
    "a kernel thread fills a mailbox from which weft threads take, whose scheduler sleeps meanwhile and is not deadlocked") {
  source_that_sleeps source;
  weft::options how;
  how.source = &source;
  weft::mailbox<int> m(4);
  std::thread sender([&] {
    source.await_sleeps(1);
    for (int i = 1; i <= 100; ++i) m.send(i);
    m.close();
  });
  int sum = 0;
  weft::run(how, [&] {
    std::vector<weft::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (const int value : m) sum += value;
      });
    }
    for (auto& t : threads) t.join();
  });
  sender.join();
  CHECK(sum == 5050);
}

namespace {

// Sleeps until it is let go on, whatever wakes it, and counts what does.
class source_that_is_held : public source_that_sleeps {
 public:
  void wake() noexcept override {
    ++wakes;
    source_that_sleeps::wake();
  }
  std::atomic<int> wakes{0};
  std::atomic<bool> go_on{false};

 private:
  void wait_for_wake() override {
    source_that_sleeps::wait_for_wake();
    go_on.wait(false);
  }
};

}  // namespace

TEST_CASE("a scheduler that sleeps is woken once for all values that come before it runs") {
  source_that_is_held source;
  weft::options how;
  how.source = &source;
  weft::mailbox<int> m(8);
  weft::mailbox<int> other(8);
  int sum = 0;
  int wakes = 0;
  std::thread sender([&] {
    source.await_sleeps(1);
    for (int i = 0; i < 8; ++i) {
      m.send(1);
      other.send(1);
    }
    wakes = source.wakes;
    source.go_on = true;
    source.go_on.notify_one();
  });
  weft::run(how, [&] {
    weft::thread second([&] {
      for (int i = 0; i < 8; ++i) sum += *other.receive();
    });
    for (int i = 0; i < 8; ++i) sum += *m.receive();
    second.join();
  });
  sender.join();
  CHECK(sum == 16);
  CHECK(wakes == 1);
}

TEST_CASE("weft threads fill a mailbox from which a kernel thread takes, and wait while it is full") {
  weft::mailbox<int> m(2);
  long sum = 0;
  std::thread receiver([&] {
    for (const int value : m) sum += value;
  });
  weft::run([&] {
    std::vector<weft::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        for (int i = 1; i <= 100; ++i) m.send(i);
      });
    }
    for (auto& t : threads) t.join();
    m.close();
  });
  receiver.join();
  CHECK(sum == 3 * 5050);
}

TEST_CASE("kernel threads alone use a mailbox with and without timeouts") {
  weft::mailbox<int> m(1);
  CHECK(!m.receive_for(1ms).has_value());
  CHECK(!m.receive_for(0s).has_value());
  CHECK(!m.receive_for(-1h).has_value());
  CHECK(!m.receive_until(weft::time_point::min()).has_value());
  CHECK(!m.receive_until(std::chrono::system_clock::now() + 1ms).has_value());
  int value = 1;
  CHECK(m.try_send_for(value, 1h));
  CHECK(!m.try_send_for(value, 1ms));
  CHECK(!m.try_send_until(value, weft::clock::now() + 1ms));
  std::atomic<int> sum{0};
  std::vector<std::thread> receivers;
  for (int i = 0; i < 3; ++i) {
    receivers.emplace_back([&] {
      while (const auto got = m.receive_for(std::chrono::hours::max())) sum += *got;
    });
  }
  std::vector<std::thread> senders;
  for (int i = 0; i < 3; ++i) {
    senders.emplace_back([&] {
      for (int n = 0; n < 100; ++n) CHECK(m.try_send_until(1, std::chrono::system_clock::now() + 1h));
    });
  }
  for (auto& t : senders) t.join();
  m.close();
  for (auto& t : receivers) t.join();
  CHECK(sum == 301);
}

TEST_CASE("a close wakes all who wait at either end, of every kind") {
  weft::mailbox<int> empty(1);
  weft::mailbox<int> full(1);
  full.send(0);
  std::atomic<int> ended{0};
  const auto receives = [&] {
    if (!empty.receive().has_value()) ++ended;
  };
  const auto sends = [&] {
    if (code_of([&] { full.send(1); }) == std::errc::broken_pipe) ++ended;
  };
  std::vector<std::thread> kernel;
  for (int i = 0; i < 2; ++i) kernel.emplace_back(receives);
  for (int i = 0; i < 2; ++i) kernel.emplace_back(sends);
  weft::run([&] {
    std::vector<weft::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(receives);
    for (int i = 0; i < 3; ++i) threads.emplace_back(sends);
    weft::this_thread::yield();
    empty.close();
    full.close();
    for (auto& t : threads) t.join();
  });
  for (auto& t : kernel) t.join();
  CHECK(ended == 10);
  CHECK(full.receive() == 0);
  CHECK(!full.receive().has_value());
}

TEST_CASE("in a region a mailbox works as elsewhere") {
  weft::run([] {
    weft::mailbox<int> there(1);
    weft::mailbox<int> back(1);
    weft::thread other([&] {
      for (const int value : there) back.send(value + 1);
      back.close();
    });
    const int sum = weft::blocking([&] {
      int got = 0;
      CHECK(!back.try_receive().has_value());
      CHECK(!back.receive_for(1us).has_value());
      for (int i = 0; i < 20; ++i) {
        there.send(i);
        got += *back.receive();
      }
      there.close();
      return got;
    });
    CHECK(sum == 210);
    other.join();
    CHECK(!back.receive().has_value());
    weft::thread stopped([&] {
      weft::blocking([&] {
        weft::mailbox<int> nobody(1);
        static_cast<void>(nobody.receive());
      });
      FAIL_CHECK("it was asked to end");
    });
    weft::this_thread::yield();
    stopped.request_cancel();
    stopped.join();
  });
}

TEST_CASE("threads with time slices use mailboxes") {
  const weft::options how = sliced();
  weft::mailbox<int> there(2);
  weft::mailbox<int> back(2);
  std::thread echo([&] {
    for (const int value : there) back.send(value);
    back.close();
  });
  weft::run(how, [&] {
    long sum = 0;
    weft::thread sends({.time_slice = true}, [&] {
      for (int i = 0; i < 2000; ++i) there.send(1);
      there.close();
    });
    weft::thread receives({.time_slice = true}, [&] {
      for (const int value : back) sum += value;
    });
    sends.join();
    receives.join();
    CHECK(sum == 2000);
  });
  echo.join();
}

TEST_CASE("a thread that always finds a value lets the others run") {
  weft::mailbox<int> m(16);
  std::atomic<bool> over{false};
  std::thread sender([&] {
    while (!over) static_cast<void>(m.try_send(1));
  });
  weft::run([&] {
    bool others_ran = false;
    weft::thread receives([&] {
      while (!others_ran) static_cast<void>(m.try_receive());
    });
    weft::thread other([&] { others_ran = true; });
    receives.join();
    other.join();
    over = true;
  });
  sender.join();
}

TEST_CASE("two schedulers toss a value through mailboxes") {
  constexpr int rounds = 500;
  weft::mailbox<int> to[2] = {weft::mailbox<int>(1), weft::mailbox<int>(1)};
  int last = 0;
  weft::run_on(2, [&](const weft::processors& all) {
    const std::size_t me = all.index();
    if (me == 0) to[1].send(0);
    for (int i = 0; i < rounds; ++i) {
      const int value = *to[me].receive();
      if (me == 0) last = value;
      if (me == 1 || i + 1 < rounds) to[1 - me].send(value + 1);
    }
  });
  CHECK(last == 2 * rounds - 1);
}

TEST_CASE("an exception in one scheduler ends the waits of the others at mailboxes") {
  weft::mailbox<int> never_used(1);
  const auto run = [&] {
    weft::run_on(2, [&](const weft::processors& all) {
      if (all.index() == 0) throw std::runtime_error("first");
      static_cast<void>(never_used.receive());
    });
  };
  CHECK_THROWS_AS(run(), std::runtime_error);
}

TEST_CASE("an observer of upcalls may send, but not wait") {
  weft::mailbox<int> m(1);
  std::error_code refused;
  weft::run([&] {
    const auto watch = weft::upcall::subscribe([&](auto) {
      if (m.try_send(1)) return;
      refused = code_of([&] { m.send(2); });
    });
    for (int i = 0; i < 3; ++i) weft::this_thread::sleep_for(1us);
  });
  CHECK(refused == std::errc::operation_not_permitted);
  CHECK(m.receive() == 1);
  CHECK(!m.try_receive().has_value());
}

TEST_CASE("who has received the last value, or sees the close, may destroy the mailbox at once") {
  for (int i = 0; i < 3000; ++i) {
    std::optional<weft::mailbox<int>> m(std::in_place, 1);
    std::thread sender([&mailbox = *m, i] {
      mailbox.send(1);
      if (i % 2 == 0) mailbox.close();
    });
    CHECK(m->receive() == 1);
    if (i % 2 == 0) CHECK(!m->receive().has_value());
    m.reset();
    sender.join();
  }
}

TEST_CASE("a mailbox that is destroyed while threads wait ends the program with a sentence") {
  const auto destroy = [] {
    weft::run([] {
      std::optional<weft::mailbox<int>> m(std::in_place, 1);
      weft::thread waits([&] { static_cast<void>(m->receive()); });
      weft::this_thread::yield();
      m.reset();
      waits.join();
    });
  };
  const child_end end = in_child(destroy);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("a mailbox was destroyed while threads wait on it; close it and join them first"));
}
