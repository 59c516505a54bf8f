// both-transfers
// Every operation of weft that can wait, by name: a scope's cancel, a deadline and the thread's end are thrown out of it, and
// what it waited for is as it was. (What a region does says blocking_test.)
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/barrier.hpp"
#include "weft/call_once.hpp"
#include "weft/cancel.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/file.hpp"
#include "weft/future.hpp"
#include "weft/latch.hpp"
#include "weft/mutex.hpp"
#include "weft/net.hpp"
#include "weft/nursery.hpp"
#include "weft/process.hpp"
#include "weft/runtime.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"

using namespace std::chrono_literals;

namespace {

void for_ever() { weft::this_thread::sleep_for(1h); }

// A listener that takes no more connections: who connects waits for the answer.
class full_listener {
 public:
  full_listener() {
    listener_ = weft::io::descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address_;
    REQUIRE(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address_), length) == 0);
    REQUIRE(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address_), &length) == 0);
    REQUIRE(::listen(listener_.get(), 0) == 0);
    for (auto& each : queued_) {
      each = weft::io::descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      static_cast<void>(::connect(each.get(), reinterpret_cast<const sockaddr*>(&address_), length));
    }
  }
  [[nodiscard]] weft::net::endpoint endpoint() const {
    return weft::net::endpoint(reinterpret_cast<const sockaddr*>(&address_), sizeof address_);
  }

 private:
  weft::io::descriptor listener_;
  std::array<weft::io::descriptor, 4> queued_;
  sockaddr_in address_{};
};

// What there is to wait for in vain. The locks are held by the thread that makes it.
struct things {
  weft::mutex mutex;
  weft::timed_mutex timed;
  weft::recursive_mutex recursive;
  weft::recursive_timed_mutex recursive_timed;
  weft::shared_mutex shared;
  weft::shared_timed_mutex shared_timed;
  weft::mutex free;
  weft::condition_variable condition;
  weft::condition_variable_any condition_any;
  std::stop_source stop;
  weft::counting_semaphore<> permits{0};
  weft::latch latch{1000};
  weft::barrier<> barrier{1000};
  weft::once_flag once;
  weft::channel<int> unbuffered;
  weft::channel<int> full{1};
  weft::promise<int> promise;
  weft::shared_future<int> result = promise.get_future().share();
  weft::nursery nursery;
  weft::thread sleeper{for_ever};
  weft::jthread stoppable{for_ever};
  weft::thread calls_once{[this] { weft::call_once(once, for_ever); }};
  weft::process child = weft::process::spawn({"sleep", "1000"});
  pipe_of_two empty_pipe;
  pipe_of_two full_pipe;
  temporary_directory directory;
  weft::net::tcp_listener tcp{weft::net::endpoint::loopback(0)};
  weft::net::unix_listener local{directory / "socket"};
  full_listener unreachable;
  weft::net::unix_stream near, far;
  std::array<char, 64> bytes{};
  std::string much = std::string(1 << 20, 'x');

  things() {
    std::tie(near, far) = weft::net::unix_stream::pair();
    fill(full_pipe.writer);
    full.send(1);
    mutex.lock();
    timed.lock();
    recursive.lock();
    recursive_timed.lock();
    shared.lock();
    shared_timed.lock();
    REQUIRE(::mkfifo((directory / "fifo").c_str(), 0600) == 0);
    weft::this_thread::yield();
  }
  ~things() {
    mutex.unlock();
    timed.unlock();
    recursive.unlock();
    recursive_timed.unlock();
    shared.unlock();
    shared_timed.unlock();
    for (weft::thread* t : {&sleeper, &calls_once}) {
      t->request_cancel();
      t->join();
    }
    stoppable.request_cancel();
  }
  things(const things&) = delete;
  things& operator=(const things&) = delete;
};

struct operation {
  const char* name;
  std::function<void(things&)> wait;
};

template <class Wait> std::function<void(things&)> under_a_lock(Wait wait) {
  return [wait](things& t) {
    std::unique_lock hold(t.free);
    wait(t, hold);
  };
}

