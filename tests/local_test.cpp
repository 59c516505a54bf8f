// weft::local: a value of each thread's own, from its first use to the thread's end.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/detail/thread_exit.hpp"
#include "weft/future.hpp"
#include "weft/local.hpp"
#include "weft/run_on.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

// Writes its letter when it is destroyed.
struct letter {
  std::string* story = nullptr;
  char written = '?';
  letter() = default;
  letter(std::string& to, char what) : story(&to), written(what) {}
  letter(letter&& other) noexcept : story(std::exchange(other.story, nullptr)), written(other.written) {}
  letter& operator=(letter&& other) noexcept {
    std::swap(story, other.story);
    std::swap(written, other.written);
    return *this;
  }
  ~letter() {
    if (story != nullptr) *story += written;
  }
};

struct immovable {
  int value = 3;
  immovable() = default;
  immovable(const immovable&) = delete;
  immovable& operator=(const immovable&) = delete;
};

}  // namespace

TEST_CASE("each thread has a value of its own, made when it first asks") {
  simulate([] {
    int made = 0;
    weft::local<int> number([&] { return 10 * ++made; });
    weft::local<std::string> text;
    CHECK_FALSE(number.has_value());
    CHECK(number.get_if() == nullptr);
    CHECK(made == 0);
    CHECK(*number == 10);
    text->append("main");
    std::vector<weft::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        CHECK_FALSE(number.has_value());
        const int mine = *number;
        *number += 1;
        text->append("child");
        weft::this_thread::yield();
        CHECK(number.get() == mine + 1);
        CHECK(number.get_if() == &*number);
        CHECK(*text == "child");
      });
    }
    for (auto& t : threads) t.join();
    CHECK(*number == 10);
    CHECK(*text == "main");
    CHECK(made == 4);
  });
}

TEST_CASE("set gives a value, and where there was none the initial one is not made") {
  simulate([] {
    weft::local<int> number([]() -> int { throw std::logic_error("not wanted"); });
    number.set(4);
    CHECK(*number == 4);
    number.set(5);
    CHECK(*number == 5);
    weft::local<std::unique_ptr<int>> pointer;
    pointer.set(std::make_unique<int>(6));
    CHECK(**pointer == 6);
  });
}

TEST_CASE("values that cannot be moved, and over-aligned ones, are made where they stay") {
  struct alignas(256) wide {
    char bytes[256] = {};
  };
  simulate([] {
    weft::local<immovable> fixed;
    weft::local<immovable> by([] { return immovable(); });
    CHECK(fixed->value + by->value == 6);
    weft::local<wide> aligned;
    CHECK(reinterpret_cast<std::uintptr_t>(&*aligned) % 256 == 0);
  });
}

TEST_CASE("values are destroyed at the thread's end, the last one made first, after its objects and arguments") {
  simulate([] {
    std::string story;
    weft::local<letter> a([&] { return letter(story, 'a'); });
    weft::local<letter> b([&] { return letter(story, 'b'); });
    weft::local<letter> uses_a([&] {
      static_cast<void>(a.get());
      return letter(story, 'u');
    });
    weft::thread t(
        [&](const letter&) {
          const letter object(story, 'o');
          static_cast<void>(b.get());
          static_cast<void>(uses_a.get());
          story += 'f';
        },
        letter(story, 'p'));
    t.join();
    CHECK(story == "fopuab");
  });
}

TEST_CASE("values are destroyed before what is done at thread exit: before those are told who wait for it") {
  struct writes : weft::detail::thread_exit_call {
    std::string* story = nullptr;
  };
  simulate([] {
    std::string story;
    weft::local<letter> early([&] { return letter(story, 'e'); });
    weft::local<letter> late([&] { return letter(story, 'l'); });
    writes call;
    call.story = &story;
    call.run = [](weft::detail::thread_exit_call& self) noexcept { *static_cast<writes&>(self).story += 'x'; };
    weft::promise<void> promise;
    auto result = promise.get_future();
    weft::thread t([&] {
      static_cast<void>(early.get());
      weft::detail::at_thread_exit(call);
      promise.set_value_at_thread_exit();
      static_cast<void>(late.get());
    });
    result.wait();
    CHECK(story == "lex");
    t.join();
  });
}

TEST_CASE("main's values are destroyed before run returns, and a cancelled thread's when it ends") {
  std::string story;
  weft::local<letter> value([&] { return letter(story, 'v'); });
  simulate([&] {
    weft::thread t({.start = weft::start::now}, [&] {
      static_cast<void>(value.get());
      weft::this_thread::sleep_for(1h);
    });
    t.request_cancel();
    t.join();
    CHECK(story == "v");
    static_cast<void>(value.get());
  });
  CHECK(story == "vv");
}

