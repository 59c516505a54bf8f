// Whatever waits or makes a thread refuses to do so where there is no weft thread: on a plain kernel thread, each with
// a sentence that names the call. What is for threads of every kind works there: futures and mailboxes have tests of their own.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/barrier.hpp"
#include "weft/blocking.hpp"
#include "weft/call_once.hpp"
#include "weft/cancel.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/file.hpp"
#include "weft/future.hpp"
#include "weft/io.hpp"
#include "weft/latch.hpp"
#include "weft/mutex.hpp"
#include "weft/net.hpp"
#include "weft/nursery.hpp"
#include "weft/process.hpp"
#include "weft/runtime.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"
#include "weft/thread.hpp"
#include "weft/trace.hpp"
#include "weft/upcall.hpp"

using namespace std::chrono_literals;

namespace {

// A call, and how its sentence names it.
struct refused {
  const char* name;
  std::function<void()> call;
};

// "" when it is as it should be.
std::string complaint_about(const refused& r) {
  try {
    r.call();
  } catch (const std::system_error& error) {
    const std::string text = error.what();
    if (error.code() != std::errc::operation_not_permitted) return std::string(r.name) + " throws " + text;
    const std::string sentence = std::string("weft: ") + r.name + " was called outside a weft thread; call it inside weft::run";
    return text.starts_with(sentence) ? "" : std::string(r.name) + " is called: " + text;
  } catch (...) {
    return std::string(r.name) + " throws something else";
  }
  return std::string(r.name) + " is not refused";
}

void check_all(const std::vector<refused>& calls) {
  for (const refused& r : calls) {
    const std::string complaint = complaint_about(r);
    CHECK(complaint == "");
  }
}

const auto soon = weft::clock::now() + 1h;

}  // namespace

TEST_CASE("off a weft thread no thread is made, and nobody yields or sleeps") {
  check_all({
      {"thread", [] { weft::thread([] {}); }},
      {"thread", [] { weft::jthread([] {}); }},
      {"thread", [] { weft::thread({.name = "named", .start = weft::start::now}, [] {}); }},
      {"async", [] { static_cast<void>(weft::async([] {})); }},
      {"nursery::spawn", [] { weft::nursery().spawn([] {}); }},
      {"this_thread::yield", [] { weft::this_thread::yield(); }},
      {"this_thread::sleep_until", [] { weft::this_thread::sleep_until(soon); }},
      {"this_thread::sleep_until", [] { weft::this_thread::sleep_until(std::chrono::system_clock::now() + 1h); }},
      {"this_thread::sleep_until", [] { weft::this_thread::sleep_for(1h); }},
      {"this_thread::yield", [] { weft::this_thread::sleep_for(0s); }},
      {"this_thread::name", [] { static_cast<void>(weft::this_thread::name()); }},
      {"this_thread::set_time_slice", [] { weft::this_thread::set_time_slice(true); }},
      {"blocking", [] { weft::blocking([] {}); }},
      {"make_poster", [] { static_cast<void>(weft::make_poster()); }},
      {"dump_threads", [] { static_cast<void>(weft::dump_threads()); }},
      {"upcall::counts", [] { static_cast<void>(weft::upcall::counts()); }},
      {"upcall::subscribe", [] { static_cast<void>(weft::upcall::subscribe([](auto) {})); }},
  });
}

