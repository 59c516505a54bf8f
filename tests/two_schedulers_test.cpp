// What belongs to the threads of one scheduler in the hands of another one's: said wherever two of them meet.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <thread>

#include "tests/in_child.hpp"
#include "weft/barrier.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/condition_variable_any.hpp"
#include "weft/latch.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

// The things under test, all of the first scheduler.
struct things {
  weft::mutex mutex;
  weft::condition_variable condition;
  weft::condition_variable_any condition_any;
  weft::counting_semaphore<> semaphore{0};
  weft::latch latch{2};
  weft::barrier<> barrier{2};
  weft::channel<int> channel;
  weft::channel<int> full{1};
  weft::thread thread;
};

using use = std::function<void(things&)>;

// A thread of one scheduler `waits`; then, while it does, a thread of another one `acts`.
child_end meet(const use& waits, const use& acts) {
  return in_child([&] {
    things shared;
    weft::run([&] {
      shared.thread = weft::thread({.start = weft::start::now}, [&] { waits(shared); });
      std::thread([&] { weft::run([&] { acts(shared); }); }).join();
    });
  });
}

void must_end(const std::string& what, const use& waits, const use& acts) {
  const child_end end = meet(waits, acts);
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a " + what + " was used by threads of two schedulers; each " + what +
                 " belongs to one, and schedulers talk by weft::poster"));
}

void wait_on_condition(things& t) {
  std::unique_lock hold(t.mutex);
  t.condition.wait(hold);
}
void wait_on_condition_with_a_mutex_of_its_own(things& t) {
  weft::mutex own;
  std::unique_lock hold(own);
  t.condition.wait(hold);
}
void wait_on_condition_any(things& t) {
  weft::mutex own;
  own.lock();
  t.condition_any.wait(own);
}
void receive(things& t) { t.channel.receive(); }
void send(things& t) { t.channel.send(1); }
void send_twice(things& t) {
  t.full.send(1);
  t.full.send(2);
}

}  // namespace

TEST_CASE("a mutex, a condition variable or a semaphore on which another scheduler's threads wait ends the program") {
  must_end(
      "mutex", [](things& t) { t.mutex.lock(), weft::this_thread::yield(); }, [](things& t) { t.mutex.lock(); });
  must_end("condition_variable", wait_on_condition, [](things& t) { t.condition.notify_one(); });
  must_end("condition_variable", wait_on_condition, [](things& t) { t.condition.notify_all(); });
  must_end("condition_variable", wait_on_condition, wait_on_condition_with_a_mutex_of_its_own);
  must_end(
      "semaphore", [](things& t) { t.semaphore.acquire(); }, [](things& t) { t.semaphore.release(); });
  must_end(
      "semaphore", [](things& t) { t.semaphore.acquire(); }, [](things& t) { t.semaphore.acquire(); });
}

TEST_CASE("a latch, a barrier or a condition variable for any lock on which another scheduler's threads wait ends the program") {
  const use wait = [](things& t) { t.latch.wait(); };
  must_end("latch", wait, wait);
  must_end("latch", wait, [](things& t) { t.latch.count_down(2); });
  const use arrive = [](things& t) { t.barrier.arrive_and_wait(); };
  must_end("barrier", arrive, arrive);
  must_end("condition_variable_any", wait_on_condition_any, wait_on_condition_any);
  must_end("condition_variable_any", wait_on_condition_any, [](things& t) { t.condition_any.notify_one(); });
}

TEST_CASE("a channel on which another scheduler's threads wait ends the program, whatever is done with it") {
  must_end("channel", receive, send);
  must_end("channel", receive, receive);
  must_end("channel", receive, [](things& t) { static_cast<void>(t.channel.try_send(1)); });
  must_end("channel", receive, [](things& t) { t.channel.close(); });
  must_end("channel", send, receive);
  must_end("channel", send, send);
  must_end("channel", send, [](things& t) { static_cast<void>(t.channel.try_receive()); });
  must_end("channel", send_twice, [](things& t) { static_cast<void>(t.full.try_receive()); });
}

TEST_CASE("another scheduler's thread cannot be joined, detached or asked to end") {
  const use waits = [](things& t) { t.semaphore.acquire(); };
  must_end("thread", waits, [](things& t) { t.thread.join(); });
  must_end("thread", waits, [](things& t) { t.thread.detach(); });
  must_end("thread", waits, [](things& t) { t.thread.request_cancel(); });
}

TEST_CASE("two schedulers that talk by a poster wake one another's threads") {
  weft::run([] {
    weft::counting_semaphore<> woken(0);
    std::thread other(
        [&, back = weft::make_poster()]() mutable { weft::run([&] { CHECK(back.post([&] { woken.release(); })); }); });
    woken.acquire();
    other.join();
  });
}
