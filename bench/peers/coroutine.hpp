// Hand-written C++20 coroutines with a first-in-first-out ready queue, symmetric transfer, and channels: what the rows of the
// peer coroutine are made of.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

namespace bench::stackless {

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

inline ready_queue ready;

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

inline void ready_queue::append(task::handle coroutine) {
  task::promise_type* const added = &coroutine.promise();
  added->next = nullptr;
  (first_ == nullptr ? first_ : last_->next) = added;
  last_ = added;
}

inline std::coroutine_handle<> ready_queue::take() {
  if (first_ == nullptr) return std::noop_coroutine();
  task::promise_type* const taken = first_;
  first_ = taken->next;
  return task::handle::from_promise(*taken);
}

inline void spawn(task started) { ready.append(started.coroutine()); }

// A suspended sender with its value, or a receiver with a place for one. Lives in the awaitable.
struct waiter {
  waiter* next = nullptr;
  waiter* previous = nullptr;
  task::handle who;
  std::uint64_t value = 0;
  class choice* of = nullptr;  // it is one of several
};

// First come, first served: a circle, whose first one's `previous` is the last.
class line {
 public:
  waiter* front() const { return first_; }
  void append(waiter& w) {
    if (first_ == nullptr) {
      w.next = w.previous = &w;
      first_ = &w;
      return;
    }
    w.next = first_;
    w.previous = first_->previous;
    first_->previous->next = &w;
    first_->previous = &w;
  }
  void remove(waiter& w) {
    if (w.next == &w) {
      first_ = nullptr;
      return;
    }
    w.previous->next = w.next;
    w.next->previous = w.previous;
    if (first_ == &w) first_ = w.next;
  }

 private:
  waiter* first_ = nullptr;
};

class channel {
 public:
  explicit channel(std::size_t capacity = 0) : values_(capacity) {}

  struct receiving : park {
    channel& from;
    waiter self;

    explicit receiving(channel& c) : from(c) {}
    bool await_ready() { return from.take(self.value); }
    std::coroutine_handle<> await_suspend(task::handle who) {
      self.who = who;
      from.receivers_.append(self);
      return ready.take();
    }
    std::uint64_t await_resume() const { return self.value; }
  };

  struct sending : park {
    channel& to;
    waiter self;

    sending(channel& c, std::uint64_t v) : to(c) { self.value = v; }
    bool await_ready() { return to.put(self.value); }
    std::coroutine_handle<> await_suspend(task::handle who) {
      self.who = who;
      to.senders_.append(self);
      return ready.take();
    }
  };

  receiving receive() { return receiving(*this); }
  sending send(std::uint64_t value) { return {*this, value}; }

 private:
  friend class choice;

  bool take(std::uint64_t& value);
  bool put(std::uint64_t value);
  void append(std::uint64_t value) { values_[wrapped(first_ + count_++)] = value; }
  std::size_t wrapped(std::size_t index) const { return index < values_.size() ? index : index - values_.size(); }

  std::vector<std::uint64_t> values_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  line receivers_;
  line senders_;
};

// One coroutine that receives from whichever of several channels has a value; it looks at them in turn, so none is starved.
class choice {
 public:
  explicit choice(std::span<channel> from) : from_(from), waiters_(from.size()) {
    for (waiter& each : waiters_) each.of = this;
  }

  struct receiving : park {
    choice& of;

    explicit receiving(choice& c) : of(c) {}
    bool await_ready() { return of.take(); }
    std::coroutine_handle<> await_suspend(task::handle who) {
      for (std::size_t i = 0; i < of.from_.size(); ++i) {
        of.waiters_[i].who = who;
        of.from_[i].receivers_.append(of.waiters_[i]);
      }
      return ready.take();
    }
    std::uint64_t await_resume() const { return of.value_; }
  };

  receiving receive() { return receiving(*this); }

  // A value has come for one of its waiters: none of them waits any more.
  void decide(std::uint64_t value) {
    value_ = value;
    for (std::size_t i = 0; i < from_.size(); ++i) from_[i].receivers_.remove(waiters_[i]);
  }

 private:
  bool take() {
    for (std::size_t i = 0; i < from_.size(); ++i) {
      at_ = at_ + 1 < from_.size() ? at_ + 1 : 0;
      if (from_[at_].take(value_)) return true;
    }
    return false;
  }

  std::span<channel> from_;
  std::vector<waiter> waiters_;
  std::size_t at_ = 0;
  std::uint64_t value_ = 0;
};

inline bool channel::take(std::uint64_t& value) {
  waiter* const sender = senders_.front();
  if (count_ == 0 && sender == nullptr) return false;
  if (count_ == 0) {
    value = sender->value;
  } else {
    value = values_[first_];
    first_ = wrapped(first_ + 1);
    --count_;
    if (sender != nullptr) append(sender->value);
  }
  if (sender != nullptr) {
    senders_.remove(*sender);
    ready.append(sender->who);
  }
  return true;
}

inline bool channel::put(std::uint64_t value) {
  if (waiter* const receiver = receivers_.front(); receiver != nullptr) {
    if (receiver->of != nullptr) {
      receiver->of->decide(value);
    } else {
      receiver->value = value;
      receivers_.remove(*receiver);
    }
    ready.append(receiver->who);
    return true;
  }
  if (count_ == values_.size()) return false;
  append(value);
  return true;
}

}  // namespace bench::stackless
