// promise, future, shared_future between the threads of one scheduler: values, errors, deadlines, cancellation.
#include "weft/future.hpp"

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/simulated_source.hpp"

using namespace std::chrono_literals;
using weft::future_errc;
using weft::future_status;

namespace {

std::string error_in(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "none";
}

struct throws_when_copied {
  throws_when_copied() = default;
  throws_when_copied(const throws_when_copied&) { throw std::runtime_error("no copy"); }
  throws_when_copied(throws_when_copied&&) = default;
  throws_when_copied& operator=(const throws_when_copied&) = delete;
  throws_when_copied& operator=(throws_when_copied&&) = delete;
  ~throws_when_copied() = default;
};

}  // namespace

TEST_CASE("a value, a reference, nothing at all and an object that only moves go from a promise to its future") {
  simulate([] {
    weft::promise<int> number;
    weft::promise<std::string&> reference;
    weft::promise<void> nothing;
    weft::promise<std::unique_ptr<int>> moves;
    std::string text = "text";
    auto a = number.get_future();
    auto b = reference.get_future();
    auto c = nothing.get_future();
    auto d = moves.get_future();
    weft::thread giver([&] {
      number.set_value(7);
      reference.set_value(text);
      nothing.set_value();
      moves.set_value(std::make_unique<int>(8));
    });
    CHECK(a.get() == 7);
    CHECK(&b.get() == &text);
    c.get();
    CHECK(*d.get() == 8);
    CHECK_FALSE(a.valid());
    CHECK_FALSE(c.valid());
    giver.join();
  });
}

TEST_CASE("a result that is there before anybody waits is had without a wait") {
  simulate([] {
    weft::promise<int> p;
    auto f = p.get_future();
    CHECK(f.wait_for(0s) == future_status::timeout);
    p.set_value(1);
    bool others_ran = false;
    weft::thread other([&] { others_ran = true; });
    CHECK(f.wait_for(0s) == future_status::ready);
    CHECK(f.wait_until(weft::time_point::min()) == future_status::ready);
    f.wait();
    CHECK(f.get() == 1);
    CHECK_FALSE(others_ran);
    other.join();
  });
}

TEST_CASE("an exception goes the same way, to every copy of a shared future") {
  simulate([] {
    weft::promise<int> p;
    const weft::shared_future<int> one = p.get_future().share();
    const weft::shared_future<int> two = one;
    p.set_exception(std::make_exception_ptr(std::runtime_error("broke")));
    CHECK(error_in([&] { static_cast<void>(one.get()); }) == "broke");
    CHECK(error_in([&] { static_cast<void>(two.get()); }) == "broke");
    CHECK(one.valid());
    weft::promise<void> q;
    auto f = q.get_future();
    q.set_exception(std::make_exception_ptr(std::runtime_error("too")));
    CHECK(error_in([&] { f.get(); }) == "too");
    CHECK_FALSE(f.valid());
  });
}

TEST_CASE("every misuse of a promise or a future is an error with the standard's code") {
  simulate([] {
    weft::promise<int> p;
    auto f = p.get_future();
    CHECK(code_of([&] { static_cast<void>(p.get_future()); }) == future_errc::future_already_retrieved);
    p.set_value(1);
    CHECK(code_of([&] { p.set_value(2); }) == future_errc::promise_already_satisfied);
    const auto error = std::make_exception_ptr(1);
    CHECK(code_of([&] { p.set_exception(error); }) == future_errc::promise_already_satisfied);
    CHECK(code_of([&] { p.set_value_at_thread_exit(2); }) == future_errc::promise_already_satisfied);
    CHECK(code_of([&] { p.set_exception_at_thread_exit(error); }) == future_errc::promise_already_satisfied);
    CHECK(f.get() == 1);
    CHECK(code_of([&] { static_cast<void>(f.get()); }) == future_errc::no_state);
    CHECK(code_of([&] { f.wait(); }) == future_errc::no_state);
    CHECK(code_of([&] { static_cast<void>(f.wait_for(1s)); }) == future_errc::no_state);
    CHECK(code_of([&] { static_cast<void>(f.wait_until(weft::never)); }) == future_errc::no_state);
    CHECK(code_of([] { static_cast<void>(weft::shared_future<int>().get()); }) == future_errc::no_state);

    weft::promise<int> moved = std::move(p);
    CHECK(code_of([&] { p.set_value(1); }) == future_errc::no_state);
    CHECK(code_of([&] { p.set_exception(error); }) == future_errc::no_state);
    CHECK(code_of([&] { p.set_value_at_thread_exit(1); }) == future_errc::no_state);
    CHECK(code_of([&] { static_cast<void>(p.get_future()); }) == future_errc::no_state);
    weft::promise<void> q;
    CHECK(code_of([&] { q.set_exception(nullptr); }) == std::errc::invalid_argument);
    q.set_value();
  });
}

