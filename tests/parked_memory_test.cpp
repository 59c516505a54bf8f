// What threads that wait once used of their stacks: who gives it back, when, and who is left alone.
#include "sched/parked_memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "sched/stack_memory.hpp"
#include "tests/simulated_activations.hpp"
#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/policy.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;
namespace sched = weft::sched;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t deep = 160 * 1024;

// Uses that much of the running thread's stack, and returns what is there.
[[gnu::noinline]] int go_deep() {
  volatile char frame[deep];
  for (std::size_t i = 0; i < deep; i += page / 2) frame[i] = 1;
  int sum = 0;
  for (std::size_t i = 0; i < deep; i += page / 2) sum += frame[i];
  return sum;
}

// The stack of the thread that makes it.
class own_stack {
 public:
  own_stack() : where_(*sched::stack_pool::find(__builtin_frame_address(0))) {}
  [[nodiscard]] std::size_t in_memory() const {
    return sched::resident_bytes(where_.lowest, static_cast<std::size_t>(where_.top - where_.lowest));
  }
  [[nodiscard]] std::byte* lowest() const { return where_.lowest; }

 private:
  sched::stack_location where_;
};

// A thread that was deep and now waits for `end`, with something to lose in its frames.
struct deep_thread {
  weft::counting_semaphore<> end{0};
  own_stack* stack = nullptr;
  bool unharmed = false;
  weft::thread thread{weft::attributes{.start = weft::start::now}, [this] { live(); }};

  void live() {
    own_stack mine;
    stack = &mine;
    go_deep();
    std::array<volatile int, 200> kept;
    for (int i = 0; i < 200; ++i) kept[static_cast<std::size_t>(i)] = i;
    end.acquire();
    unharmed = true;
    for (int i = 0; i < 200; ++i) unharmed = unharmed && kept[static_cast<std::size_t>(i)] == i;
  }
};

void idle_for(weft::duration time) { weft::this_thread::sleep_for(time); }

// Runs `body` on the simulated source twice: without a policy and under one.
template <class Body> void simulate_both(Body body) {
  for (const bool orders : {false, true}) {
    CAPTURE(orders);
    simulated_source source(0);
    weft::run({.policy = orders ? weft::policy_maker(weft::policies::priority) : nullptr, .source = &source}, body);
  }
}

}  // namespace

TEST_CASE("a thread that was deep and waits for long keeps what its frames are in, and no more") {
  simulate([] {
    deep_thread t;
    CHECK(t.stack->in_memory() >= deep);
    idle_for(9s);
    CHECK(t.stack->in_memory() >= deep);
    idle_for(60s);
    CHECK(t.stack->in_memory() <= 3 * page);
    t.end.release();
    t.thread.join();
    CHECK(t.unharmed);
  });
}

TEST_CASE("a thread that waits for the kernel gives back what it does not use as well") {
  struct patient_source : simulated_source {
    patient_source() : simulated_source(0) {}
    void wait(weft::time_point deadline) override {
      deadline == weft::never ? simulated_source::wait(deadline) : advance(std::max(weft::duration(0), deadline - now()));
    }
  } kernel;
  weft::options how;
  how.source = &kernel;
  weft::run(how, [] {
    own_stack* stack = nullptr;
    weft::thread reader({.start = weft::start::now}, [&] {
      own_stack mine;
      stack = &mine;
      go_deep();
      weft::upcall::operation request;
      CHECK(weft::detail::perform(request, weft::detail::now() + 100s) == -ETIMEDOUT);
    });
    idle_for(60s);
    CHECK(stack->in_memory() <= 3 * page);
    reader.join();
  });
}

TEST_CASE("a thread that runs now and then keeps its memory") {
  simulate_both([] {
    own_stack* stack = nullptr;
    weft::jthread busy({.start = weft::start::now}, [&](const std::stop_token& stop) {
      own_stack mine;
      stack = &mine;
      go_deep();
      while (!stop.stop_requested()) weft::this_thread::sleep_for(5s);
    });
    idle_for(101s);
    CHECK(stack->in_memory() >= deep);
  });
}

