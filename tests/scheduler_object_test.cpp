// both-transfers
// Schedulers as objects: kernel threads that take work, and several of them with mailboxes between.
#include "weft/scheduler.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tests/captured_errors.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "tests/torture.hpp"
#include "weft/blocking.hpp"
#include "weft/latch.hpp"
#include "weft/mailbox.hpp"
#include "weft/mutex.hpp"
#include "weft/policy.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

long kernel_thread() { return ::syscall(SYS_gettid); }

struct refusal_seen {
  std::error_code code;
  std::string text = "none";
};

refusal_seen refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return {error.code(), error.what()};
  } catch (const weft::future_error& error) {
    return {error.code(), error.what()};
  }
  return {};
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("work runs in threads of the object's own scheduler, on its own kernel thread, and its results come back") {
  const nothing_left left;
  {
    weft::scheduler side({.name = "side"});
    const long where = side.submit(kernel_thread).get();
    CHECK(where != kernel_thread());
    CHECK(side.submit([] { return std::string(weft::this_thread::name()); }).get() == "post");
    auto sum = side.submit([](int a, std::unique_ptr<int> b) { return a + *b; }, 3, std::make_unique<int>(4));
    CHECK(sum.get() == 7);
    auto fails = side.submit([]() -> int { throw std::runtime_error("from there"); });
    CHECK_THROWS_AS(static_cast<void>(fails.get()), std::runtime_error);
    std::atomic<long> posted{0};
    CHECK(side.post([&] { posted = kernel_thread(); }));
    side.join();
    CHECK(posted == where);
    CHECK(!side.joinable());
  }
  left.check();
}

TEST_CASE("a join waits for all work, also for that which work gave, and threads it left are asked to end then") {
  int done = 0;
  bool left_ended = false;
  weft::scheduler side;
  const auto work = [&](auto self, int depth) -> void {
    weft::this_thread::sleep_for(std::chrono::microseconds(50));
    ++done;
    if (depth > 0) {
      for (int i = 0; i < 2; ++i) CHECK(side.post([self, depth] { self(self, depth - 1); }));
    }
  };
  CHECK(side.post([&] {
    weft::thread([&] {
      try {
        weft::this_thread::sleep_for(std::chrono::hours(1));
      } catch (const weft::cancelled&) {
        left_ended = true;
        throw;
      }
    }).detach();
    weft::this_thread::yield();
  }));
  CHECK(side.post([&] { work(work, 5); }));
  side.join();
  CHECK(done == 63);
  CHECK(left_ended);
}

TEST_CASE("a request to stop asks all threads to end; work that comes later is refused, and its promise broken") {
  weft::scheduler side;
  auto waits = side.submit([&] {
    weft::counting_semaphore<> nobody(0);
    nobody.acquire();
  });
  auto yields = side.submit([] { weft::this_thread::yield(); });
  yields.get();
  side.request_stop();
  side.request_stop();
  CHECK(!side.post([] { FAIL_CHECK("it was refused"); }));
  auto late = side.submit([] { return 1; });
  CHECK(refusal_of([&] { static_cast<void>(late.get()); }).code == weft::future_errc::broken_promise);
  side.join();  // from here on nobody else holds the exception, whose count a sanitizer does not see
  CHECK(refusal_of([&] { waits.get(); }).code == weft::future_errc::broken_promise);
  CHECK(!side.joinable());
  CHECK(!side.post([] { FAIL_CHECK("it has ended"); }));
  CHECK(!side.way_in().post([] { FAIL_CHECK("it has ended"); }));
  CHECK(refusal_of([&] { side.submit([] {}).get(); }).code == weft::future_errc::broken_promise);
  CHECK(has(refusal_of([&] { side.join(); }).text, "scheduler::join: this scheduler was joined before"));
}

TEST_CASE("its destructor asks its threads to end and waits for them") {
  std::atomic<int> ended{0};
  std::atomic<int> begun{0};
  {
    weft::scheduler side;
    for (int i = 0; i < 100; ++i) {
      CHECK(side.post([&] {
        ++begun;
        try {
          weft::mailbox<int>(1).receive();
        } catch (const weft::cancelled&) {
          ++ended;
          throw;
        }
      }));
    }
  }
  CHECK(begun == 100);  // what was accepted runs
  CHECK(ended == 100);
}

TEST_CASE("one that was moved from can only be destroyed") {
  weft::scheduler a;
  weft::scheduler b(std::move(a));
  CHECK(!a.joinable());  // NOLINT: what is looked at
  CHECK(has(refusal_of([&] { a.join(); }).text, "scheduler::join: this scheduler was moved from"));
  CHECK(refusal_of([&] { static_cast<void>(a.post([] {})); }).code == std::errc::invalid_argument);
  CHECK(refusal_of([&] { static_cast<void>(a.submit([] {})); }).code == std::errc::invalid_argument);
  CHECK(refusal_of([&] { static_cast<void>(a.way_in()); }).code == std::errc::invalid_argument);
  a.request_stop();
  CHECK(b.submit([] { return 5; }).get() == 5);
}