TEST_CASE("a promise that is destroyed, or assigned to, without a result is broken for those who wait") {
  simulate([] {
    std::optional<weft::promise<int>> p(std::in_place);
    auto f = p->get_future();
    weft::thread waits([&] { CHECK(code_of([&] { static_cast<void>(f.get()); }) == future_errc::broken_promise); });
    weft::this_thread::yield();
    p.reset();
    waits.join();
    weft::promise<void> one;
    auto g = one.get_future();
    one = weft::promise<void>();
    CHECK(code_of([&] { g.get(); }) == future_errc::broken_promise);
  });
}

TEST_CASE("a value whose copy throws is none: the promise can still be kept") {
  simulate([] {
    weft::promise<throws_when_copied> p;
    auto f = p.get_future();
    const throws_when_copied value;
    CHECK(error_in([&] { p.set_value(value); }) == "no copy");
    CHECK(error_in([&] { p.set_value_at_thread_exit(value); }) == "no copy");
    CHECK(f.wait_for(0s) == future_status::timeout);
    p.set_value(throws_when_copied());
    static_cast<void>(f.get());
  });
}

TEST_CASE("all threads that wait for a shared future go on, in the order in which they came") {
  simulate([] {
    weft::promise<std::string> p;
    const auto f = p.get_future().share();
    std::string order;
    std::vector<weft::thread> threads;
    for (const char c : {'a', 'b', 'c', 'd'}) {
      threads.emplace_back([&order, c, f] {
        const std::string& seen = f.get();
        order += c + seen;
      });
    }
    weft::this_thread::yield();
    p.set_value("1");
    CHECK(order.empty());
    for (auto& t : threads) t.join();
    CHECK(order == "a1b1c1d1");
  });
}

TEST_CASE("a timed wait ends at its time on any clock, and the result can still be waited for") {
  simulate([] {
    weft::promise<int> p;
    auto f = p.get_future();
    const auto begin = weft::detail::now();
    CHECK(f.wait_for(5ms) == future_status::timeout);
    CHECK(weft::detail::now() - begin >= 5ms);
    CHECK(f.wait_for(-1h) == future_status::timeout);
    CHECK(f.wait_until(weft::detail::now() + 3ms) == future_status::timeout);
    CHECK(f.wait_until(std::chrono::system_clock::now() - 1h) == future_status::timeout);
    CHECK(f.wait_until(std::chrono::time_point<std::chrono::system_clock, std::chrono::hours>::min()) == future_status::timeout);
    weft::thread giver([&] {
      weft::this_thread::sleep_for(1ms);
      p.set_value(4);
    });
    CHECK(f.wait_for(std::chrono::hours::max()) == future_status::ready);
    CHECK(f.get() == 4);
    giver.join();
  });
}

namespace {

// A clock that is set back whenever somebody looks at it, a few times.
struct set_back {
  using duration = std::chrono::milliseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<set_back>;
  [[maybe_unused]] static constexpr bool is_steady = false;
  static inline int looks = 0;
  static time_point now() { return time_point(++looks < 4 ? 0ms : 10ms); }
};

}  // namespace

TEST_CASE("a clock that is set back while somebody waits by it is asked again") {
  simulate([] {
    const weft::promise<int> never_kept;
    weft::promise<int> p;
    auto f = p.get_future();
    const auto begin = weft::detail::now();
    set_back::looks = 0;
    CHECK(f.wait_until(set_back::time_point(10ms)) == future_status::timeout);
    CHECK(weft::detail::now() - begin == 30ms);
  });
}