std::vector<operation> of_threads_and_locks() {
  using lock = std::unique_lock<weft::mutex>;
  return {
      {"this_thread::sleep_for", [](things&) { for_ever(); }},
      {"this_thread::sleep_until", [](things&) { weft::this_thread::sleep_until(std::chrono::system_clock::now() + 1h); }},
      {"thread::join", [](things& t) { t.sleeper.join(); }},
      {"thread::try_join_for", [](things& t) { static_cast<void>(t.sleeper.try_join_for(1h)); }},
      {"jthread::join", [](things& t) { t.stoppable.join(); }},
      {"jthread::try_join_for", [](things& t) { static_cast<void>(t.stoppable.try_join_for(1h)); }},
      {"mutex::lock", [](things& t) { t.mutex.lock(); }},
      {"timed_mutex::lock", [](things& t) { t.timed.lock(); }},
      {"timed_mutex::try_lock_for", [](things& t) { static_cast<void>(t.timed.try_lock_for(1h)); }},
      {"recursive_mutex::lock", [](things& t) { t.recursive.lock(); }},
      {"recursive_timed_mutex::try_lock_for", [](things& t) { static_cast<void>(t.recursive_timed.try_lock_for(1h)); }},
      {"shared_mutex::lock", [](things& t) { t.shared.lock(); }},
      {"shared_mutex::lock_shared", [](things& t) { t.shared.lock_shared(); }},
      {"shared_timed_mutex::try_lock_for", [](things& t) { static_cast<void>(t.shared_timed.try_lock_for(1h)); }},
      {"shared_timed_mutex::try_lock_shared_for", [](things& t) { static_cast<void>(t.shared_timed.try_lock_shared_for(1h)); }},
      {"condition_variable::wait", under_a_lock([](things& t, lock& hold) { t.condition.wait(hold); })},
      {"condition_variable::wait_for", under_a_lock([](things& t, lock& hold) { t.condition.wait_for(hold, 1h); })},
      {"condition_variable_any::wait", under_a_lock([](things& t, lock& hold) { t.condition_any.wait(hold); })},
      {"condition_variable_any::wait_for", under_a_lock([](things& t, lock& hold) { t.condition_any.wait_for(hold, 1h); })},
      {"condition_variable_any::wait(token)",
       under_a_lock([](things& t, lock& hold) { t.condition_any.wait(hold, t.stop.get_token(), [] { return false; }); })},
  };
}

std::vector<operation> of_values_and_phases() {
  return {
      {"counting_semaphore::acquire", [](things& t) { t.permits.acquire(); }},
      {"counting_semaphore::try_acquire_for", [](things& t) { static_cast<void>(t.permits.try_acquire_for(1h)); }},
      {"latch::wait", [](things& t) { t.latch.wait(); }},
      {"latch::arrive_and_wait", [](things& t) { t.latch.arrive_and_wait(); }},
      {"barrier::wait", [](things& t) { t.barrier.wait(t.barrier.arrive()); }},
      {"barrier::arrive_and_wait", [](things& t) { t.barrier.arrive_and_wait(); }},
      {"call_once", [](things& t) { weft::call_once(t.once, [] {}); }},
      {"channel::send", [](things& t) { t.full.send(1); }},
      {"channel::send_for",
       [](things& t) {
         int v = 1;
         static_cast<void>(t.full.try_send_for(v, 1h));
       }},
      {"channel::receive", [](things& t) { static_cast<void>(t.unbuffered.receive()); }},
      {"channel::receive_for", [](things& t) { static_cast<void>(t.unbuffered.receive_for(1h)); }},
      {"channel, range-for",
       [](things& t) {
         for (int v : t.unbuffered) static_cast<void>(v);
       }},
      {"select",
       [](things& t) {
         std::optional<int> got;
         static_cast<void>(weft::select(weft::on_receive(t.unbuffered, got), weft::on_send(t.full, 1),
                                        weft::on_acquire(t.permits), weft::on_ready(t.result), weft::on_timeout(1h)));
       }},
      {"future::get",
       [](things&) {
         weft::promise<int> p;
         static_cast<void>(p.get_future().get());
       }},
      {"shared_future::wait", [](things& t) { t.result.wait(); }},
      {"shared_future::wait_for", [](things& t) { t.result.wait_for(1h); }},
      {"future of an async", [](things&) { weft::async(for_ever).get(); }},
      {"nursery::join",
       [](things& t) {
         t.nursery.spawn(for_ever);
         t.nursery.join();
       }},
      {"nursery::result::get",
       [](things&) {
         weft::nursery home;
         home.start(for_ever).get();
       }},
      {"with_nursery", [](things&) { weft::with_nursery([](weft::nursery& home) { home.spawn(for_ever); }); }},
  };
}

