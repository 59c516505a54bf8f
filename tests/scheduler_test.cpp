// The scheduler on a simulated kernel: order, upcalls, time, ends.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"

using namespace std::chrono_literals;

TEST_CASE("a thread that blocks gives the processor to the next ready thread") {
  simulation sim;
  sim.spawn("reader", [&] { sim.block_on("disk"); });
  sim.spawn("other", [] {});
  sim.run();
  CHECK(sim.trace() ==
        "run reader | blocked reader disk | run other | exit other | unblocked reader disk | run reader | exit reader");
}

TEST_CASE("threads run in the order in which they became ready") {
  simulation sim;
  for (const char* name : {"a", "b", "c"}) {
    sim.spawn(name, [] { weft::this_thread::yield(); });
  }
  sim.run();
  CHECK(sim.trace() ==
        "run a | yield a | run b | yield b | run c | yield c | run a | exit a | run b | exit b | run c | exit c");
}

TEST_CASE("every block has its unblock, whatever the order of completions") {
  for (const std::uint64_t seed : seeds(200)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(seed % 7);
    const weft::upcall::tally counts = weft::run(how, [&] {
      std::vector<weft::thread> threads;
      for (int i = 0; i < 20; ++i) {
        threads.emplace_back([] {
          for (int k = 0; k < 10; ++k) {
            weft::upcall::operation request;
            request.length = 7;
            CHECK(weft::detail::perform(request) == 7);
          }
        });
      }
      for (auto& t : threads) t.join();
      return weft::upcall::counts();
    });
    using weft::upcall::kind;
    CHECK(counts.of(kind::blocked) == counts.of(kind::unblocked));
    CHECK(counts.of(kind::processor_added) == 1);
  }
}

TEST_CASE("a thread that never waits does not keep upcalls from being taken") {
  simulation sim(1);
  bool done = false;
  sim.spawn("waits", [&] {
    sim.block_on("disk");
    done = true;
  });
  sim.spawn("spins", [&] {
    while (!done) {
      sim.source.advance(100us);
      weft::this_thread::yield();
    }
  });
  sim.run();
  CHECK(done);
}

TEST_CASE("operations that complete at once count as switches, so timers still expire") {
  struct instant final : weft::upcall::source {
    void attach(weft::upcall::handler&) override {}
    bool start(weft::upcall::operation& request) override {
      time += 1us;
      request.result = 1;
      return true;
    }
    void cancel(weft::upcall::operation&) override {}
    void poll() override {}
    void wait(weft::time_point) override {}
    void wake() noexcept override {}
    [[nodiscard]] std::size_t pending() const noexcept override { return 0; }
    [[nodiscard]] bool wants_poll() const noexcept override { return false; }
    [[nodiscard]] weft::time_point now() const noexcept override { return time; }
    [[nodiscard]] std::string_view name() const noexcept override { return "instant"; }
    weft::time_point time{1h};
  } source;
  weft::options how;
  how.source = &source;
  weft::run(how, [&] {
    bool rang = false;
    weft::thread alarm([&] {
      weft::this_thread::sleep_for(1ms);
      rang = true;
    });
    int operations = 0;
    while (!rang && operations < 1'000'000) {
      weft::upcall::operation request;
      weft::detail::perform(request);
      ++operations;
    }
    CHECK(rang);
    CHECK(operations < 2000);
    alarm.join();
  });
}

TEST_CASE("sleepers wake in the order of their deadlines and never early") {
  for (const std::uint64_t seed : seeds(20)) {
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    std::vector<int> order;
    weft::run(how, [&] {
      std::vector<weft::thread> threads;
      for (int i = 0; i < 100; ++i) {
        const int ms = (i * 37) % 100;
        threads.emplace_back([&, ms] {
          const weft::time_point due = source.now() + std::chrono::milliseconds(ms + 1);
          weft::this_thread::sleep_until(due);
          CHECK(source.now() >= due);
          order.push_back(ms);
        });
      }
      for (auto& t : threads) t.join();
    });
    CHECK(std::is_sorted(order.begin(), order.end()));
    CHECK(order.size() == 100);
  }
}

