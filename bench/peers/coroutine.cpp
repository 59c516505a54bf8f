// The peer coroutine: hand-written C++20 coroutines with a first-in-first-out ready queue and symmetric transfer.
//
// It is stackless: nothing that a coroutine calls may wait unless it is a coroutine too. That is what its figures buy.
#include <coroutine>
#include <cstdint>
#include <exception>
#include <utility>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace {

class task {
 public:
  struct promise_type;
  using handle = std::coroutine_handle<promise_type>;

  explicit task(handle coroutine) : coroutine_(coroutine) {}
  handle coroutine() const { return coroutine_; }

 private:
  handle coroutine_;
};

// Ready coroutines in the order in which they became so, linked through their promises.
class ready_queue {
 public:
  void append(task::handle coroutine);
  /// The next coroutine to resume; the end of run() if there is none.
  std::coroutine_handle<> take();
  void run() {
    while (first_ != nullptr) take().resume();
  }

 private:
  task::promise_type* first_ = nullptr;
  task::promise_type* last_ = nullptr;
};

ready_queue ready;

// What a coroutine waits with: it stays suspended until somebody appends it to the ready queue.
struct park {
  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(task::handle) const noexcept { return ready.take(); }
  void await_resume() const noexcept {}
};

struct yield : park {
  std::coroutine_handle<> await_suspend(task::handle self) const noexcept {
    ready.append(self);
    return ready.take();
  }
};

struct end : park {
  std::coroutine_handle<> await_suspend(task::handle self) const noexcept {
    self.destroy();
    return ready.take();
  }
};

struct task::promise_type {
  promise_type* next = nullptr;

  task get_return_object() { return task(handle::from_promise(*this)); }
  std::suspend_always initial_suspend() noexcept { return {}; }
  end final_suspend() noexcept { return {}; }
  void return_void() {}
  void unhandled_exception() { std::terminate(); }
};

void ready_queue::append(task::handle coroutine) {
  task::promise_type* const added = &coroutine.promise();
  added->next = nullptr;
  (first_ == nullptr ? first_ : last_->next) = added;
  last_ = added;
}

std::coroutine_handle<> ready_queue::take() {
  if (first_ == nullptr) return std::noop_coroutine();
  task::promise_type* const taken = first_;
  first_ = taken->next;
  return task::handle::from_promise(*taken);
}

void spawn(task started) { ready.append(started.coroutine()); }

// One sender and one receiver at a time may wait; that is all the rows need.
class channel {
 public:
  explicit channel(std::size_t capacity) : values_(capacity) {}

  struct receiving : park {
    channel& from;
    std::uint64_t value = 0;

    explicit receiving(channel& c) : from(c) {}
    bool await_ready() { return from.take(value); }
    std::coroutine_handle<> await_suspend(task::handle self) {
      from.receiver_ = self;
      from.receiver_slot_ = &value;
      return ready.take();
    }
    std::uint64_t await_resume() const { return value; }
  };

  struct sending : park {
    channel& to;
    std::uint64_t value;

    sending(channel& c, std::uint64_t v) : to(c), value(v) {}
    bool await_ready() { return to.put(value); }
    std::coroutine_handle<> await_suspend(task::handle self) {
      to.sender_ = self;
      to.sender_value_ = value;
      return ready.take();
    }
  };

  receiving receive() { return receiving(*this); }
  sending send(std::uint64_t value) { return {*this, value}; }

 private:
  bool take(std::uint64_t& value) {
    if (count_ == 0 && !sender_) return false;
    if (count_ == 0) {
      value = sender_value_;
    } else {
      value = values_[first_];
      first_ = wrapped(first_ + 1);
      --count_;
      if (sender_) append(sender_value_);
    }
    if (sender_) ready.append(std::exchange(sender_, nullptr));
    return true;
  }

  bool put(std::uint64_t value) {
    if (receiver_) {
      *receiver_slot_ = value;
      ready.append(std::exchange(receiver_, nullptr));
      return true;
    }
    if (count_ == values_.size()) return false;
    append(value);
    return true;
  }

  void append(std::uint64_t value) { values_[wrapped(first_ + count_++)] = value; }
  std::size_t wrapped(std::size_t index) const { return index < values_.size() ? index : index - values_.size(); }