std::vector<operation> in_the_kernel() {
  return {
      {"io::read", [](things& t) { weft::io::read(t.empty_pipe.reader, t.bytes); }},
      {"io::readv",
       [](things& t) {
         const iovec into[] = {{t.bytes.data(), 8}, {t.bytes.data() + 8, 8}};
         weft::io::readv(t.empty_pipe.reader, into);
       }},
      {"io::read_exactly", [](things& t) { weft::io::read_exactly(t.empty_pipe.reader, t.bytes); }},
      {"io::write", [](things& t) { weft::io::write(t.full_pipe.writer, t.much); }},
      {"io::writev",
       [](things& t) {
         const iovec from[] = {{t.much.data(), 8000}, {t.much.data(), 8000}};
         weft::io::writev(t.full_pipe.writer, from);
       }},
      {"io::write_all", [](things& t) { weft::io::write_all(t.full_pipe.writer, t.much); }},
      {"io::poll", [](things& t) { static_cast<void>(weft::io::poll(t.empty_pipe.reader, POLLIN)); }},
      {"io::accept", [](things& t) { static_cast<void>(weft::io::accept(t.tcp.descriptor())); }},
      {"io::open of a FIFO", [](things& t) { static_cast<void>(weft::io::open(t.directory / "fifo", O_RDONLY)); }},
      {"tcp_listener::accept", [](things& t) { static_cast<void>(t.tcp.accept()); }},
      {"tcp_stream::connect", [](things& t) { static_cast<void>(weft::net::tcp_stream::connect(t.unreachable.endpoint())); }},
      {"unix_listener::accept", [](things& t) { static_cast<void>(t.local.accept()); }},
      {"unix_stream::read", [](things& t) { t.near.read(t.bytes); }},
      {"unix_stream::read_exactly", [](things& t) { t.near.read_exactly(t.bytes); }},
      {"unix_stream::write_all",
       [](things& t) {
         for (;;) t.far.write_all(t.much);
       }},
      {"process::wait", [](things& t) { t.child.wait(); }},
  };
}

std::vector<operation> everything() {
  std::vector<operation> all = of_threads_and_locks();
  for (auto& more : {of_values_and_phases(), in_the_kernel()}) all.insert(all.end(), more.begin(), more.end());
  return all;
}

// Calls `wait` in a thread of its own, and `meanwhile` when that waits. @returns what became of it.
std::string outcome_of(const std::function<void()>& wait, const std::function<void(weft::thread&)>& meanwhile) {
  std::string outcome = "not reached";
  weft::thread t([&] {
    try {
      wait();
      outcome = "returned";
    } catch (const weft::cancelled&) {
      outcome = "cancelled";
      throw;
    } catch (const std::exception& error) {
      outcome = error.what();
    }
  });
  for (int i = 0; i < 3; ++i) weft::this_thread::yield();
  meanwhile(t);
  t.join();
  return outcome;
}

}  // namespace

TEST_CASE("everything that waits is ended by a scope's cancel, and by a deadline over it, and the thread goes on") {
  weft::run([] {
    things t;
    for (const operation& each : everything()) {
      CAPTURE(std::string(each.name));
      weft::cancel_scope scope;
      CHECK(outcome_of(
                [&] {
                  const bool ended = !scope.run([&] { each.wait(t); });
                  CHECK(ended);
                  weft::this_thread::sleep_for(1us);
                },
                [&](weft::thread&) { scope.request_cancel(); }) == "returned");
      CHECK(outcome_of(
                [&] {
                  const bool ended = !weft::with_timeout(1ms, [&] { each.wait(t); });
                  CHECK(ended);
                  weft::this_thread::sleep_for(1us);
                },
                [](weft::thread&) {}) == "returned");
    }
  });
}

