// async and packaged_task: who calls the function, what becomes of what it returns and throws, who waits for its end.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/report_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/future.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;
using weft::future_errc;
using weft::future_status;
using weft::launch;

namespace {

struct only_once {
  std::unique_ptr<int> number = std::make_unique<int>(1);
  int operator()(std::unique_ptr<int> more) && { return *number + *more; }
};

// Sets its flag when the last of it is gone.
struct mark {
  explicit mark(bool& at) : gone(&at) {}
  mark(mark&& other) noexcept : gone(std::exchange(other.gone, nullptr)) {}
  mark& operator=(mark&&) = delete;
  ~mark() {
    if (gone != nullptr) *gone = true;
  }
  bool* gone;
};

}  // namespace

TEST_CASE("async calls the function in a new thread with copies of its arguments") {
  simulate([] {
    const auto self = weft::this_thread::get_id();
    auto other = weft::async([] { return weft::this_thread::get_id(); });
    auto sum = weft::async(launch::async, only_once{}, std::make_unique<int>(2));
    int number = 1;
    auto nothing = weft::async([](int& n) { ++n; }, std::ref(number));
    auto reference = weft::async([&]() -> int& { return number; });
    CHECK(other.get() != self);
    CHECK(sum.get() == 3);
    nothing.get();
    CHECK(number == 2);
    CHECK(&reference.get() == &number);
  });
}

TEST_CASE("what the function throws comes out of get") {
  simulate([] {
    auto f = weft::async([]() -> int { throw std::runtime_error("no"); });
    auto g = weft::async(launch::deferred, []() -> int { throw std::runtime_error("no"); });
    CHECK_THROWS_WITH_AS(f.get(), "no", std::runtime_error);
    CHECK_THROWS_WITH_AS(g.get(), "no", std::runtime_error);
  });
}

TEST_CASE("the function and its arguments are gone when the result is ready") {
  simulate([] {
    bool gone = false;
    auto f = weft::async([](const mark&) {}, mark(gone));
    f.wait();
    CHECK(gone);
    gone = false;
    auto g = weft::async(launch::deferred, [](const mark&) {}, mark(gone));
    CHECK_FALSE(gone);
    g.wait();
    CHECK(gone);
    gone = false;
    static_cast<void>(weft::async(launch::deferred, [](const mark&) {}, mark(gone)));  // nobody waited: not called
    CHECK(gone);
  });
}

TEST_CASE("the last future of an async waits for the function when it is destroyed or assigned to, others do not") {
  simulate([] {
    weft::binary_semaphore go(0);
    bool ended = false;
    const auto slow = [&] {
      go.acquire();
      ended = true;
    };
    weft::thread starter([&] {
      weft::this_thread::sleep_for(1ms);
      CHECK_FALSE(ended);
      go.release();
    });
    { const auto f = weft::async(slow); }
    CHECK(ended);
    starter.join();

    ended = false;
    weft::future<void> f = weft::async(slow);
    weft::shared_future<void> other = f.share();
    {
      const weft::shared_future<void> copy = other;
    }
    CHECK_FALSE(ended);
    go.release();
    other = {};
    CHECK(ended);
  });
}

TEST_CASE("a deferred function runs in the first thread that waits without a timeout, once") {
  simulate([] {
    int calls = 0;
    weft::thread::id ran_in;
    const weft::shared_future<int> f = weft::async(launch::deferred, [&] {
                                         ran_in = weft::this_thread::get_id();
                                         weft::this_thread::sleep_for(1ms);
                                         return ++calls;
                                       }).share();
    CHECK(f.wait_for(1h) == future_status::deferred);
    CHECK(f.wait_until(weft::never) == future_status::deferred);
    CHECK(f.wait_until(std::chrono::system_clock::now()) == future_status::deferred);
    CHECK(calls == 0);
    std::vector<weft::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back([f] { CHECK(f.get() == 1); });
    const auto first = threads.front().get_id();
    for (auto& t : threads) t.join();
    CHECK(ran_in == first);
    CHECK(f.wait_for(0s) == future_status::ready);
    CHECK(calls == 1);
  });
}

TEST_CASE("a policy that is none is an error; one with both is async, and deferred when no thread is to be had") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  how.max_threads = 1;
  weft::run(how, [] {
    CHECK(code_of([] { static_cast<void>(weft::async(launch{}, [] {})); }) == std::errc::invalid_argument);
    CHECK(code_of([] { static_cast<void>(weft::async([] {})); }) == std::errc::resource_unavailable_try_again);
    auto f = weft::async(launch::async | launch::deferred, [] { return weft::this_thread::get_id(); });
    CHECK(f.wait_for(0s) == future_status::deferred);
    CHECK(f.get() == weft::this_thread::get_id());
  });
  simulate([] {
    auto f = weft::async(launch::async | launch::deferred, [] { return weft::this_thread::get_id(); });
    CHECK(f.wait_for(0s) != future_status::deferred);
    CHECK(f.get() != weft::this_thread::get_id());
  });
}