TEST_CASE("off a weft thread no lock of weft's is taken or given back") {
  weft::mutex m;
  weft::timed_mutex timed;
  weft::recursive_mutex again;
  weft::recursive_timed_mutex timed_again;
  weft::shared_mutex shared;
  weft::shared_timed_mutex timed_shared;
  weft::once_flag once;
  check_all({
      {"mutex::lock", [&] { m.lock(); }},
      {"mutex::try_lock", [&] { static_cast<void>(m.try_lock()); }},
      {"mutex::unlock", [&] { m.unlock(); }},
      {"mutex::lock", [&] { timed.lock(); }},
      {"timed_mutex::try_lock_until", [&] { static_cast<void>(timed.try_lock_for(1h)); }},
      {"timed_mutex::try_lock_until", [&] { static_cast<void>(timed.try_lock_until(soon)); }},
      {"recursive_mutex::lock", [&] { again.lock(); }},
      {"recursive_mutex::try_lock", [&] { static_cast<void>(again.try_lock()); }},
      {"recursive_mutex::unlock", [&] { again.unlock(); }},
      {"recursive_timed_mutex::try_lock_for", [&] { static_cast<void>(timed_again.try_lock_for(1h)); }},
      {"recursive_timed_mutex::try_lock_until", [&] { static_cast<void>(timed_again.try_lock_until(soon)); }},
      {"shared_mutex::lock", [&] { shared.lock(); }},
      {"shared_mutex::try_lock", [&] { static_cast<void>(shared.try_lock()); }},
      {"shared_mutex::unlock", [&] { shared.unlock(); }},
      {"shared_mutex::lock_shared", [&] { shared.lock_shared(); }},
      {"shared_mutex::try_lock_shared", [&] { static_cast<void>(shared.try_lock_shared()); }},
      {"shared_mutex::unlock_shared", [&] { shared.unlock_shared(); }},
      {"shared_timed_mutex::try_lock_until", [&] { static_cast<void>(timed_shared.try_lock_for(1h)); }},
      {"shared_timed_mutex::try_lock_shared_until", [&] { static_cast<void>(timed_shared.try_lock_shared_for(1h)); }},
      {"call_once", [&] { weft::call_once(once, [] {}); }},
  });
}

TEST_CASE("off a weft thread nobody waits for a condition, a permit, a latch, a barrier, a value or a select") {
  weft::condition_variable condition;
  weft::mutex m;
  std::unique_lock<weft::mutex> unlocked(m, std::defer_lock);
  weft::condition_variable_any any;
  std::mutex plain;
  std::unique_lock hold(plain);
  weft::counting_semaphore<> permits(1);
  weft::latch latch(1);
  weft::barrier barrier(1);
  weft::channel<int> channel(1);
  std::optional<int> got;
  int value = 1;
  check_all({
      {"condition_variable::wait", [&] { condition.wait(unlocked); }},
      {"condition_variable::wait", [&] { condition.wait_for(unlocked, 1h); }},
      {"condition_variable::wait", [&] { condition.wait_until(unlocked, soon); }},
      {"condition_variable_any::wait", [&] { any.wait(hold); }},
      {"condition_variable_any::wait", [&] { any.wait_for(hold, 1h); }},
      {"condition_variable_any::wait", [&] { any.wait(hold, std::stop_source().get_token(), [] { return false; }); }},
      {"notify_all_at_thread_exit", [&] { weft::notify_all_at_thread_exit(condition, std::unique_lock(m, std::defer_lock)); }},
      {"semaphore::acquire", [&] { permits.acquire(); }},
      {"semaphore::acquire", [&] { static_cast<void>(permits.try_acquire()); }},
      {"semaphore::acquire", [&] { static_cast<void>(permits.try_acquire_for(1h)); }},
      {"semaphore::release", [&] { permits.release(); }},
      {"latch::wait", [&] { latch.wait(); }},
      {"latch::try_wait", [&] { static_cast<void>(latch.try_wait()); }},
      {"latch::count_down", [&] { latch.count_down(); }},
      {"latch::arrive_and_wait", [&] { latch.arrive_and_wait(); }},
      {"barrier::arrive", [&] { static_cast<void>(barrier.arrive()); }},
      {"barrier::arrive", [&] { barrier.arrive_and_wait(); }},
      {"barrier::arrive_and_drop", [&] { barrier.arrive_and_drop(); }},
      {"channel::send", [&] { channel.send(1); }},
      {"channel::try_send", [&] { static_cast<void>(channel.try_send(value)); }},
      {"channel::send", [&] { static_cast<void>(channel.try_send_until(value, soon)); }},
      {"channel::send", [&] { static_cast<void>(channel.try_send_for(value, 1h)); }},
      {"channel::receive", [&] { static_cast<void>(channel.receive()); }},
      {"channel::try_receive", [&] { static_cast<void>(channel.try_receive()); }},
      {"channel::receive", [&] { static_cast<void>(channel.receive_for(1h)); }},
      {"channel::receive", [&] { static_cast<void>(channel.receive_until(soon)); }},
      {"channel::receive", [&] { static_cast<void>(channel.begin()); }},
      {"select", [&] { weft::select(weft::on_receive(channel, got)); }},
      {"select", [&] { weft::select(weft::on_send(channel, value), weft::otherwise()); }},
      {"select", [] { weft::select(); }},
      {"on_timeout", [] { static_cast<void>(weft::on_timeout(1h)); }},
  });
  CHECK(value == 1);
  channel.close();  // what waits for nobody, and wakes nobody, works
}