TEST_CASE("an operation with a deadline ends with timed_out only after the kernel has let go") {
  simulation sim;
  std::int32_t result = 0;
  sim.spawn("reader", [&] { result = sim.block_on("disk", weft::detail::now()); });
  sim.run();
  CHECK((result == -ETIMEDOUT || result == 1));
}

TEST_CASE("run returns what its function returns, also what only moves") {
  CHECK(simulate([] { return 42; }) == 42);
  auto moved = simulate([] { return std::make_unique<int>(7); });
  CHECK(*moved == 7);
  simulate([] {});
}

TEST_CASE("run passes its arguments on, and throws what its function throws") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  CHECK(weft::run(how, [](int a, const std::string& b) { return b + std::to_string(a); }, 5, "x") == "x5");
  CHECK_THROWS_WITH_AS(simulate([] { throw std::runtime_error("out"); }), "out", std::runtime_error);
}

TEST_CASE("run inside run is refused") {
  simulate([] {
    bool refused = false;
    try {
      simulate([] {});
    } catch (const std::system_error& error) {
      refused = error.code() == std::errc::operation_not_permitted;
    }
    CHECK(refused);
  });
}

TEST_CASE("schedulers can follow one another, and live side by side on several kernel threads") {
  for (int i = 0; i < 3; ++i) CHECK(simulate([i] { return i; }) == i);
  std::vector<std::thread> kernel_threads;
  std::vector<int> sums(4);
  for (std::size_t k = 0; k < sums.size(); ++k) {
    kernel_threads.emplace_back([&sums, k] {
      sums[k] = simulate(k, [] {
        weft::channel<int> numbers;
        weft::thread sender([&] {
          for (int i = 1; i <= 100; ++i) numbers.send(i);
          numbers.close();
        });
        int sum = 0;
        for (int n : numbers) sum += n;
        sender.join();
        return sum;
      });
    });
  }
  for (auto& t : kernel_threads) t.join();
  for (int s : sums) CHECK(s == 5050);
}

TEST_CASE("threads left when main returns are cancelled, unwound and waited for") {
  std::vector<std::string> story;
  struct teller {
    std::vector<std::string>& to;
    std::string what;
    ~teller() { to.push_back(what); }
  };
  simulate([&] {
    weft::thread([&] {
      teller t{story, "sleeper unwound"};
      weft::this_thread::sleep_for(1h);
    }).detach();
    weft::thread([&] {
      teller t{story, "receiver unwound"};
      weft::channel<int> nobody_sends;
      nobody_sends.receive();
    }).detach();
    weft::thread([&] {
      teller t{story, "reader unwound"};
      weft::upcall::operation request;
      weft::detail::perform(request);
      weft::detail::perform(request);
      weft::detail::perform(request);
    }).detach();
    weft::this_thread::yield();
  });
  CHECK(story.size() == 3);
}

TEST_CASE("a thread that catches its cancellation and blocks again gets it again; destructors may block") {
  bool again = false;
  bool destructor_waited = false;
  simulate([&] {
    weft::thread t([&] {
      struct blocks_at_the_end {
        bool& done;
        ~blocks_at_the_end() {
          weft::this_thread::sleep_for(1ms);
          done = true;
        }
      };
      try {
        weft::this_thread::sleep_for(1h);
      } catch (const weft::cancelled&) {
      }
      try {
        const blocks_at_the_end b{destructor_waited};
        weft::this_thread::sleep_for(1h);
      } catch (const weft::cancelled&) {
        again = true;
        throw;
      }
    });
    weft::this_thread::yield();
    t.request_cancel();
    t.join();
  });
  CHECK(again);
  CHECK(destructor_waited);
}

