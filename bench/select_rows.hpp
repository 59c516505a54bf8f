// The rows of one thread that takes from whichever channel has something. Needs of the `Library` of thread_rows.hpp:
//
//   spawn(body), unbuffered
//   choice                     made of a std::vector<unbuffered>&; its receive() takes a value of one of them
//   pair_choice                the same for two, in the way in which one writes it for a number that is known
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// ns per value that a `Choice` of so many channels takes. Each of the senders sends the numbers from 0 on, into the channels in
/// turn; where there are as many senders as channels, each into its own.
template <class Library, class Choice> double receive_from_any(long channels, long senders) {
  return ns_per_operation([channels, senders](long values) {
    struct sender {
      std::vector<typename Library::unbuffered>& to;
      std::size_t first;
      std::size_t step;
      std::uint64_t values;
    };
    std::vector<typename Library::unbuffered> from(static_cast<std::size_t>(channels));
    Choice choice(from);
    const auto values_each = static_cast<std::uint64_t>(values / senders);
    std::vector<sender> work;
    for (long i = 0; i < senders; ++i) {
      work.push_back({from, static_cast<std::size_t>(i % channels), static_cast<std::size_t>(senders % channels), values_each});
    }
    std::vector<typename Library::thread> threads;
    for (sender& each : work) {
      threads.push_back(Library::spawn([&each] {
        std::size_t at = each.first;
        for (std::uint64_t i = 0; i < each.values; ++i) {
          each.to[at].send(i);
          at += each.step;
          if (at >= each.to.size()) at -= each.to.size();
        }
      }));
    }
    std::uint64_t sum = 0;
    for (long i = 0; i < values; ++i) sum += choice.receive();
    if (sum != static_cast<std::uint64_t>(senders) * values_each * (values_each - 1) / 2) fail("a value was lost or came twice");
    for (auto& thread : threads) thread.join();
  });
}

/// No choice: the first of one channel, by a plain receive.
template <class Library> class no_choice {
 public:
  explicit no_choice(std::vector<typename Library::unbuffered>& from) : from_(from.front()) {}
  std::uint64_t receive() { return from_.receive(); }

 private:
  typename Library::unbuffered& from_;
};

/// Two senders, once with a channel each, once with one channel for both. Prints what the latter takes, and how many plain
/// receives a select costs.
template <class Library> double receive_from_two() { return receive_from_any<Library, no_choice<Library>>(1, 2); }
template <class Library> double select_two() {
  const double plain = receive_from_two<Library>();
  const double chosen = receive_from_any<Library, typename Library::pair_choice>(2, 2);
  print_figure("select-2-receive", plain);
  print_figure("select-2-ratio", chosen / plain);
  return chosen;
}

/// One sender that sends into a hundred channels in turn.
template <class Library> double select_hundred() { return receive_from_any<Library, typename Library::choice>(100, 1); }

template <class Library> std::vector<row> select_rows() {
  return {
      {"select-2", select_two<Library>},
      {"select-2-receive", receive_from_two<Library>},
      {"select-100", select_hundred<Library>},
  };
}

}  // namespace bench