TEST_CASE("off a weft thread nobody enters a scope, a shield or a nursery") {
  check_all({
      {"cancel_scope::run", [] { weft::cancel_scope().run([] {}); }},
      {"shield", [] { weft::shield(); }},
      {"cancel_scope::run", [] { static_cast<void>(weft::with_timeout(1h, [] {})); }},
      {"cancel_scope::run", [] { static_cast<void>(weft::with_deadline(soon, [] {})); }},
  });
}

TEST_CASE("off a weft thread no blocking operation begins, with or without an error code; its sentence says what it is") {
  const temporary_directory place;
  std::array<int, 2> pipe{};
  REQUIRE(::pipe2(pipe.data(), O_CLOEXEC) == 0);
  const weft::io::descriptor reader(pipe[0]);
  const weft::io::descriptor writer(pipe[1]);
  const int in = reader.get();
  const int out = writer.get();
  std::array<char, 4> bytes{};
  const std::array<iovec, 1> vectors{iovec{bytes.data(), bytes.size()}};
  const auto to = weft::net::endpoint::loopback(1);
  sockaddr_in peer{};
  socklen_t size = sizeof peer;
  std::error_code ec;
  const auto path = place / "new";
  weft::net::tcp_listener tcp(weft::net::endpoint::loopback(0));
  weft::net::unix_listener local(place / "socket");
  check_all({
      {"open", [&] { static_cast<void>(weft::io::open(path, O_RDWR | O_CREAT)); }},
      {"open", [&] { static_cast<void>(weft::io::open(path, O_RDWR | O_CREAT, ec)); }},
      {"read", [&] { weft::io::read(in, bytes); }},
      {"read", [&] { weft::io::read(in, bytes, ec); }},
      {"write", [&] { weft::io::write(out, bytes); }},
      {"write", [&] { weft::io::write(out, bytes, ec); }},
      {"read", [&] { weft::io::pread(in, bytes, 0); }},
      {"write", [&] { weft::io::pwrite(out, bytes, 0); }},
      {"read", [&] { weft::io::readv(in, vectors); }},
      {"write", [&] { weft::io::writev(out, vectors); }},
      {"read", [&] { weft::io::read_exactly(in, bytes); }},
      {"write", [&] { weft::io::write_all(out, bytes); }},
      {"sync", [&] { weft::io::fsync(out); }},
      {"sync", [&] { weft::io::fdatasync(out, ec); }},
      {"poll", [&] { weft::io::poll(in, POLLIN); }},
      {"poll", [&] { weft::io::poll(in, POLLIN, ec); }},
      {"accept", [&] { static_cast<void>(weft::io::accept(in)); }},
      {"accept", [&] { static_cast<void>(weft::io::accept(in, reinterpret_cast<sockaddr*>(&peer), &size)); }},
      {"connect", [&] { weft::io::connect(out, to.data(), to.size()); }},
      {"send", [&] { weft::io::send(out, bytes); }},
      {"receive", [&] { weft::io::recv(in, bytes); }},
      {"open", [&] { weft::file(path, weft::open_mode::create); }},
      {"open", [&] { static_cast<void>(weft::file::open(path, weft::open_mode::create, ec)); }},
      {"net::resolve", [] { static_cast<void>(weft::net::resolve("localhost", 1)); }},
      {"connect", [&] { static_cast<void>(weft::net::tcp_stream::connect(to)); }},
      {"connect", [&] { static_cast<void>(weft::net::tcp_stream::connect("127.0.0.1", 1)); }},
      {"connect", [&] { static_cast<void>(weft::net::unix_stream::connect("nowhere")); }},
      {"accept", [&] { static_cast<void>(tcp.accept()); }},
      {"accept", [&] { static_cast<void>(local.accept()); }},
      {"process::wait",
       [] {
         weft::process::spawn({"sleep", "3600"}).wait();
       }},
  });
}
