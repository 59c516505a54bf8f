// both-transfers
// Results between weft threads and kernel threads, between two schedulers, in regions, in threads with time slices.
#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/future.hpp"
#include "weft/run_on.hpp"

using namespace std::chrono_literals;
using weft::future_errc;
using weft::future_status;
using weft::launch;

namespace {

// Says when the scheduler sleeps and only another kernel thread can wake it.
class source_that_sleeps : public simulated_source {
 public:
  source_that_sleeps() : simulated_source(0) {}
  void await_sleep() const { asleep_.wait(false); }

 private:
  void wait_for_wake() override {
    asleep_ = true;
    asleep_.notify_one();
    simulated_source::wait_for_wake();
  }
  std::atomic<bool> asleep_{false};
};

}  // namespace

TEST_CASE("a kernel thread wakes all weft threads that wait, and a scheduler that sleeps meanwhile is not deadlocked") {
  source_that_sleeps source;
  weft::options how;
  how.source = &source;
  weft::promise<int> p;
  std::thread giver([&] {
    source.await_sleep();
    p.set_value(7);
  });
  int sum = 0;
  weft::run(how, [&] {
    const auto f = p.get_future().share();
    std::vector<weft::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([&sum, f] { sum += f.get(); });
    for (auto& t : threads) t.join();
  });
  giver.join();
  CHECK(sum == 21);
}

TEST_CASE("a kernel thread waits for what a weft thread gives, with a timeout or without") {
  weft::promise<int> p;
  const auto f = p.get_future().share();
  std::atomic<int> sum{0};
  CHECK(f.wait_for(1ms) == future_status::timeout);
  CHECK(f.wait_for(0s) == future_status::timeout);
  CHECK(f.wait_for(-1h) == future_status::timeout);
  CHECK(f.wait_until(weft::time_point::min()) == future_status::timeout);
  CHECK(f.wait_until(std::chrono::system_clock::now() + 1ms) == future_status::timeout);
  std::vector<std::thread> waiting;
  for (int i = 0; i < 2; ++i) waiting.emplace_back([&sum, f] { sum += f.get(); });
  waiting.emplace_back([&sum, f] {
    CHECK(f.wait_for(std::chrono::hours::max()) == future_status::ready);
    sum += f.get();
  });
  waiting.emplace_back([&sum, f] {
    CHECK(f.wait_until(std::chrono::system_clock::now() + 1h) == future_status::ready);
    sum += f.get();
  });
  weft::run([&] { p.set_value(3); });
  for (auto& t : waiting) t.join();
  CHECK(sum == 12);
}

TEST_CASE("kernel threads alone use promises as the standard library's") {
  weft::promise<std::string> p;
  auto f = p.get_future();
  std::thread giver([&p] { p.set_value("from afar"); });
  CHECK(f.get() == "from afar");
  giver.join();
  weft::packaged_task<int(int)> task([](int n) { return n + 1; });
  auto g = task.get_future();
  std::thread(std::move(task), 1).join();
  CHECK(g.get() == 2);
  std::optional<weft::promise<int>> broken(std::in_place);
  auto h = broken->get_future();
  broken.reset();
  CHECK(code_of([&] { static_cast<void>(h.get()); }) == future_errc::broken_promise);
}

TEST_CASE("off a weft thread async is an error, unless it is deferred") {
  CHECK(code_of([] { static_cast<void>(weft::async([] { return 1; })); }) == std::errc::operation_not_permitted);
  const auto both = launch::async | launch::deferred;
  CHECK(code_of([=] { static_cast<void>(weft::async(both, [] {})); }) == std::errc::operation_not_permitted);
  auto f = weft::async(launch::deferred, [] { return std::this_thread::get_id(); });
  CHECK(f.wait_for(1h) == future_status::deferred);
  CHECK(f.get() == std::this_thread::get_id());
}

TEST_CASE("two schedulers and kernel threads hand results round") {
  constexpr int rounds = 200;
  std::vector<weft::promise<int>> balls(3 * rounds + 1);
  std::vector<weft::shared_future<int>> caught;
  for (auto& ball : balls) caught.push_back(ball.get_future().share());
  const auto play = [&](std::size_t who) {
    for (std::size_t i = who; i < balls.size() - 1; i += 3) balls[i + 1].set_value(caught[i].get() + 1);
  };
  std::thread kernel([&] { play(2); });
  balls[0].set_value(0);
  weft::run_on(2, [&](const weft::processors& all) {
    // Others of the same scheduler wait for the same results.
    weft::thread watches([&] {
      for (std::size_t i = 0; i < balls.size(); ++i) CHECK(caught[i].get() == static_cast<int>(i));
    });
    play(all.index());
    watches.join();
  });
  kernel.join();
  CHECK(caught.back().get() == 3 * rounds);
}

TEST_CASE("the end of an async function is waited for where its future is destroyed, also by a kernel thread") {
  std::atomic<bool> ended{false};
  std::atomic<bool> seen{false};
  weft::run([&] {
    weft::promise<void> go;
    auto f = weft::async([&, start = go.get_future().share()] {
      start.get();
      ended = true;
    });
    std::thread destroys([&seen, &ended, last = std::move(f)]() mutable {
      { const weft::future<void> dies_here = std::move(last); }
      seen = ended.load();
    });
    go.set_value();
    weft::blocking([&] { destroys.join(); });
  });
  CHECK(seen);
}