TEST_CASE("what keeps it from starting leaves the constructor") {
  weft::options how;
  how.time_slice = std::chrono::microseconds(1);  // less than there may be
  const auto refused = refusal_of([&] { const weft::scheduler side(how); });
  CHECK(refused.code == std::errc::invalid_argument);
  const auto no_kernel_thread = [] {
    const rlimit none{0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0 || setuid(65534) != 0) _exit(77);
    try {
      const weft::scheduler side;
    } catch (const std::system_error& error) {
      if (error.code() == std::errc::resource_unavailable_try_again && has(error.what(), "weft::scheduler")) _exit(3);
    }
    _exit(4);
  };
  const child_end end = in_child(no_kernel_thread);
  CHECK((end.exited_with(3) || end.exited_with(77)));
  CHECK(refusal_of([] { static_cast<void>(weft::scheduler().post({})); }).code == std::errc::invalid_argument);
}

TEST_CASE("while work may come nothing is a deadlock; in a join it is, and the join throws its report") {
  const captured_errors errors;
  weft::scheduler side({.name = "stuck"});
  weft::mutex first;
  weft::mutex second;
  weft::latch both_hold_one(2);
  auto released = side.submit([&] {
    const std::lock_guard hold(first);
    both_hold_one.arrive_and_wait();
    const std::lock_guard both(second);
  });
  auto also = side.submit([&] {
    const std::lock_guard hold(second);
    both_hold_one.arrive_and_wait();
    const std::lock_guard both(first);
  });
  CHECK(side.submit([] { return 1; }).get() == 1);
  CHECK(errors.size() == 0);
  std::string report;
  try {
    side.join();
  } catch (const weft::deadlock& error) {
    report = error.what();
  }
  CHECK(has(report, "stuck"));
  CHECK(has(report, "mutex"));
  CHECK(!side.joinable());
  CHECK(refusal_of([&] { released.get(); }).code == weft::future_errc::broken_promise);
  CHECK(refusal_of([&] { also.get(); }).code == weft::future_errc::broken_promise);
}

TEST_CASE("a stop ends a deadlock without a word") {
  const captured_errors errors;
  {
    weft::scheduler side;
    CHECK(side.post([] { weft::counting_semaphore<>(0).acquire(); }));
    static_cast<void>(side.submit([] {}).get());
  }
  CHECK(errors.text().empty());
}

TEST_CASE("one of its own threads may ask it to end, but neither join nor destroy it") {
  weft::scheduler side;
  auto refused = side.submit([&] { return refusal_of([&] { side.join(); }); }).get();
  CHECK(refused.code == std::errc::resource_deadlock_would_occur);
  CHECK(has(refused.text, "one of its own threads would wait for its own end"));
  refused = side.submit([&] { return weft::blocking([&] { return refusal_of([&] { side.join(); }); }); }).get();
  CHECK(refused.code == std::errc::resource_deadlock_would_occur);
  CHECK(side.post([&] { side.request_stop(); }));
  side.join();
  const child_end end = in_child([] {
    auto* doomed = new weft::scheduler;
    doomed->submit([doomed] { delete doomed; }).get();
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("a weft::scheduler was destroyed by one of its own threads"));
}

TEST_CASE("also where the policy lets the work run before anything else has") {
  std::atomic<bool> given{false};
  // The thread that became ready last first; and nothing runs before there is work.
  struct newest_first : weft::policy {
    explicit newest_first(std::atomic<bool>& until) : given(until) {}
    void put(weft::ready_thread& t, came) noexcept override {
      given.wait(false);
      threads.push_front(t);
    }
    weft::ready_thread* take() noexcept override { return threads.pop_front(); }
    void remove(weft::ready_thread& t) noexcept override { threads.remove(t); }
    std::atomic<bool>& given;
    weft::ready_list threads;
  };
  weft::scheduler side({.policy = [&] { return std::make_unique<newest_first>(given); }});
  auto answer = side.submit([&] { return refusal_of([&] { side.join(); }); });
  given = true;
  given.notify_all();
  CHECK(answer.get().code == std::errc::resource_deadlock_would_occur);
  side.join();
}

TEST_CASE("an exception that leaves posted work ends the program, and names the thread") {
  const child_end end = in_child([] {
    weft::scheduler side;
    static_cast<void>(side.post([] { throw std::runtime_error("nobody catches it"); }));
    side.join();
  });
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("nobody catches it"));
  CHECK(end.said("post"));
}

