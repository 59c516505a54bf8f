// both-transfers
// Cancel scopes, deadlines over stretches of code, and shields.
#include <doctest/doctest.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/blocking_calls.hpp"
#include "tests/error_of.hpp"
#include "tests/io_fixture.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/cancel.hpp"
#include "weft/channel.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

// Waits for ever, in one of many ways.
void wait_in_some_way(int way) {
  weft::channel<int> c;
  weft::binary_semaphore s(0);
  weft::thread never_ends;
  std::optional<int> got;
  switch (way) {
    case 0: return static_cast<void>(c.receive());
    case 1: return c.send(1);
    case 2: return s.acquire();
    case 3: return weft::this_thread::sleep_for(1h);
    case 4: return static_cast<void>(weft::select(weft::on_receive(c, got), weft::on_timeout(1h)));
    case 5: return wait_in_some_way(3);
    default: return static_cast<void>(c.receive_for(1h));
  }
}
constexpr int ways = 7;

}  // namespace

TEST_CASE("a deadline ends whatever the stretch waits in, and the thread goes on behind it") {
  simulate([] {
    for (int way = 0; way < ways; ++way) {
      CAPTURE(way);
      const weft::time_point begin = weft::detail::now();
      CHECK_FALSE(weft::with_timeout(10ms, [&] { wait_in_some_way(way); }));
      CHECK(weft::detail::now() >= begin + 10ms);
      CHECK_FALSE(weft::this_thread::cancel_requested());
      weft::this_thread::sleep_for(1ms);
    }
  });
}

TEST_CASE("a stretch that ends in time returns its value, and its deadline is forgotten") {
  simulate([] {
    CHECK(weft::with_timeout(10ms, [] { weft::this_thread::sleep_for(5ms); }));
    CHECK(weft::with_timeout(10ms, [] { return std::string("in time"); }) == "in time");
    CHECK(weft::with_timeout(1ms, [] {
            weft::this_thread::sleep_for(5ms);
            return 3;
          }) == std::nullopt);
    weft::this_thread::sleep_for(50ms);
    CHECK(weft::with_deadline(weft::detail::now() + 1h, [] { return 4; }) == 4);
    CHECK(weft::with_timeout(std::chrono::hours::max(), [] { return 5; }) == 5);
  });
}

TEST_CASE("a stretch that never waits is not ended, even with no time at all; one that waits is") {
  simulate([] {
    CHECK(weft::with_timeout(-1s, [] { return 1; }) == 1);
    CHECK_FALSE(weft::with_timeout(0s, [] { weft::this_thread::sleep_for(1h); }));
  });
}

TEST_CASE("another thread ends a stretch before it begins, in it, or not at all") {
  simulate([] {
    weft::cancel_scope early;
    early.request_cancel();
    CHECK_FALSE(early.run([] { weft::this_thread::sleep_for(1h); }));
    CHECK(early.run([] {}));

    weft::cancel_scope scope;
    weft::thread other([&] { scope.request_cancel(); });
    CHECK_FALSE(scope.run([] { weft::this_thread::sleep_for(1h); }));
    CHECK(scope.cancel_requested());
    other.join();

    weft::cancel_scope late;
    CHECK(late.run([] { weft::this_thread::sleep_for(1ms); }));
    late.request_cancel();
    weft::this_thread::sleep_for(1ms);
  });
}

TEST_CASE("of nested stretches the outer one ends the inner ones too, and the inner one only itself") {
  simulate([] {
    std::string story;
    weft::cancel_scope outer;
    weft::thread other;
    const bool ended = outer.run([&] {
      if (!weft::with_timeout(1ms, [] { weft::this_thread::sleep_for(1h); })) story += "inner ";
      other = weft::thread([&] { outer.request_cancel(); });
      const bool passed = weft::with_timeout(1h, [&] {
        try {
          weft::this_thread::sleep_for(1h);
        } catch (const weft::cancelled&) {
          story += "outer ";
          throw;
        }
      });
      story += passed ? "not" : "here";
    });
    CHECK_FALSE(ended);
    other.join();
    CHECK(story == "inner outer ");
  });
}

TEST_CASE("a thread that was asked to end is, through every scope") {
  simulate([] {
    std::string story;
    weft::thread t([&] {
      const bool ended = weft::with_timeout(1h, [] { weft::this_thread::sleep_for(1h); });
      story += ended ? "ended" : "caught";
    });
    weft::this_thread::yield();
    t.request_cancel();
    t.join();
    CHECK(story.empty());
  });
}

TEST_CASE("a shield keeps what is asked from outside away, and scopes inside it work") {
  simulate([] {
    std::string story;
    weft::thread t([&] {
      {
        const weft::shield whole;
        weft::this_thread::sleep_for(5ms);
        story += "slept ";
        CHECK_FALSE(weft::this_thread::cancel_requested());
        if (!weft::with_timeout(1ms, [] { weft::this_thread::sleep_for(1h); })) story += "inside ";
      }
      if (weft::this_thread::cancel_requested()) story += "outside";
      weft::this_thread::sleep_for(5ms);
      story += "not here";
    });
    weft::this_thread::sleep_for(1ms);
    t.request_cancel();
    t.join();
    CHECK(story == "slept inside outside");
  });
}

TEST_CASE("exceptions leave a stretch as they are, and the scope can be run again") {
  simulate([] {
    weft::cancel_scope scope;
    CHECK_THROWS_AS(scope.run([] { throw std::runtime_error("mine"); }), std::runtime_error);
    CHECK(scope.run([] {}));
    CHECK_THROWS_AS(scope.run([&] { scope.run([] {}); }), std::logic_error);
  });
}

TEST_CASE("destructors in a stretch that is ended may wait") {
  simulate([] {
    struct waits {
      bool& done;
      ~waits() {
        weft::this_thread::sleep_for(1ms);
        done = true;
      }
    };
    bool done = false;
    CHECK_FALSE(weft::with_timeout(1ms, [&] {
      const waits here{done};
      weft::this_thread::sleep_for(1h);
    }));
    CHECK(done);
  });
}

TEST_CASE("real waits: a pipe and a lock are given up at once, a region at its end") {
  weft::run([] {
    weft::pipe pipe;
    std::array<char, 1> byte{};
    CHECK_FALSE(weft::with_timeout(1ms, [&] { pipe.reader.read(byte); }));
    pipe.writer.write(std::string_view("x"));
    CHECK(weft::with_timeout(1h, [&] { return pipe.reader.read(byte); }) == 1);

    weft::mutex mutex;
    mutex.lock();
    weft::thread waits([&] { CHECK_FALSE(weft::with_timeout(1ms, [&] { const std::lock_guard hold(mutex); })); });
    waits.join();
    mutex.unlock();

    const pipe_pair plain{O_CLOEXEC};
    weft::cancel_scope scope;
    weft::thread other([&] {
      scope.request_cancel();
      put(plain[1], "x");
    });
    char c = 0;
    bool read = false;
    CHECK_FALSE(scope.run([&] { weft::blocking([&] { read = ::read(plain[0], &c, 1) == 1; }); }));
    CHECK(read);
    other.join();
    CHECK(weft::blocking([] { return weft::with_timeout(1ms, [] { weft::this_thread::sleep_for(1h); }); }) == false);
  });
}

TEST_CASE("off a weft thread a scope is an error") {
  CHECK(code_of([] { static_cast<void>(weft::cancel_scope().run([] {})); }) == std::errc::operation_not_permitted);
  CHECK(code_of([] { const weft::shield whole; }) == std::errc::operation_not_permitted);
}