TEST_CASE("who is asked to end while it waits leaves the future as it was") {
  simulate([] {
    weft::promise<int> p;
    auto f = p.get_future();
    CHECK(cancelled_in([&] { static_cast<void>(f.get()); }));
    CHECK(f.valid());
    CHECK(cancelled_in([&] { f.wait(); }));
    CHECK(cancelled_in([&] { static_cast<void>(f.wait_for(1h)); }));
    CHECK(f.wait_for(1ms) == future_status::timeout);
    p.set_value(5);
    CHECK_FALSE(cancelled_in([&] { f.wait(); }));  // there is nothing to wait for
    CHECK(f.get() == 5);
  });
}

TEST_CASE("a result that comes together with a deadline or a cancellation is not lost") {
  simulate([] {
    weft::promise<int> p;
    const auto f = p.get_future().share();
    std::optional<int> late;
    weft::thread timed([&] {
      CHECK(f.wait_for(1ms) == future_status::ready);
      late = f.get();
    });
    bool cancelled = false;
    weft::thread ends([&] {
      try {
        f.wait();
      } catch (const weft::cancelled&) {
        cancelled = true;
      }
    });
    weft::this_thread::sleep_for(1ms);  // its timer is due with ours
    ends.request_cancel();
    p.set_value(6);
    timed.join();
    ends.join();
    CHECK(late == 6);
    CHECK(cancelled);
    CHECK(f.get() == 6);
  });
}

TEST_CASE("moves and swaps take the state along") {
  simulate([] {
    weft::promise<int> one;
    weft::promise<int> two;
    auto f = one.get_future();
    one.swap(two);
    swap(one, two);
    std::swap(one, two);
    two.set_value(1);
    weft::future<int> g = std::move(f);
    CHECK_FALSE(f.valid());
    CHECK(g.get() == 1);
    weft::promise<int>& same = two;
    two = std::move(same);
    CHECK(code_of([&] { two.set_value(1); }) == future_errc::promise_already_satisfied);
    weft::shared_future<int> shared = one.get_future();
    one.set_value(2);
    const weft::shared_future<int> moved = std::move(shared);
    CHECK_FALSE(shared.valid());
    CHECK(moved.get() == 2);
  });
}

TEST_CASE("the state of a promise with an allocator lies in the allocator's memory") {
  simulate([] {
    std::array<std::byte, 1024> room{};
    std::pmr::monotonic_buffer_resource memory(room.data(), room.size(), std::pmr::null_memory_resource());
    weft::promise<std::array<char, 64>> p(std::allocator_arg, std::pmr::polymorphic_allocator<>(&memory));
    auto f = p.get_future();
    p.set_value({'x'});
    const weft::shared_future<std::array<char, 64>> shared = f.share();
    const char* const at = shared.get().data();
    CHECK(at >= reinterpret_cast<const char*>(room.data()));
    CHECK(at < reinterpret_cast<const char*>(room.data() + room.size()));
    weft::promise<void> nothing(std::allocator_arg, std::allocator<int>());
    nothing.set_value();
  });
}

TEST_CASE("a value given for the end of a thread is ready when its function's objects are gone") {
  simulate([] {
    weft::promise<std::string> p;
    weft::promise<void> q;
    auto f = p.get_future();
    auto g = q.get_future();
    bool gone = false;
    struct object {
      bool& gone;
      ~object() {
        weft::this_thread::yield();
        gone = true;
      }
    };
    weft::thread t([&, end = std::unique_ptr<object>(new object{gone})] {
      p.set_value_at_thread_exit("last");
      q.set_exception_at_thread_exit(std::make_exception_ptr(std::runtime_error("end")));
      CHECK(code_of([&] { p.set_value("again"); }) == future_errc::promise_already_satisfied);
      CHECK(f.wait_for(1ms) == future_status::timeout);
      weft::this_thread::yield();
    });
    CHECK(f.get() == "last");
    CHECK(gone);
    CHECK(error_in([&] { g.get(); }) == "end");
    t.join();
  });
}

TEST_CASE("a promise that is destroyed before its thread ends is kept at that end, also by a cancellation") {
  simulate([] {
    std::optional<weft::promise<int>> p(std::in_place);
    auto f = p->get_future();
    weft::thread t([&] {
      p->set_value_at_thread_exit(3);
      weft::this_thread::sleep_for(1h);
    });
    weft::this_thread::yield();
    p.reset();
    CHECK(f.wait_for(0s) == future_status::timeout);
    t.request_cancel();
    CHECK(f.get() == 3);
    t.join();
  });
}
