// Every error of what weft has of the standard library, and of its own kin, by name: which code, and a sentence that says what
// is wrong. Futures' errors in all their shapes: future_test, future_async_test.
#include <doctest/doctest.h>

#include <signal.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "tests/simulated_source.hpp"
#include "weft/barrier.hpp"
#include "weft/blocking.hpp"
#include "weft/call_once.hpp"
#include "weft/cancel.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/future.hpp"
#include "weft/latch.hpp"
#include "weft/local.hpp"
#include "weft/mutex.hpp"
#include "weft/nursery.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

namespace {

struct misuse {
  const char* name;
  std::error_code code;
  const char* words;  // of its sentence; "" where the standard library writes it
  std::function<void()> call;
};

const std::error_code not_permitted = std::make_error_code(std::errc::operation_not_permitted);
const std::error_code deadlock = std::make_error_code(std::errc::resource_deadlock_would_occur);
const std::error_code invalid = std::make_error_code(std::errc::invalid_argument);

void check(const misuse& m) {
  CAPTURE(std::string(m.name));
  std::error_code code;
  std::string text = "nothing";
  try {
    m.call();
  } catch (const std::system_error& error) {
    code = error.code();
    text = error.what();
  } catch (const weft::future_error& error) {
    code = error.code();
    text = error.what();
  }
  CHECK(code == m.code);
  CHECK(says(text, m.words));
}

void lock_twice(auto& m) {
  const std::lock_guard first(m);
  m.lock();
}
void read_and_lock(auto& m) {
  const std::shared_lock reader(m);
  m.lock();
}
void lock_and_read(auto& m) {
  const std::lock_guard writer(m);
  m.lock_shared();
}

std::vector<misuse> of_locks() {
  return {
      {"relocking a mutex", deadlock, "holds this mutex",
       [] {
         weft::mutex m;
         lock_twice(m);
       }},
      {"relocking a timed_mutex", deadlock, "holds this mutex",
       [] {
         weft::timed_mutex m;
         lock_twice(m);
       }},
      {"waiting for one's own timed_mutex", deadlock, "holds this mutex",
       [] {
         weft::timed_mutex m;
         const std::lock_guard first(m);
         static_cast<void>(m.try_lock_for(1h));
       }},
      {"relocking a shared_mutex", deadlock, "holds",
       [] {
         weft::shared_mutex m;
         lock_twice(m);
       }},
      {"a reader that locks alone", deadlock, "holds",
       [] {
         weft::shared_mutex m;
         read_and_lock(m);
       }},
      {"an owner that locks as a reader", deadlock, "holds",
       [] {
         weft::shared_timed_mutex m;
         lock_and_read(m);
       }},
      {"unlocking a free mutex", not_permitted, "does not hold", [] { weft::mutex().unlock(); }},
      {"unlocking a free timed_mutex", not_permitted, "does not hold", [] { weft::timed_mutex().unlock(); }},
      {"unlocking a free recursive_mutex", not_permitted, "does not hold", [] { weft::recursive_mutex().unlock(); }},
      {"unlocking a free recursive_timed_mutex", not_permitted, "does not hold", [] { weft::recursive_timed_mutex().unlock(); }},
      {"unlocking a free shared_mutex", not_permitted, "does not hold", [] { weft::shared_mutex().unlock(); }},
      {"unlock_shared of a free shared_mutex", not_permitted, "", [] { weft::shared_mutex().unlock_shared(); }},
      {"unlocking another thread's mutex", not_permitted, "does not hold",
       [] {
         weft::mutex m;
         m.lock();
         std::exception_ptr error;
         weft::thread([&] {
           try {
             m.unlock();
           } catch (...) {
             error = std::current_exception();
           }
         }).join();
         m.unlock();
         if (error != nullptr) std::rethrow_exception(error);
       }},
  };
}

std::vector<misuse> of_calls_and_conditions() {
  return {
      {"call_once from its own function", deadlock, "call_once",
       [] {
         weft::once_flag flag;
         weft::call_once(flag, [&] { weft::call_once(flag, [] {}); });
       }},
      {"condition_variable::wait without the lock", not_permitted, "does not hold its mutex",
       [] {
         weft::mutex m;
         std::unique_lock hold(m, std::defer_lock);
         weft::condition_variable().wait(hold);
       }},
      {"notify_all_at_thread_exit without the lock", not_permitted, "does not hold its mutex",
       [] {
         weft::mutex m;
         weft::condition_variable c;
         weft::notify_all_at_thread_exit(c, std::unique_lock(m, std::defer_lock));
       }},
  };
}

std::vector<misuse> of_counts() {
  return {
      {"a semaphore below 0", invalid, "between 0 and max()", [] { weft::counting_semaphore<> s(-1); }},
      {"a semaphore above max()", invalid, "between 0 and max()", [] { weft::binary_semaphore s(2); }},
      {"release of less than nothing", invalid, "must not be negative",
       [] {
         weft::counting_semaphore<> s(0);
         s.release(-1);
       }},
      {"overflow of a semaphore's max", std::make_error_code(std::errc::value_too_large), "exceed max()",
       [] {
         weft::binary_semaphore s(1);
         s.release();
       }},
      {"a latch below 0", invalid, "must not be negative", [] { weft::latch l(-1); }},
      {"count_down of less than nothing", invalid, "must not be negative",
       [] {
         weft::latch l(1);
         l.count_down(-1);
       }},
      {"count_down below 0", invalid, "more arrivals",
       [] {
         weft::latch l(1);
         l.count_down(2);
       }},
      {"latch::arrive_and_wait below 0", invalid, "more arrivals",
       [] {
         weft::latch l(1);
         l.arrive_and_wait(2);
       }},
      {"a barrier below 0", invalid, "must not be negative", [] { weft::barrier<> b(-1); }},
      {"barrier::arrive of nothing", invalid, "must be positive",
       [] {
         weft::barrier<> b(1);
         static_cast<void>(b.arrive(0));
       }},
      {"barrier::arrive of too many", invalid, "more arrivals",
       [] {
         weft::barrier<> b(1);
         static_cast<void>(b.arrive(2));
       }},
      {"arrive_and_drop where none is expected", invalid, "more arrivals", [] { weft::barrier<>(0).arrive_and_drop(); }},
      {"arrive_and_wait where none is expected", invalid, "more arrivals", [] { weft::barrier<>(0).arrive_and_wait(); }},
      {"barrier::wait for another one's token", invalid, "another barrier",
       [] {
         weft::barrier<> a(1);
         weft::barrier<> b(1);
         b.wait(a.arrive());
       }},
  };
}

std::vector<misuse> of_threads() {
  return {
      {"thread::join of none", invalid, "thread::join", [] { weft::thread().join(); }},
      {"thread::try_join_for of none", invalid, "thread::join", [] { static_cast<void>(weft::thread().try_join_for(1s)); }},
      {"thread::detach of none", invalid, "thread::detach", [] { weft::thread().detach(); }},
      {"jthread::join of none", invalid, "thread::join", [] { weft::jthread().join(); }},
      {"jthread::detach of none", invalid, "thread::detach", [] { weft::jthread().detach(); }},
      {"a thread that joins itself", deadlock, "cannot join itself",
       [] {
         weft::thread self;
         std::exception_ptr error;
         self = weft::thread([&] {
           try {
             self.join();
           } catch (...) {
             error = std::current_exception();
           }
         });
         weft::this_thread::yield();
         self.join();
         if (error != nullptr) std::rethrow_exception(error);
       }},
  };
}

std::vector<misuse> of_results() {
  using weft::future_errc;
  return {
      {"future::get without a state", make_error_code(future_errc::no_state), "", [] { weft::future<int>().get(); }},
      {"shared_future::wait without a state", make_error_code(future_errc::no_state), "",
       [] { weft::shared_future<int>().wait(); }},
      {"promise::set_value without a state", make_error_code(future_errc::no_state), "",
       [] {
         weft::promise<int> p;
         const weft::promise<int> other(std::move(p));
         p.set_value(1);
       }},
      {"a call of no packaged_task", make_error_code(future_errc::no_state), "", [] { weft::packaged_task<void()>()(); }},
      {"packaged_task::reset of none", make_error_code(future_errc::no_state), "", [] { weft::packaged_task<void()>().reset(); }},
      {"promise::get_future twice", make_error_code(future_errc::future_already_retrieved), "",
       [] {
         weft::promise<int> p;
         static_cast<void>(p.get_future());
         static_cast<void>(p.get_future());
       }},
      {"packaged_task::get_future twice", make_error_code(future_errc::future_already_retrieved), "",
       [] {
         weft::packaged_task<void()> task([] {});
         static_cast<void>(task.get_future());
         static_cast<void>(task.get_future());
       }},
      {"promise::set_value twice", make_error_code(future_errc::promise_already_satisfied), "",
       [] {
         weft::promise<int> p;
         p.set_value(1);
         p.set_value(2);
       }},
      {"promise::set_exception twice", make_error_code(future_errc::promise_already_satisfied), "",
       [] {
         weft::promise<int> p;
         p.set_value(1);
         p.set_exception(std::make_exception_ptr(1));
       }},
      {"packaged_task called twice", make_error_code(future_errc::promise_already_satisfied), "",
       [] {
         weft::packaged_task<void()> task([] {});
         task();
         task();
       }},
      {"a promise that is destroyed without a result", make_error_code(future_errc::broken_promise), "",
       [] {
         std::optional<weft::promise<int>> p(std::in_place);
         auto f = p->get_future();
         p.reset();
         f.get();
       }},
      {"promise::set_exception of none", invalid, "null", [] { weft::promise<int>().set_exception(nullptr); }},
      {"async with a policy that is none", invalid, "policy", [] { static_cast<void>(weft::async(weft::launch{}, [] {})); }},
  };
}

// Everything that needs a weft thread, called off one.
std::vector<misuse> off_weft_threads() {
  static weft::mutex mutex;
  static weft::timed_mutex timed;
  static weft::recursive_mutex recursive;
  static weft::shared_mutex shared;
  static weft::condition_variable condition;
  static weft::condition_variable_any condition_any;
  static weft::counting_semaphore<> permits(1);
  static weft::latch latch(1);
  static weft::barrier<> barrier(1);
  static weft::once_flag once;
  static weft::channel<int> channel(1);
  static weft::nursery nursery;
  static std::mutex plain;
  return {
      {"thread", not_permitted, "thread", [] { weft::thread t([] {}); }},
      {"jthread", not_permitted, "thread", [] { weft::jthread t([] {}); }},
      {"this_thread::yield", not_permitted, "this_thread::yield", [] { weft::this_thread::yield(); }},
      {"this_thread::sleep_for", not_permitted, "", [] { weft::this_thread::sleep_for(1s); }},
      {"this_thread::name", not_permitted, "this_thread::name", [] { static_cast<void>(weft::this_thread::name()); }},
      {"this_thread::set_time_slice", not_permitted, "set_time_slice", [] { weft::this_thread::set_time_slice(true); }},
      {"mutex::lock", not_permitted, "", [] { mutex.lock(); }},
      {"mutex::try_lock", not_permitted, "", [] { static_cast<void>(mutex.try_lock()); }},
      {"timed_mutex::try_lock_for", not_permitted, "", [] { static_cast<void>(timed.try_lock_for(1s)); }},
      {"recursive_mutex::try_lock", not_permitted, "", [] { static_cast<void>(recursive.try_lock()); }},
      {"shared_mutex::lock", not_permitted, "", [] { shared.lock(); }},
      {"shared_mutex::lock_shared", not_permitted, "", [] { shared.lock_shared(); }},
      {"condition_variable_any::wait", not_permitted, "condition_variable_any",
       [] {
         std::unique_lock hold(plain);
         condition_any.wait(hold);
       }},
      {"counting_semaphore::acquire", not_permitted, "semaphore", [] { permits.acquire(); }},
      {"counting_semaphore::try_acquire", not_permitted, "semaphore", [] { static_cast<void>(permits.try_acquire()); }},
      {"counting_semaphore::release", not_permitted, "semaphore", [] { permits.release(); }},
      {"latch::count_down", not_permitted, "latch", [] { latch.count_down(); }},
      {"latch::wait", not_permitted, "latch", [] { latch.wait(); }},
      {"barrier::arrive", not_permitted, "barrier", [] { static_cast<void>(barrier.arrive()); }},
      {"call_once", not_permitted, "call_once", [] { weft::call_once(once, [] {}); }},
      {"channel::send", not_permitted, "channel", [] { channel.send(1); }},
      {"channel::receive", not_permitted, "channel", [] { static_cast<void>(channel.receive()); }},
      {"select", not_permitted, "select", [] { static_cast<void>(weft::select(weft::otherwise())); }},
      {"async", not_permitted, "async", [] { static_cast<void>(weft::async([] {})); }},
      {"nursery::spawn", not_permitted, "nursery::spawn", [] { nursery.spawn([] {}); }},
      {"nursery::join", not_permitted, "nursery::join", [] { nursery.join(); }},
      {"cancel_scope::run", not_permitted, "cancel_scope", [] { weft::cancel_scope().run([] {}); }},
      {"with_timeout", not_permitted, "", [] { static_cast<void>(weft::with_timeout(1s, [] {})); }},
      {"shield", not_permitted, "shield", [] { const weft::shield here; }},
      {"blocking", not_permitted, "blocking", [] { weft::blocking([] {}); }},
      {"dump_threads", not_permitted, "", [] { static_cast<void>(weft::dump_threads()); }},
  };
}

// Ends a child by a sentence.
void check_end(const char* sentence, const std::function<void()>& fn) {
  const child_end end = in_child([&] { fn(); });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said(sentence));
}

}  // namespace