TEST_CASE("weft threads of other schedulers make, use, join and destroy one while their own run on") {
  weft::run([] {
    int turns = 0;
    bool over = false;
    weft::thread other([&] {
      while (!over) {
        ++turns;
        weft::this_thread::yield();
      }
    });
    {
      weft::scheduler side;
      const int before = turns;
      weft::mailbox<int> go(1);
      auto f = side.submit([&] { return *go.receive(); });
      weft::thread late([&] {
        weft::this_thread::yield();
        go.send(4);
      });
      CHECK(f.get() == 4);
      late.join();
      side.join();
      CHECK(turns > before);
      weft::scheduler destroyed;
      weft::blocking([&] { CHECK(destroyed.submit([] { return 1; }).get() == 1); });
    }
    over = true;
    other.join();
  });
}

TEST_CASE("a join that is asked to end leaves the scheduler as it was") {
  weft::mailbox<int> go(1);
  weft::scheduler side;
  auto f = side.submit([&] { return *go.receive(); });
  weft::run([&] {
    weft::thread joins([&] { side.join(); });
    weft::this_thread::yield();
    joins.request_cancel();
    joins.join();
    CHECK(side.joinable());
    go.send(9);
    side.join();
  });
  CHECK(f.get() == 9);
}

TEST_CASE("in a child of fork it takes no work, cannot be joined, and its destructor does nothing") {
  weft::scheduler side;
  static_cast<void>(side.submit([] {}).get());
  const child_end end = in_child([&] {
    const bool refused = !side.post([] {}) && refusal_of([&] { side.join(); }).code == std::errc::operation_not_permitted &&
                         refusal_of([&] { side.submit([] {}).get(); }).code == weft::future_errc::broken_promise;
    side.request_stop();
    { const weft::scheduler dies_here(std::move(side)); }
    _exit(refused ? 3 : 4);
  });
  CHECK(end.exited_with(3));
  CHECK(side.submit([] { return 2; }).get() == 2);
}

TEST_CASE("schedulers in a ring pass tokens on through mailboxes") {
  constexpr std::size_t count = 5;
  constexpr int laps = 60;
  constexpr int tokens = 3;
  std::vector<std::unique_ptr<weft::mailbox<int>>> to;
  for (std::size_t i = 0; i < count; ++i) to.push_back(std::make_unique<weft::mailbox<int>>(tokens));
  std::vector<weft::scheduler> ring(count);
  std::vector<weft::future<long>> passed;
  for (std::size_t i = 0; i < count; ++i) {
    passed.push_back(ring[i].submit([&to, i] {
      long steps = 0;
      for (int token : *to[i]) {
        ++steps;
        if (i + 1 == count) --token;
        if (token == 0) break;  // the first one that has gone round often enough ends it
        to[(i + 1) % count]->send(token);
      }
      to[(i + 1) % count]->close();
      return steps;
    }));
  }
  to[0]->send(laps);
  long steps = 0;
  for (auto& f : passed) steps += f.get();
  CHECK(steps == static_cast<long>(count) * laps);
  for (auto& s : ring) s.join();
}

TEST_CASE("work fans out to schedulers and comes in again") {
  constexpr int jobs = 2000;
  weft::mailbox<int> out(8);
  weft::mailbox<long> in(8);
  std::vector<weft::scheduler> workers(4);
  for (auto& w : workers) {
    for (int t = 0; t < 3; ++t) {
      CHECK(w.post([&] {
        for (const int job : out) in.send(long{job} * job);
      }));
    }
  }
  long sum = 0;
  weft::run([&] {
    weft::thread feeds([&] {
      for (int i = 1; i <= jobs; ++i) out.send(i);
      out.close();
    });
    for (int i = 0; i < jobs; ++i) sum += *in.receive();
    feeds.join();
  });
  CHECK(sum == long{jobs} * (jobs + 1) * (2 * jobs + 1) / 6);
  for (auto& w : workers) w.join();
}

TEST_CASE("work given while it ends is done or refused, never forgotten") {
  for (int round = 0; round < 60; ++round) {
    weft::scheduler side;
    std::atomic<int> ran{0};
    std::atomic<int> accepted{0};
    std::atomic<bool> begun{false};
    std::thread giver([&] {
      for (int i = 0; i < 200; ++i) {
        if (side.post([&] { ++ran; })) ++accepted;
        begun = true;
        begun.notify_one();
      }
    });
    begun.wait(false);
    if (round % 2 == 0) side.request_stop();
    side.join();
    giver.join();
    CHECK(ran == accepted);
  }
}

TEST_CASE("a scheduler object runs on a given source of upcalls") {
  simulated_source source(0);
  weft::options how;
  how.source = &source;
  weft::scheduler side(how);
  auto f = side.submit([] {
    const auto begin = weft::detail::now();
    weft::this_thread::sleep_for(std::chrono::hours(5));
    return weft::detail::now() - begin;
  });
  CHECK(f.get() == std::chrono::hours(5));
}