TEST_CASE("a cancelled thread that tries to wait for ever keeps no other thread from running") {
  simulate([] {
    weft::channel<int> silent;
    for (int kind = 0; kind < 3; ++kind) {
      CAPTURE(kind);
      bool told = false;
      int tries = 0;
      weft::thread stubborn([&] {
        for (; !told && tries < 1'000'000; ++tries) {
          try {
            weft::upcall::operation request;
            if (kind == 0) weft::this_thread::sleep_for(1ms);
            if (kind == 1) silent.receive();
            if (kind == 2) weft::detail::perform(request);
          } catch (const weft::cancelled&) {  // it ought to let it pass
          }
        }
      });
      stubborn.request_cancel();
      weft::this_thread::yield();
      told = true;
      stubborn.join();
      CHECK(tries < 1000);
    }
  });
}

TEST_CASE("posts from other kernel threads run as threads, all of them, in each poster's order") {
  constexpr int posters = 4;
  constexpr int posts = 500;
  std::vector<std::vector<int>> seen(posters);
  simulate([&] {
    int total = 0;
    std::vector<std::thread> kernel_threads;
    for (int p = 0; p < posters; ++p) {
      kernel_threads.emplace_back([&, p, way = weft::make_poster()] {
        for (int i = 0; i < posts; ++i) {
          way.post([&, p, i] {
            seen[static_cast<std::size_t>(p)].push_back(i);
            ++total;
          });
        }
      });
    }
    while (total < posters * posts) weft::this_thread::sleep_for(1ms);
    for (auto& t : kernel_threads) t.join();
  });
  for (const auto& s : seen) {
    CHECK(s.size() == posts);
    CHECK(std::is_sorted(s.begin(), s.end()));
  }
}

TEST_CASE("posts do not count against the limit of threads, and harm nobody who does") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  how.max_threads = 1;
  bool posted = false;
  weft::run(how, [&] {
    std::thread kernel_thread([&, way = weft::make_poster()] { CHECK(way.post([&] { posted = true; })); });
    while (!posted) weft::this_thread::sleep_for(1ms);
    kernel_thread.join();
  });
  CHECK(posted);
}

TEST_CASE("a flood of posts keeps neither threads nor timers from running, and run returns after the last one it accepted") {
  long accepted = 0;
  std::atomic<long> ran{0};
  std::thread flood;
  weft::run([&] {
    flood = std::thread([&, way = weft::make_poster()] {
      while (way.post([&] { ++ran; })) ++accepted;
    });
    while (ran == 0) weft::this_thread::yield();
    weft::this_thread::sleep_for(1ms);
    for (int i = 0; i < 100; ++i) weft::this_thread::yield();
  });
  flood.join();
  CHECK(accepted == ran);
}

TEST_CASE("a destructor of a thread that is asked to end can wait for a post") {
  std::thread kernel_thread;
  bool came = false;
  simulate([&] {
    weft::thread([&] {
      struct waits_for_an_answer {
        weft::channel<int> answer{1};
        std::thread& other;
        bool& came;
        ~waits_for_an_answer() {
          other = std::thread([this, way = weft::make_poster()] { way.post([this] { answer.send(1); }); });
          came = answer.receive() == 1;
        }
      } const waits{.other = kernel_thread, .came = came};
      weft::this_thread::sleep_for(1h);
    }).detach();
    weft::this_thread::yield();
  });
  kernel_thread.join();
  CHECK(came);
}

TEST_CASE("a posted function is not copied again") {
  struct copied_once {
    bool armed = false;
    std::function<void()> then;
    explicit copied_once(std::function<void()> t) : then(std::move(t)) {}
    copied_once(const copied_once& other) : armed(true), then(other.then) {
      if (other.armed) throw std::runtime_error("copied");
    }
    void operator()() const { then(); }
  };
  simulate([] {
    bool ran = false;
    const weft::poster way = weft::make_poster();
    way.post(copied_once([&] { ran = true; }));
    for (int i = 0; i < 1000 && !ran; ++i) weft::this_thread::sleep_for(1ms);
    CHECK(ran);
  });
}