TEST_CASE("operation_not_permitted, resource_deadlock_would_occur: misuse of locks is an error by name") {
  for (const misuse& each : of_locks()) simulate([&] { check(each); });
  for (const misuse& each : of_calls_and_conditions()) simulate([&] { check(each); });
}

TEST_CASE("invalid_argument, value_too_large, resource_deadlock_would_occur: counts and threads") {
  for (const misuse& each : of_counts()) simulate([&] { check(each); });
  for (const misuse& each : of_threads()) simulate([&] { check(each); });
}

TEST_CASE("no_state, future_already_retrieved, promise_already_satisfied, broken_promise: results") {
  for (const misuse& each : of_results()) simulate([&] { check(each); });
  for (const misuse& each : of_results()) {
    if (each.name != std::string("async with a policy that is none")) check(each);  // kernel threads have results, too
  }
}

TEST_CASE("operation_not_permitted: what needs a weft thread says so off one") {
  for (const misuse& each : off_weft_threads()) check(each);
}

TEST_CASE("bad_optional_access, logic_error, channel_closed: what has its own kind of error") {
  simulate([] {
    weft::nursery home;
    auto result = home.start([] { return 1; });
    CHECK(result.get() == 1);
    CHECK_THROWS_AS(result.get(), std::bad_optional_access);
    weft::cancel_scope scope;
    CHECK_THROWS_AS(scope.run([&] { scope.run([] {}); }), std::logic_error);
    weft::channel<int> c;
    c.close();
    CHECK_THROWS_AS(c.send(1), weft::channel_closed);
  });
}