TEST_CASE("in a region results are given and waited for as elsewhere") {
  weft::run([] {
    weft::promise<int> to;
    weft::promise<int> from;
    weft::thread other([&, f = to.get_future()]() mutable { from.set_value(f.get() + 1); });
    const int got = weft::blocking([&] {
      auto back = from.get_future();
      CHECK(back.wait_for(0s) == future_status::timeout);
      to.set_value(1);
      auto started = weft::async([] { return 5; });
      auto deferred = weft::async(launch::deferred, [] { return weft::in_blocking_region(); });
      CHECK(deferred.get());
      return back.get() + started.get();
    });
    CHECK(got == 7);
    other.join();
    weft::promise<int> last;
    auto f = last.get_future();
    weft::thread ends([&] { weft::blocking([&] { last.set_value_at_thread_exit(4); }); });
    CHECK(f.get() == 4);
    ends.join();
  });
}

TEST_CASE("a kernel thread that is ended in the middle of a packaged task has broken its promise") {
  weft::packaged_task<void()> task([] { pthread_exit(nullptr); });
  auto f = task.get_future();
  std::thread ends([&] { task(); });
  CHECK(code_of([&] { f.get(); }) == future_errc::broken_promise);
  ends.join();
}

namespace {

struct says_goodbye {
  std::atomic<bool>* at = nullptr;
  ~says_goodbye() {
    if (at != nullptr) *at = true;
  }
};
thread_local says_goodbye goodbye;

}  // namespace

TEST_CASE("a value given for the end of a kernel thread is ready when its thread_local objects are gone") {
  weft::promise<int> p;
  weft::promise<int> q;
  auto f = p.get_future();
  auto g = q.get_future();
  std::atomic<bool> gone{false};
  std::atomic<bool> early{false};
  std::thread t([&] {
    goodbye.at = &gone;
    p.set_value_at_thread_exit(2);
    q.set_value_at_thread_exit(3);
    early = f.wait_for(0s) == future_status::ready;
    weft::run([] {});
  });
  CHECK(f.get() + g.get() == 5);
  CHECK(gone);
  CHECK_FALSE(early);
  t.join();
}

TEST_CASE("a wait that ends while its result is on the way from another kernel thread waits for it, and nobody is lost") {
  simulate([] {
    weft::promise<int> p;
    const auto f = p.get_future().share();
    bool cancelled = false;
    int got = 0;
    weft::thread asked_to_end([&] {
      try {
        f.wait();
      } catch (const weft::cancelled&) {
        cancelled = true;
      }
    });
    weft::thread timed([&] { got = f.wait_for(1ms) == future_status::ready ? f.get() : -1; });
    weft::thread waits([&] { CHECK(f.get() == 9); });
    weft::this_thread::sleep_for(1ms);  // the deadline of `timed` is due
    asked_to_end.request_cancel();
    std::thread([&] { p.set_value(9); }).join();
    asked_to_end.join();
    timed.join();
    waits.join();
    CHECK(cancelled);
    CHECK((got == 9 || got == -1));
  });
}

TEST_CASE("what was given to those who were asked to end at once arrives before they leave") {
  simulate([] {
    weft::promise<int> p;
    const auto f = p.get_future().share();
    std::vector<weft::thread> threads;
    int cancelled = 0;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        try {
          f.wait();
        } catch (const weft::cancelled&) {
          ++cancelled;
        }
      });
    }
    weft::this_thread::yield();
    std::thread([&] { p.set_value(9); }).join();  // posted, and not taken: this thread keeps the processor
    for (auto& t : threads) t.request_cancel();
    for (auto& t : threads) t.join();
    CHECK(cancelled == 4);
  });
}

TEST_CASE("an observer of upcalls may give a result, and is refused to wait for one") {
  weft::run([] {
    weft::promise<void> p;
    weft::promise<std::error_code> refused;
    auto f = p.get_future();
    const weft::promise<int> never_kept;
    bool once = false;
    const auto subscription = weft::upcall::subscribe([&](std::span<const weft::upcall::event>) {
      if (std::exchange(once, true)) return;
      refused.set_value(code_of([&] { f.wait(); }));
      p.set_value();
    });
    weft::this_thread::sleep_for(1ms);
    CHECK(refused.get_future().get() == std::errc::operation_not_permitted);
    f.get();
  });
}

TEST_CASE("threads with time slices share states with others and with kernel threads, and none is left waiting") {
  if (!no_slices().empty()) return skip(no_slices());
  constexpr int rounds = 300;
  std::vector<weft::promise<int>> promises(rounds);
  std::vector<weft::shared_future<int>> futures;
  for (auto& p : promises) futures.push_back(p.get_future().share());
  std::atomic<int> next{0};
  mistakes wrong;
  const auto give_some = [&](int more) {
    for (int i = next.fetch_add(1); i < rounds; i = next.fetch_add(1)) {
      compute(more);
      promises[static_cast<std::size_t>(i)].set_value(i);
    }
  };
  std::thread kernel([&] { give_some(20'000); });
  weft::run(sliced(), [&] {
    beside_a_cruncher(4, [&](int who) {
      if (who == 0) give_some(20'000);
      for (int i = 0; i < rounds; ++i) wrong.unless(futures[static_cast<std::size_t>(i)].get() == i);
    });
  });
  kernel.join();
  CHECK(wrong.count() == 0);
}

TEST_CASE("where all code may be taken over, states are shared all the same") {
  weft::options how;
  how.activations = weft::activations::all;
  std::atomic<int> wrong{0};
  weft::run(how, [&] {
    for (int i = 0; i < 50; ++i) {
      weft::promise<int> to;
      weft::promise<int> back;
      auto from_kernel = back.get_future();
      std::thread kernel([&, f = to.get_future()]() mutable { back.set_value(f.get() + 1); });
      weft::thread other([&] { to.set_value(i); });
      auto doubled = weft::async([&] { return 2 * i; });
      if (from_kernel.get() != i + 1 || doubled.get() != 2 * i) ++wrong;
      other.join();
      kernel.join();
    }
  });
  CHECK(wrong == 0);
}
