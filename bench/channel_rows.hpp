// The rows of threads that talk: through channels, semaphores, and a mailbox of mutex and condition variable.
//
// Needs the `Library` of thread_rows.hpp. All three are measured by the same exchange, so a row differs from the next only
// in what carries the value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// A bounded channel made of a mutex and two condition variables: what one writes where the library has none.
template <class Library> class mailbox {
 public:
  explicit mailbox(std::size_t capacity) : values_(capacity) {}

  void send(std::uint64_t value) {
    std::unique_lock lock(mutex_);
    while (count_ == values_.size()) not_full_.wait(lock);
    values_[wrapped(first_ + count_)] = value;
    ++count_;
    not_empty_.notify_one();
  }

  std::uint64_t receive() {
    std::unique_lock lock(mutex_);
    while (count_ == 0) not_empty_.wait(lock);
    const std::uint64_t value = values_[first_];
    first_ = wrapped(first_ + 1);
    --count_;
    not_full_.notify_one();
    return value;
  }

 private:
  std::size_t wrapped(std::size_t index) const { return index < values_.size() ? index : index - values_.size(); }

  typename Library::mutex mutex_;
  typename Library::condition_variable not_empty_;
  typename Library::condition_variable not_full_;
  std::vector<std::uint64_t> values_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

/// One value, announced by a semaphore.
template <class Library> class semaphore_slot {
 public:
  void send(std::uint64_t value) {
    value_ = value;
    announced_.release();
  }

  std::uint64_t receive() {
    announced_.acquire();
    return value_;
  }

 private:
  typename Library::semaphore announced_{0};
  std::uint64_t value_ = 0;
};

/// ns for a value to go to another thread through `there` and come back through `back`.
template <class Library, class Channel> double round_trip(Channel& there, Channel& back) {
  return ns_per_operation([&there, &back](long round_trips) {
    struct {
      Channel& there;
      Channel& back;
      std::uint64_t round_trips;
    } work{there, back, static_cast<std::uint64_t>(round_trips)};
    auto answering = Library::spawn([&work] {
      for (std::uint64_t i = 0; i < work.round_trips; ++i) work.back.send(work.there.receive() + 1);
    });
    auto asking = Library::spawn([&work] {
      std::uint64_t value = 0;
      for (std::uint64_t i = 0; i < work.round_trips; ++i) {
        work.there.send(value);
        value = work.back.receive();
      }
      if (value != work.round_trips) fail("a value was lost on its way");
    });
    asking.join();
    answering.join();
  });
}

template <class Library> double unbuffered_round_trip() {
  typename Library::unbuffered there;
  typename Library::unbuffered back;
  return round_trip<Library>(there, back);
}

template <class Library> double semaphore_round_trip() {
  semaphore_slot<Library> there;
  semaphore_slot<Library> back;
  return round_trip<Library>(there, back);
}

template <class Library> double mutex_and_condition_round_trip() {
  mailbox<Library> there(1);
  mailbox<Library> back(1);
  return round_trip<Library>(there, back);
}

/// ns per message from one thread to another through a channel of 128.
template <class Library> double buffered_message() {
  return ns_per_operation([](long messages) {
    struct {
      typename Library::buffered channel;
      std::uint64_t messages;
    } work{.channel = typename Library::buffered(128), .messages = static_cast<std::uint64_t>(messages)};
    auto sending = Library::spawn([&work] {
      for (std::uint64_t i = 0; i < work.messages; ++i) work.channel.send(i);
    });
    auto receiving = Library::spawn([&work] {
      std::uint64_t sum = 0;
      for (std::uint64_t i = 0; i < work.messages; ++i) sum += work.channel.receive();
      if (sum != work.messages * (work.messages - 1) / 2) fail("a message was lost or came twice");
    });
    sending.join();
    receiving.join();
  });
}

/// ns per message through one channel of 128 between eight senders and eight receivers.
template <class Library> double message_among_many() {
  constexpr long pairs = 8;
  return ns_per_operation([](long messages) {
    struct party {
      typename Library::buffered& channel;
      std::uint64_t messages;
      std::uint64_t sum = 0;
    };
    typename Library::buffered channel(128);
    const auto messages_each = static_cast<std::uint64_t>(messages / pairs);
    std::vector<party> senders(pairs, party{channel, messages_each});
    std::vector<party> receivers = senders;
    std::vector<typename Library::thread> threads;
    for (party& each : senders) {
      threads.push_back(Library::spawn([&each] {
        for (std::uint64_t i = 0; i < each.messages; ++i) each.channel.send(i);
      }));
    }
    for (party& each : receivers) {
      threads.push_back(Library::spawn([&each] {
        for (std::uint64_t i = 0; i < each.messages; ++i) each.sum += each.channel.receive();
      }));
    }
    for (auto& thread : threads) thread.join();
    std::uint64_t sum = 0;
    for (const party& each : receivers) sum += each.sum;
    if (sum != pairs * (messages_each * (messages_each - 1) / 2)) fail("a message was lost or came twice");
  });
}

template <class Library> std::vector<row> channel_rows() {
  std::vector<row> rows{
      {"channel-buffered-128", buffered_message<Library>},
      {"channel-mpmc-8", message_among_many<Library>},
      {"mutex-cv", mutex_and_condition_round_trip<Library>},
  };
  if constexpr (requires { typename Library::unbuffered; }) {
    rows.push_back({"channel-unbuffered", unbuffered_round_trip<Library>});
  }
  if constexpr (requires { typename Library::semaphore; }) {
    rows.push_back({"semaphore", semaphore_round_trip<Library>});
  }
  return rows;
}

}  // namespace bench