namespace {

// Waits and uses other locals while it is destroyed.
struct busy_at_its_end {
  std::string* story = nullptr;
  weft::local<letter>* other = nullptr;
  busy_at_its_end(std::string& to, weft::local<letter>& uses) : story(&to), other(&uses) {}
  busy_at_its_end(busy_at_its_end&& from) noexcept : story(std::exchange(from.story, nullptr)), other(from.other) {}
  busy_at_its_end& operator=(busy_at_its_end&&) = delete;
  ~busy_at_its_end() {
    if (story == nullptr) return;
    *story += other->has_value() ? '+' : '-';
    weft::this_thread::sleep_for(1ms);
    other->set(letter(*story, 'n'));
    *story += 'b';
  }
};

}  // namespace

TEST_CASE(
    "destructors of values may wait and use other values, which are made anew if they are gone, also in a cancelled thread") {
  simulate([] {
    for (const bool cancels : {false, true}) {
      std::string story;
      weft::local<letter> other([&] { return letter(story, 'o'); });
      weft::local<busy_at_its_end> busy([&] { return busy_at_its_end(story, other); });
      weft::thread t({.start = weft::start::now}, [&] {
        static_cast<void>(busy.get());
        static_cast<void>(other.get());
        if (cancels) weft::this_thread::sleep_for(1h);
      });
      if (cancels) t.request_cancel();
      t.join();
      CHECK(story == "o-bn");
    }
  });
}

TEST_CASE("what is done at thread exit may use locals, which are destroyed in their turn") {
  struct uses_local : weft::detail::thread_exit_call {
    weft::local<letter>* value = nullptr;
  };
  simulate([] {
    std::string story;
    weft::local<letter> value([&] { return letter(story, 'v'); });
    uses_local call;
    call.value = &value;
    call.run = [](weft::detail::thread_exit_call& self) noexcept {
      static_cast<void>(static_cast<uses_local&>(self).value->get());
    };
    weft::thread([&] { weft::detail::at_thread_exit(call); }).join();
    CHECK(story == "v");
  });
}

TEST_CASE("a beginning that throws or is cancelled leaves no value, and the next use tries again") {
  simulate([] {
    int tries = 0;
    weft::local<int> number([&] {
      if (++tries == 1) throw std::runtime_error("first");
      weft::this_thread::sleep_for(tries == 2 ? 1h : 0h);
      return tries;
    });
    CHECK_THROWS_AS(static_cast<void>(*number), std::runtime_error);
    CHECK_FALSE(number.has_value());
    CHECK(cancelled_in([&] { static_cast<void>(*number); }));
    CHECK_FALSE(number.has_value());
    CHECK(*number == 3);
  });
}

TEST_CASE("resource_deadlock_would_occur: a value that asks for itself while it is made; another one may be made meanwhile") {
  simulate([] {
    weft::local<int>* self = nullptr;
    std::array<std::optional<weft::local<int>>, 20> others;
    for (auto& each : others) each.emplace();
    weft::local<int> number([&] {
      for (auto& each : others) **each += 1;  // the table grows meanwhile
      CHECK_FALSE(self->has_value());
      CHECK(code_of([&] { self->set(1); }) == std::errc::resource_deadlock_would_occur);
      return self->get();
    });
    self = &number;
    CHECK(code_of([&] { static_cast<void>(number.get()); }) == std::errc::resource_deadlock_would_occur);
    CHECK_FALSE(number.has_value());
    for (auto& each : others) CHECK(**each == 1);
  });
}

TEST_CASE("operation_not_permitted: off a weft thread there is no value; the local itself may be made and destroyed there") {
  weft::local<int> number;
  CHECK(code_of([&] { static_cast<void>(*number); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { number.set(1); }) == std::errc::operation_not_permitted);
  CHECK(code_of([&] { const weft::bound here(number, 1); }) == std::errc::operation_not_permitted);
  CHECK_FALSE(number.has_value());
  CHECK(number.get_if() == nullptr);
}

TEST_CASE("in a region of blocking() and from one kernel thread to the next a thread has its value") {
  weft::run([] {
    weft::local<int> number;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        *number = i;
        for (int round = 0; round < 20; ++round) {
          weft::blocking([&] {
            CHECK(*number == i + 2 * round);
            *number += 1;
            if (round % 5 == 0) std::thread([] {}).join();
          });
          *number += 1;
          weft::this_thread::yield();
        }
      });
    }
    for (auto& t : threads) t.join();
    weft::local<int> first_used_there;
    weft::blocking([&] { *first_used_there = 7; });
    CHECK(*first_used_there == 7);
  });
}