TEST_CASE("what is destroyed while somebody waits for it ends the program with a sentence") {
  check_end("weft: a channel was destroyed while threads wait on it", [] {
    weft::run([] {
      auto c = std::make_unique<weft::channel<int>>();
      weft::thread waits({.start = weft::start::now}, [&c = *c] { static_cast<void>(c.receive()); });
      c.reset();
    });
  });
  check_end("weft: a condition_variable was destroyed while threads wait on it", [] {
    weft::run([] {
      weft::mutex m;
      auto c = std::make_unique<weft::condition_variable>();
      weft::thread waits({.start = weft::start::now}, [&m, &c = *c] {
        std::unique_lock hold(m);
        c.wait(hold);
      });
      c.reset();
    });
  });
}

TEST_CASE("what cannot throw and finds threads that wait ends the program with a sentence off a weft thread") {
  check_end("weft: condition_variable_any::notify_all was called outside a weft thread", [] {
    weft::run([] {
      weft::mutex m;
      weft::condition_variable_any c;
      weft::thread waits({.start = weft::start::now}, [&] {
        std::unique_lock hold(m);
        c.wait(hold);
      });
      std::thread([&] { c.notify_all(); }).join();
    });
  });
  for (const bool with_token : {false, true}) {
    check_end("weft: cancel_scope::request_cancel was called outside a weft thread", [=] {
      weft::run([=] {
        weft::cancel_scope scope;
        if (with_token) static_cast<void>(scope.stop_token());
        scope.run([&] { std::thread([&] { scope.request_cancel(); }).join(); });
      });
    });
  }
}