TEST_CASE("a loop that runs its children first lets the others run, however often upcalls are looked at") {
  for (const unsigned switches : {1U, 2U, 61U, 62U, 64U}) {
    CAPTURE(switches);
    simulated_source source(0);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = switches;
    weft::run(how, [&] {
      bool over = false;
      int turns = 0;
      weft::thread other([&] {
        while (!over) {
          weft::this_thread::yield();
          ++turns;
        }
      });
      for (int i = 0; i < 10'000; ++i) {
        weft::thread child({.start = weft::start::now}, [&] { source.advance(20us); });
        child.join();
      }
      over = true;
      other.join();
      CHECK(turns >= 50);
    });
  }
}

TEST_CASE("a post to a scheduler that has ended is refused") {
  weft::poster way = simulate([] { return weft::make_poster(); });
  CHECK_FALSE(way.post([] {}));
  CHECK_THROWS_AS(weft::poster{}.post([] {}), std::system_error);
}

TEST_CASE("while a poster lives an idle scheduler waits; when the last one dies it knows that it is deadlocked") {
  std::thread kernel_thread;
  CHECK_THROWS_AS(simulate([&] {
                    weft::channel<int> never_sent;
                    kernel_thread = std::thread([way = weft::make_poster()] {});
                    never_sent.receive();
                  }),
                  weft::deadlock);
  kernel_thread.join();
}

TEST_CASE("observers see every upcall in order, until their subscription ends") {
  std::vector<weft::upcall::kind> seen;
  simulation sim;
  sim.spawn("watched", [&] {
    weft::upcall::subscription watching =
        weft::upcall::subscribe([&](std::span<const weft::upcall::event> batch) {
          for (const auto& e : batch) {
            seen.push_back(e.what);
            CHECK(weft::this_thread::get_id() == weft::thread::id{});  // observers run on no thread
            CHECK(e.when == sim.source.now());
          }
        });
    sim.block_on("disk");
    weft::this_thread::yield();
    watching = {};
    sim.block_on("disk");
  });
  sim.run();
  using weft::upcall::kind;
  CHECK(seen == std::vector{kind::blocked, kind::unblocked});
}

TEST_CASE("an observer sees nothing of what happened before it subscribed") {
  std::vector<weft::upcall::kind> first_saw, second_saw;
  const auto watch = [](std::vector<weft::upcall::kind>& seen) {
    return weft::upcall::subscribe([&seen](std::span<const weft::upcall::event> batch) {
      CHECK_FALSE(batch.empty());
      for (const auto& e : batch) seen.push_back(e.what);
    });
  };
  simulation sim;
  sim.spawn("first", [&] {
    const weft::upcall::subscription watching = watch(first_saw);
    sim.block_on("disk");
    weft::this_thread::yield();
  });
  sim.spawn("second", [&] {  // runs when the blocked upcall of the first is noted and not delivered
    const weft::upcall::subscription watching = watch(second_saw);
    sim.block_on("net");
    weft::this_thread::yield();
  });
  sim.run();
  using weft::upcall::kind;
  CHECK(std::ranges::count(first_saw, kind::blocked) == 2);
  CHECK(std::ranges::count(second_saw, kind::blocked) == 1);
}

TEST_CASE("weft calls outside weft say where they belong") {
  weft::mutex m;
  for (const auto& call : {std::function<void()>([] { weft::this_thread::yield(); }),
                           std::function<void()>([&] { m.lock(); }),
                           std::function<void()>([] { weft::thread t([] {}); }),
                           std::function<void()>([] { weft::this_thread::sleep_for(1ms); }),
                           std::function<void()>([] { static_cast<void>(weft::make_poster()); })}) {
    bool refused = false;
    try {
      call();
    } catch (const std::system_error& error) {
      refused = error.code() == std::errc::operation_not_permitted &&
                std::string(error.what()).find("outside a weft thread") != std::string::npos;
    }
    CHECK(refused);
  }
}