TEST_CASE("a function whose thread is asked to end has broken its promise, and so has a deferred one") {
  simulate([] {
    weft::thread::native_handle_type function{};
    std::optional<weft::future<void>> f;
    weft::thread unwinds([&] {
      f = weft::async([&] {
        function = weft::detail::current_thread();
        weft::this_thread::sleep_for(1h);
      });
      weft::future<void> dies_here = std::move(*f);
      f.reset();
      weft::this_thread::sleep_for(1h);
    });
    weft::this_thread::yield();
    weft::this_thread::yield();
    const auto before = weft::detail::now();
    unwinds.request_cancel();  // and takes with it what it started
    unwinds.join();
    CHECK(weft::detail::now() - before < 1h);
    CHECK(function != nullptr);

    const auto deferred = weft::async(launch::deferred, [] { weft::this_thread::sleep_for(1h); }).share();
    weft::thread waits([&] { deferred.wait(); });
    weft::thread waits_behind([&] { CHECK(code_of([&] { deferred.get(); }) == future_errc::broken_promise); });
    weft::this_thread::yield();
    waits.request_cancel();
    waits.join();
    waits_behind.join();
  });
}

TEST_CASE("async functions that wait for one another are a deadlock, which is told") {
  std::string report;
  try {
    simulate([] {
      weft::binary_semaphore never_given(0);
      auto f = weft::async([&] { never_given.acquire(); });
      f.get();
    });
  } catch (const weft::deadlock& deadlock) {
    report = deadlock.what();
  }
  INFO(report);
  CHECK(contains(report, "future 0x"));
  CHECK(contains(report, "\"async\""));
}

TEST_CASE("a packaged task gives its future what its function returns and throws") {
  simulate([] {
    weft::packaged_task task([](int a, int b) { return a / b; });
    auto f = task.get_future();
    task(6, 3);
    CHECK(f.get() == 2);
    task.reset();
    auto g = task.get_future();
    weft::thread calls(std::move(task), 8, 2);
    CHECK(g.get() == 4);
    calls.join();
    weft::packaged_task<void()> throws([] { throw std::runtime_error("no"); });
    auto h = throws.get_future();
    throws();
    CHECK_THROWS_WITH_AS(h.get(), "no", std::runtime_error);
    int number = 0;
    weft::packaged_task<int&(int&)> reference([](int& n) -> int& { return n; });
    auto r = reference.get_future();
    reference(number);
    CHECK(&r.get() == &number);
    weft::packaged_task<long(int, std::unique_ptr<int>)> moves(
        [kept = std::make_unique<int>(1)](int a, std::unique_ptr<int> b) { return a + *b + *kept; });
    auto m = moves.get_future();
    moves(1, std::make_unique<int>(1));
    CHECK(m.get() == 3);
  });
}

TEST_CASE("every misuse of a packaged task is an error with the standard's code") {
  simulate([] {
    weft::packaged_task<int()> none;
    CHECK_FALSE(none.valid());
    CHECK(code_of([&] { none(); }) == future_errc::no_state);
    CHECK(code_of([&] { none.make_ready_at_thread_exit(); }) == future_errc::no_state);
    CHECK(code_of([&] { none.reset(); }) == future_errc::no_state);
    CHECK(code_of([&] { static_cast<void>(none.get_future()); }) == future_errc::no_state);
    int calls = 0;
    weft::packaged_task<int()> task([&] { return ++calls; });
    CHECK(task.valid());
    auto f = task.get_future();
    CHECK(code_of([&] { static_cast<void>(task.get_future()); }) == future_errc::future_already_retrieved);
    task();
    CHECK(code_of([&] { task(); }) == future_errc::promise_already_satisfied);
    CHECK(code_of([&] { task.make_ready_at_thread_exit(); }) == future_errc::promise_already_satisfied);
    CHECK(calls == 1);
    CHECK(f.get() == 1);
  });
}

TEST_CASE("a packaged task that is destroyed, reset or assigned to without a call has broken its promise") {
  simulate([] {
    weft::packaged_task<int()> task([] { return 1; });
    auto f = task.get_future();
    task.reset();
    CHECK(code_of([&] { static_cast<void>(f.get()); }) == future_errc::broken_promise);
    auto g = task.get_future();
    task = weft::packaged_task<int()>([] { return 2; });
    CHECK(code_of([&] { static_cast<void>(g.get()); }) == future_errc::broken_promise);
    auto h = task.get_future();
    weft::packaged_task<int()> other;
    swap(task, other);
    CHECK_FALSE(task.valid());
    other();
    other = {};
    CHECK(h.get() == 2);
  });
}

TEST_CASE("a packaged task that is to be ready at the end of its thread is, and one that is cancelled has broken its promise") {
  simulate([] {
    weft::packaged_task<int()> task([] { return 1; });
    auto f = task.get_future();
    weft::thread t([&] {
      task.make_ready_at_thread_exit();
      CHECK(f.wait_for(1ms) == future_status::timeout);
    });
    CHECK(f.get() == 1);
    t.join();
    weft::packaged_task<void()> sleeps([] { weft::this_thread::sleep_for(1h); });
    auto g = sleeps.get_future();
    bool came_out = true;
    weft::thread ends([&] {
      sleeps();
      came_out = false;
    });
    weft::this_thread::yield();
    ends.request_cancel();
    CHECK(code_of([&] { g.get(); }) == future_errc::broken_promise);
    ends.join();
    CHECK(came_out);
  });
}