  std::vector<std::uint64_t> values_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  task::handle receiver_;
  std::uint64_t* receiver_slot_ = nullptr;
  task::handle sender_;
  std::uint64_t sender_value_ = 0;
};

task yield_repeatedly(long times) {
  for (long i = 0; i < times; ++i) co_await yield{};
}

task nothing() { co_return; }

task answer(channel& there, channel& back, long round_trips) {
  for (long i = 0; i < round_trips; ++i) co_await back.send(co_await there.receive() + 1);
}

task ask(channel& there, channel& back, long round_trips) {
  std::uint64_t value = 0;
  for (long i = 0; i < round_trips; ++i) {
    co_await there.send(value);
    value = co_await back.receive();
  }
  if (value != static_cast<std::uint64_t>(round_trips)) bench::fail("a value was lost on its way");
}

task send_all(channel& to, std::uint64_t messages) {
  for (std::uint64_t i = 0; i < messages; ++i) co_await to.send(i);
}

task receive_all(channel& from, std::uint64_t messages) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < messages; ++i) sum += co_await from.receive();
  if (sum != messages * (messages - 1) / 2) bench::fail("a message was lost or came twice");
}

task park_for_ever(long& parked) {
  ++parked;
  co_await park{};
}

task skynet_grow(channel& upward, std::uint64_t first_leaf, std::uint64_t leaves) {
  constexpr std::uint64_t fan_out = 10;
  std::uint64_t sum = first_leaf;
  if (leaves > 1) {
    channel reports(16);
    const std::uint64_t part = leaves / fan_out;
    for (std::uint64_t i = 0; i < fan_out; ++i) spawn(skynet_grow(reports, first_leaf + i * part, part));
    sum = 0;
    for (std::uint64_t i = 0; i < fan_out; ++i) sum += co_await reports.receive();
  }
  co_await upward.send(sum);
}

double yield_among(long count) {
  return bench::ns_per_operation([count](long yields) {
    for (long i = 0; i < count; ++i) spawn(yield_repeatedly(yields / count));
    ready.run();
  });
}

double spawn_join() {
  return bench::ns_per_operation([](long count) {
    for (long i = 0; i < count; ++i) {
      spawn(nothing());
      ready.run();
    }
  });
}

double spawn_many() {
  constexpr long count = 100'000;
  const std::int64_t start = bench::now_ns();
  for (long i = 0; i < count; ++i) spawn(nothing());
  ready.run();
  return static_cast<double>(bench::now_ns() - start) / count;
}

double unbuffered_round_trip() {
  return bench::ns_per_operation([](long round_trips) {
    channel there(0);
    channel back(0);
    spawn(answer(there, back, round_trips));
    spawn(ask(there, back, round_trips));
    ready.run();
  });
}

double buffered_message() {
  return bench::ns_per_operation([](long messages) {
    channel between(128);
    spawn(send_all(between, static_cast<std::uint64_t>(messages)));
    spawn(receive_all(between, static_cast<std::uint64_t>(messages)));
    ready.run();
  });
}

double parked_bytes() {
  constexpr long count = 1'000'000;
  long parked = 0;
  const double before = bench::memory_bytes();
  for (long i = 0; i < count; ++i) spawn(park_for_ever(parked));
  ready.run();
  return (bench::memory_bytes() - before) / static_cast<double>(parked);
}

double skynet() {
  constexpr std::uint64_t leaves = 1'000'000;
  channel total(16);
  const std::int64_t start = bench::now_ns();
  spawn(skynet_grow(total, 0, leaves));
  ready.run();
  channel::receiving sum = total.receive();
  if (!sum.await_ready() || sum.value != leaves * (leaves - 1) / 2) bench::fail("the leaves do not add up");
  return static_cast<double>(bench::now_ns() - start) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<bench::row> rows{
      {"yield-2", [] { return yield_among(2); }},
      {"yield-1000", [] { return yield_among(1000); }},
      {"spawn-join", spawn_join},
      {"spawn-100k", spawn_many},
      {"channel-unbuffered", unbuffered_round_trip},
      {"channel-buffered-128", buffered_message},
      {"parked-1m", parked_bytes},
      {"skynet-1m", skynet},
  };
  return bench::run_row(argc, argv, {rows});
}