TEST_CASE("a thread is asked once while it waits, and again when it has run since") {
  simulate_both([] {
    weft::counting_semaphore<> go_on(0);
    own_stack* stack = nullptr;
    weft::thread t({.start = weft::start::now}, [&] {
      own_stack mine;
      stack = &mine;
      for (int i = 0; i < 3; ++i) go_on.acquire();
    });
    const auto leave_a_trace = [&] { *static_cast<volatile std::byte*>(stack->lowest()) = std::byte{1}; };  // that is nobody's
    for (int wait = 0; wait < 3; ++wait) {
      leave_a_trace();
      const std::size_t before = stack->in_memory();
      idle_for(60s);
      CHECK(stack->in_memory() == before - page);
      leave_a_trace();
      for (int i = 0; i < 60; ++i) idle_for(1s);
      CHECK(stack->in_memory() == before);
      go_on.release();
      weft::this_thread::yield();
    }
    t.join();
  });
}

TEST_CASE("when nobody has run since the last round, an idle processor sleeps until something happens") {
  struct watching_source : simulated_source {
    watching_source() : simulated_source(0) {}
    void wait(weft::time_point deadline) override {
      ++waits;
      if (deadline == weft::never) CHECK(poster.post([this] { hold.release(); }));
      simulated_source::wait(deadline);
    }
    weft::poster poster;
    weft::counting_semaphore<> hold{0};
    int waits = 0;
  } kernel;
  weft::options how;
  how.source = &kernel;
  weft::run(how, [&] {
    kernel.poster = weft::make_poster();
    deep_thread t;
    for (int round = 0; round < 3; ++round) {
      kernel.waits = 0;
      kernel.hold.acquire();
      CHECK(kernel.waits < 10);
      CHECK(t.stack->in_memory() <= 3 * page);
    }
    t.end.release();
    t.thread.join();
    kernel.poster = {};
  });
}

namespace {

// A frame of a region, deeper than any place where its thread gave the processor away before.
struct deep_region {
  simulated_kernel& kernel;
  bool over = false;

  [[gnu::noinline]] bool unharmed(bool calls_weft) {
    volatile unsigned char kept[deep];
    for (std::size_t i = 0; i < deep; ++i) kept[i] = static_cast<unsigned char>(i % 251);
    if (calls_weft) weft::this_thread::sleep_for(60s);
    while (!over) kernel.whose.step();
    std::size_t right = 0;
    for (std::size_t i = 0; i < deep; ++i) right += kept[i] == i % 251 ? 1 : 0;
    return right == deep;
  }
};

}  // namespace

TEST_CASE("the stack of a thread in a region is left alone, whether or not the region waits for weft") {
  for (const std::uint64_t seed : seeds(20)) {
    CAPTURE(seed);
    for (const bool calls_weft : {false, true}) {
      simulated_kernel kernel(seed);
      weft::options how;
      how.source = &kernel;
      how.max_activations = 3;
      weft::run(how, [&] {
        deep_region region{kernel};
        weft::thread t([&] {
          weft::this_thread::yield();
          CHECK(weft::blocking([&] { return region.unharmed(calls_weft); }));
        });
        idle_for(100s);
        region.over = true;
        t.join();
      });
    }
  }
}

TEST_CASE("what parked threads used is given back a few at a time") {
  constexpr std::size_t count = 5000;
  simulated_source kernel(0);
  sched::stack_pool stacks;
  sched::record_pool records;
  std::vector<sched::thread_extension> extensions(count);
  const auto wanted = stacks.classify({});
  for (std::size_t i = 0; i < count; ++i) {
    sched::thread_record& t = records.take();
    extensions[i].slot = stacks.take(wanted);
    *static_cast<volatile std::byte*>(extensions[i].slot->lowest()) = std::byte{1};
    t.context = extensions[i].slot->usable_top();
    t.extension = &extensions[i];
    t.state = sched::thread_state::parked;
  }
  const auto shrunk = [&] {
    return std::count_if(extensions.begin(), extensions.end(), [](const auto& e) {
      return sched::resident_bytes(static_cast<std::byte*>(e.slot->lowest()), page) == 0;
    });
  };
  sched::parked_memory memory;
  std::ptrdiff_t before = 0;
  unsigned turn = 10;
  weft::time_point next{};
  do {
    if (next > kernel.now()) kernel.advance(next - kernel.now());
    next = memory.trim(records, stacks, kernel, turn++);
    const std::ptrdiff_t now = shrunk();
    CHECK(now - before <= 64);
    before = now;
  } while (next != weft::never);
  CHECK(before == static_cast<std::ptrdiff_t>(count));
}