TEST_CASE("threads with time slices keep their values, whenever they are preempted") {
  if (!no_slices().empty()) return skip(no_slices().c_str());
  weft::run(sliced(), [] {
    mistakes wrong;
    weft::local<std::array<int, 2>> pair;
    std::array<std::optional<weft::local<int>>, 40> many;
    for (auto& each : many) each.emplace();
    const auto before = preemptions();
    beside_a_cruncher(3, [&](int who) {
      for (int round = 0; preemptions() < before + 40; ++round) {
        (*pair)[0] = who * 1'000'000 + round;
        compute(20'000);
        (*pair)[1] = (*pair)[0];
        wrong.unless((*pair)[0] == who * 1'000'000 + round && (*pair)[1] == (*pair)[0]);
        wrong.unless(++**many[static_cast<std::size_t>(round) % many.size()] == round / static_cast<int>(many.size()) + 1);
      }
    });
    CHECK(wrong.count() == 0);
  });
}

TEST_CASE("schedulers have threads of their own, and with them values") {
  weft::local<std::size_t> number;
  weft::run_on(2, [&](const weft::processors& all) {
    *number += all.index() + 1;
    weft::thread([&] { CHECK(*number == 0); }).join();
    CHECK(*number == all.index() + 1);
  });
}

TEST_CASE("a local that is destroyed before its threads leaves them their values, and the next one in its place begins anew") {
  simulate([] {
    std::string story;
    auto first = std::make_unique<weft::local<letter>>([&] { return letter(story, 'v'); });
    weft::binary_semaphore gone(0);
    std::optional<weft::local<int>> second;
    weft::thread t({.start = weft::start::now}, [&] {
      static_cast<void>(first->get());
      gone.acquire();
      CHECK(story.empty());
      CHECK_FALSE(second->has_value());
      CHECK(**second == 0);
      **second = 5;
    });
    first.reset();
    second.emplace();
    gone.release();
    t.join();
    CHECK(story == "v");
    CHECK_FALSE(second->has_value());
  });
}

TEST_CASE("resource_unavailable_try_again: more than 4096 locals at a time, which one thread may all use") {
  simulate([] {
    std::vector<std::unique_ptr<weft::local<std::size_t>>> all;
    const std::error_code why = code_of([&] {
      for (;;) all.push_back(std::make_unique<weft::local<std::size_t>>());
    });
    CHECK(why == std::errc::resource_unavailable_try_again);
    CHECK(all.size() <= 4096);
    CHECK(all.size() > 4000);
    for (std::size_t i = 0; i < all.size(); ++i) **all[i] = i;
    for (std::size_t i = 0; i < all.size(); ++i) CHECK(**all[i] == i);
    all.erase(all.begin() + 100, all.begin() + 200);
    for (int i = 0; i < 100; ++i) {
      all.push_back(std::make_unique<weft::local<std::size_t>>());
      CHECK(**all.back() == 0);
    }
  });
}

TEST_CASE("ten thousand threads, each with a value") {
  simulate([] {
    weft::local<std::unique_ptr<int>> value([] { return std::make_unique<int>(1); });
    weft::counting_semaphore<> go(0);
    long sum = 0;
    std::vector<weft::thread> threads;
    for (int i = 0; i < 10'000; ++i) {
      threads.emplace_back([&, i] {
        **value += i;
        go.acquire();
        sum += **value - i;
      });
    }
    weft::this_thread::yield();
    go.release(10'000);
    for (auto& t : threads) t.join();
    CHECK(sum == 10'000);
  });
}

TEST_CASE("in a child made by fork there are no values, and nothing is destroyed") {
  const child_end end = in_child([] {
    weft::local<std::string> text([] { return std::string("parent's"); });
    weft::run([&] {
      const weft::bound here(text, "bound");
      const pid_t child = ::fork();
      if (child == 0) {
        ::_exit(!text.has_value() && code_of([&] { static_cast<void>(text.get()); }) == std::errc::operation_not_permitted ? 0
                                                                                                                           : 1);
      }
      int status = -1;
      ::waitpid(child, &status, 0);
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || *text != "bound") ::_exit(1);
    });
  });
  CHECK(end.exited_with(0));
}
