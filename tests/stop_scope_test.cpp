// both-transfers
// std::stop_token and weft's structure: tokens that end a stretch, and tokens that scopes and nurseries hand out.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/cancel.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/nursery.hpp"
#include "weft/run_on.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

void sleep_long() { weft::this_thread::sleep_for(1h); }

// Waits for a stop as code does that knows only the standard library's tokens.
bool stopped_in_time(const std::stop_token& token) {
  weft::mutex mutex;
  weft::condition_variable_any condition;
  std::unique_lock hold(mutex);
  const weft::shield whole;  // only the token ends the wait
  condition.wait_for(hold, token, 10min, [] { return false; });
  return token.stop_requested();
}

}  // namespace

TEST_CASE("a stop that another thread requests ends the stretch, before it begins, in it, or not at all") {
  simulate([] {
    std::stop_source early;
    early.request_stop();
    CHECK_FALSE(weft::with_stop_token(early.get_token(), sleep_long));
    CHECK(weft::with_stop_token(early.get_token(), [] { return 1; }) == 1);

    std::stop_source source;
    weft::thread other([&] { source.request_stop(); });
    weft::cancel_scope scope(source.get_token());
    CHECK_FALSE(scope.cancel_requested());
    CHECK_FALSE(scope.run(sleep_long));
    CHECK(scope.cancel_requested());
    CHECK_FALSE(scope.expired());
    other.join();

    std::stop_source late;
    CHECK(weft::with_stop_token(late.get_token(), [] { weft::this_thread::sleep_for(1ms); }));
    late.request_stop();
    weft::this_thread::sleep_for(1ms);
    CHECK(weft::with_stop_token({}, [] { return 2; }) == 2);
  });
}

TEST_CASE("a stop and a deadline: whichever comes first; exceptions and values pass") {
  simulate([] {
    std::stop_source source;
    weft::cancel_scope scope(source.get_token(), weft::detail::now() + 5ms);
    CHECK_FALSE(scope.run(sleep_long));
    CHECK(scope.expired());
    CHECK_FALSE(source.stop_requested());
    CHECK_THROWS_AS(static_cast<void>(weft::with_stop_token(source.get_token(), [] { throw std::runtime_error("mine"); })),
                    std::runtime_error);
    CHECK(weft::with_stop_token(source.get_token(), [] { return std::string("value"); }) == "value");
  });
}

TEST_CASE("a stop requested by a kernel thread, another scheduler or a region ends real waits") {
  std::stop_source first;
  std::stop_source second;
  weft::run_on(2, [&](const weft::processors& all) {
    if (all.index() == 1) {
      first.request_stop();
      return;
    }
    weft::pipe pipe;
    std::array<char, 1> byte{};
    CHECK_FALSE(weft::with_stop_token(first.get_token(), [&] { pipe.reader.read(byte); }));
    std::thread kernel([&] { second.request_stop(); });
    CHECK_FALSE(weft::with_stop_token(second.get_token(), [&] { pipe.reader.read(byte); }));
    kernel.join();
    std::stop_source third;
    weft::thread region([&] { weft::blocking([&] { third.request_stop(); }); });
    CHECK_FALSE(weft::with_stop_token(third.get_token(), [&] { pipe.reader.read(byte); }));
    region.join();
    CHECK_FALSE(weft::blocking([&] { return weft::with_stop_token(third.get_token(), sleep_long); }));
    CHECK(weft::blocking([&] { return weft::with_stop_token(third.get_token(), weft::this_thread::cancel_requested); }) == true);
    pipe.writer.write(std::string_view("x"));
    CHECK(pipe.reader.read(byte) == 1);
  });
}

TEST_CASE("as long as a stop is possible there is no deadlock, and one without a state makes no difference") {
  std::stop_source source;
  std::atomic<bool> waits{false};
  std::thread kernel([&] {
    while (!waits.load()) std::this_thread::yield();
    source.request_stop();
  });
  weft::run([&] {
    weft::binary_semaphore never(0);
    CHECK_FALSE(weft::with_stop_token(source.get_token(), [&] {
      waits.store(true);
      never.acquire();
    }));
  });
  kernel.join();
  CHECK_THROWS_AS(weft::run([] {
                    weft::binary_semaphore never(0);
                    static_cast<void>(weft::with_stop_token(std::stop_token(), [&] { never.acquire(); }));
                  }),
                  weft::deadlock);
}

TEST_CASE(
    "a scope's token is stopped by its request_cancel, before that returns, its deadline, one around it, and the thread's end") {
  simulate([] {
    std::optional<std::stop_token> token;
    weft::cancel_scope asked;
    token = asked.stop_token();
    CHECK_FALSE(token->stop_requested());
    weft::thread asks([&] {
      asked.request_cancel();
      CHECK(token->stop_requested());
    });
    CHECK_FALSE(asked.run([&] {
      CHECK(asked.stop_token() == *token);
      sleep_long();
    }));
    asks.join();
    CHECK(asked.stop_token().stop_requested());

    weft::deadline_scope soon(5ms);
    const weft::shield not_me;
    weft::cancel_scope outer;
    weft::cancel_scope inner;
    weft::thread watches([&] { CHECK(stopped_in_time(inner.stop_token())); });
    CHECK_FALSE(soon.run([&] {
      CHECK(stopped_in_time(soon.stop_token()));
      sleep_long();
    }));
    CHECK_FALSE(outer.run([&] {
      static_cast<void>(inner.run([&] {
        weft::this_thread::yield();
        outer.request_cancel();
        sleep_long();
      }));
    }));
    watches.join();

    std::optional<std::stop_token> of_thread;
    weft::thread ends({.start = weft::start::now}, [&] {
      weft::cancel_scope scope;
      of_thread = scope.stop_token();
      static_cast<void>(scope.run(sleep_long));
    });
    ends.request_cancel();
    CHECK(stopped_in_time(*of_thread));
    ends.join();
  });
}