TEST_CASE("everything that waits is ended by the end of its thread, and not begun by one that is to end") {
  weft::run([] {
    things t;
    for (const operation& each : everything()) {
      CAPTURE(std::string(each.name));
      CHECK(outcome_of([&] { each.wait(t); }, [](weft::thread& of) { of.request_cancel(); }) == "cancelled");
      weft::cancel_scope scope;
      scope.request_cancel();
      CHECK(outcome_of([&] { static_cast<void>(scope.run([&] { each.wait(t); })); }, [](weft::thread&) {}) == "returned");
    }
  });
}

TEST_CASE("what was waited for in vain is as it was: the next one gets it") {
  weft::run([] {
    things t;
    for (const operation& each : everything()) {
      static_cast<void>(outcome_of([&] { each.wait(t); }, [](weft::thread& of) { of.request_cancel(); }));
    }
    weft::io::write(t.empty_pipe.writer, "p");
    CHECK(weft::io::read(t.empty_pipe.reader, t.bytes) == 1);
    t.far.write_all(std::string_view("n"));
    CHECK(t.near.read(t.bytes) == 1);
    auto client = weft::net::tcp_stream::connect(t.tcp.local_endpoint());
    auto server = t.tcp.accept();
    client.write_all(std::string_view("t"));
    CHECK(server.read(t.bytes) == 1);
    CHECK(t.full.receive() == 1);
    CHECK_FALSE(t.full.try_receive().has_value());
    CHECK_FALSE(t.unbuffered.try_send(1));
    t.permits.release();
    CHECK(t.permits.try_acquire());
    CHECK(t.free.try_lock());
    t.free.unlock();
    t.promise.set_value(3);
    CHECK(t.result.get() == 3);
    t.child.kill(SIGKILL);
    CHECK(t.child.wait().signal == SIGKILL);
  });
}

namespace {

// Those that the kernel finishes soon: they are refused, not begun, or finished whole.
std::vector<operation> brief() {
  return {
      {"io::open", [](things& t) { weft::io::close(weft::io::open(t.directory / "file", O_RDWR | O_CREAT)); }},
      {"file::file", [](things& t) { weft::file(t.directory / "file", weft::open_mode::read_write | weft::open_mode::create); }},
      {"file::read", [](things& t) { weft::file("/etc/passwd").read(t.bytes); }},
      {"io::pread", [](things& t) { weft::file("/etc/passwd").read_at(0, t.bytes); }},
      {"file::write_at, sync, sync_data",
       [](things& t) {
         weft::file f(t.directory / "file", weft::open_mode::read_write | weft::open_mode::create);
         f.write_at(0, t.much);
         f.sync();
         f.sync_data();
       }},
      {"net::resolve", [](things&) { static_cast<void>(weft::net::resolve("localhost", 1)); }},
      {"tcp_stream::connect", [](things& t) { static_cast<void>(weft::net::tcp_stream::connect(t.tcp.local_endpoint())); }},
      {"unix_stream::connect", [](things& t) { static_cast<void>(weft::net::unix_stream::connect(t.directory / "socket")); }},
  };
}

}  // namespace

TEST_CASE("what the kernel finishes soon is not begun in a stretch that is to end, and otherwise whole or cancelled") {
  weft::run([] {
    things t;
    for (const operation& each : brief()) {
      CAPTURE(std::string(each.name));
      weft::cancel_scope before;
      before.request_cancel();
      const bool begun = before.run([&] { each.wait(t); });
      CHECK_FALSE(begun);
      for (int round = 0; round < 20; ++round) {
        const std::string outcome = outcome_of([&] { each.wait(t); }, [](weft::thread& of) { of.request_cancel(); });
        CHECK((outcome == "cancelled" || outcome == "returned"));
      }
      each.wait(t);
    }
  });
}
