// The rows of two kernel threads that talk, on both cores: a plain one, and one that runs the library's threads.
#pragma once

#include <cstdint>
#include <thread>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// ns per message from a plain kernel thread to a thread of the library, through a `Library::mailbox` of 128.
template <class Library> double mailbox_message() {
  use_both_cores();
  return ns_per_operation([](long messages) {
    typename Library::mailbox box(128);
    const auto count = static_cast<std::uint64_t>(messages);
    std::thread sender([&box, count] {
      for (std::uint64_t i = 0; i < count; ++i) box.send(i);
    });
    std::uint64_t sum = 0;
    Library::run([&box, &sum, count] {
      for (std::uint64_t i = 0; i < count; ++i) sum += box.receive();
    });
    sender.join();
    if (sum != count * (count - 1) / 2) fail("a message was lost or came twice");
  });
}

/// ns for a value to go from a plain kernel thread to a thread of the library and come back.
template <class Library> double mailbox_round_trip() {
  use_both_cores();
  return ns_per_operation([](long round_trips) {
    typename Library::mailbox there(2);
    typename Library::mailbox back(2);
    const auto count = static_cast<std::uint64_t>(round_trips);
    std::uint64_t value = 0;
    std::thread asking([&there, &back, &value, count] {
      for (std::uint64_t i = 0; i < count; ++i) {
        there.send(value);
        value = back.receive();
      }
    });
    Library::run([&there, &back, count] {
      for (std::uint64_t i = 0; i < count; ++i) back.send(there.receive() + 1);
    });
    asking.join();
    if (value != count) fail("a value was lost on its way");
  });
}

/// `Library::mailbox(capacity)` has send() and receive() of std::uint64_t for both kinds; `Library::run(fn)` calls fn in a thread
/// of the library.
template <class Library> std::vector<row> mailbox_rows() {
  return {{"mailbox", mailbox_message<Library>}, {"mailbox-round-trip", mailbox_round_trip<Library>}};
}

}  // namespace bench