TEST_CASE(
    "a shield inside a scope keeps the thread from its end, and the scope's token is stopped all the same; one outside both") {
  simulate([] {
    weft::cancel_scope scope;
    const auto token = scope.stop_token();
    weft::thread t([&] {
      static_cast<void>(scope.run([&] {
        const weft::shield whole;
        CHECK(stopped_in_time(token));
      }));
    });
    weft::this_thread::yield();
    scope.request_cancel();
    t.join();

    weft::cancel_scope shielded;
    weft::thread u({.start = weft::start::now}, [&] {
      const weft::shield whole;
      CHECK(shielded.run([&] {
        const auto its = shielded.stop_token();
        weft::this_thread::sleep_for(5ms);
        CHECK_FALSE(its.stop_requested());
      }));
    });
    u.request_cancel();
    u.join();
  });
}

TEST_CASE(
    "a token that is asked for when the end was asked for already is stopped, and a scope that is run again has a new one") {
  simulate([] {
    weft::cancel_scope scope;
    scope.request_cancel();
    CHECK(scope.stop_token().stop_requested());

    weft::cancel_scope outer;
    static_cast<void>(outer.run([&] {
      outer.request_cancel();
      weft::cancel_scope inner;
      CHECK(inner.run([&] { CHECK(stopped_in_time(inner.stop_token())); }));
      const auto used = inner.stop_token();
      CHECK_FALSE(used.stop_requested());
      CHECK(inner.run([&] { CHECK(stopped_in_time(used)); }));
    }));

    std::stop_source source;
    weft::cancel_scope by_token(source.get_token());
    const auto handed_out = by_token.stop_token();
    weft::thread requests([&] { source.request_stop(); });
    CHECK_FALSE(by_token.run(sleep_long));
    requests.join();
    CHECK(stopped_in_time(handed_out));
  });
}

TEST_CASE(
    "a nursery's token is stopped with its children: by request_cancel, an error, the parent's end; then it has a new one") {
  simulate([] {
    weft::nursery home;
    const auto first = home.stop_token();
    home.spawn([&] { CHECK(stopped_in_time(first)); });
    weft::this_thread::yield();
    CHECK(home.stop_token() == first);
    home.request_cancel();
    CHECK(first.stop_requested());
    home.join();
    const auto second = home.stop_token();
    CHECK_FALSE(second.stop_requested());
    home.spawn([] { throw std::runtime_error("child"); });
    CHECK_THROWS_AS(home.join(), std::runtime_error);
    CHECK(second.stop_requested());
    const auto third = home.stop_token();
    home.spawn([&] { CHECK(stopped_in_time(third)); });
    CHECK_FALSE(weft::with_timeout(1ms, [&] { home.join(); }));
    CHECK(third.stop_requested());
    home.request_cancel();
    CHECK(home.stop_token().stop_requested());
    home.join();
  });
}

TEST_CASE("deadline_scope counts from where it is made, tells when its time has come, and takes any clock") {
  simulate([] {
    weft::deadline_scope soon(10ms);
    CHECK(soon.deadline() == weft::detail::now() + 10ms);
    CHECK(soon.run([] { weft::this_thread::sleep_for(6ms); }));
    CHECK_FALSE(soon.expired());
    CHECK_FALSE(soon.run([] { weft::this_thread::sleep_for(6ms); }));
    CHECK(soon.expired());
    weft::deadline_scope later(weft::detail::now() + 1h);
    weft::thread other([&] { later.request_cancel(); });
    CHECK_FALSE(later.run(sleep_long));
    CHECK_FALSE(later.expired());
    other.join();
    wall_clock::put(100);
    weft::deadline_scope on_the_wall(wall_clock::time_point(101s));
    CHECK(on_the_wall.deadline() == weft::detail::now() + 1s);
  });
  CHECK(code_of([] { weft::deadline_scope none(1s); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { static_cast<void>(weft::cancel_scope(std::stop_source().get_token()).run([] {})); }) ==
        std::errc::operation_not_permitted);
}

TEST_CASE(
    "kernel threads that request stops while stretches begin and end: each ends once, and no word reaches one that is over") {
  constexpr int rounds = 400;
  std::vector<std::stop_source> sources(rounds);
  std::atomic<int> begun{0};
  std::thread kernel([&] {
    for (int i = 0; i < rounds; ++i) {
      while (begun.load(std::memory_order_acquire) <= i) std::this_thread::yield();
      for (int wait = i * 37 % 3000; wait > 0; --wait) asm volatile("" ::: "memory");
      sources[static_cast<std::size_t>(i)].request_stop();
    }
  });
  weft::run([&] {
    int ended = 0;
    for (int i = 0; i < rounds; ++i) {
      const auto token = sources[static_cast<std::size_t>(i)].get_token();
      begun.store(i + 1, std::memory_order_release);
      if (i % 3 == 0) {
        if (!weft::with_stop_token(token, sleep_long)) ++ended;
      } else {
        weft::cancel_scope scope(token, weft::detail::now() + std::chrono::microseconds(i % 5));
        static_cast<void>(scope.run([&] { weft::this_thread::sleep_for(std::chrono::microseconds(i % 7)); }));
      }
    }
    CHECK(ended == (rounds + 2) / 3);
    CHECK_FALSE(weft::this_thread::cancel_requested());
  });
  kernel.join();
}
