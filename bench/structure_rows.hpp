// The rows of threads that belong together: they end together, or are ended together. Needs the `Library` of thread_rows.hpp, and
//
//   crowd                      spawn(body), join(), and where the library has it cancel(): threads that belong together.
//                              Left out where it has no such thing: threads in a vector, which are joined
//   receive(socket)            blocks in recv(2) until the thread is ended, by an exception or by returning
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "blocked_sockets.hpp"
#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// Threads in a vector.
template <class Library> class vector_of_threads {
 public:
  explicit vector_of_threads(std::size_t count) { threads_.reserve(count); }
  template <class Body> void spawn(Body body) { threads_.push_back(Library::spawn(body)); }
  void join() {
    for (auto& thread : threads_) thread.join();
  }

 protected:
  std::vector<typename Library::thread>& threads() { return threads_; }

 private:
  std::vector<typename Library::thread> threads_;
};

template <class Library> struct crowd_of { using type = vector_of_threads<Library>; };
template <class Library>
requires requires { typename Library::crowd; }
struct crowd_of<Library> {
  using type = typename Library::crowd;
};

/// ns per thread to start 1,000 threads that belong together, each of which says that it has run, and to wait for all of them.
template <class Library> double nursery() {
  constexpr long threads = 1000;
  return ns_per_operation([](long count) {
    std::vector<long> times_run(threads);
    for (long begun = 0; begun < count; begun += threads) {
      typename crowd_of<Library>::type crowd(times_run.size());
      for (long& times : times_run) crowd.spawn([&times] { ++times; });
      crowd.join();
    }
    for (const long times : times_run) {
      if (times != count / threads) fail("not all threads have run");
    }
  });
}

/// ns from when threads that block in recv(2) are asked to end until the last one has.
template <class Library> double cancel_all_of(std::span<const int> sockets) {
  struct shared_count {
    std::atomic<std::size_t> waiting = 0;
    std::atomic<std::size_t> ended = 0;
  } counts;
  struct party {
    int socket;
    shared_count& counts;
  };
  struct at_end {
    std::atomic<std::size_t>& ended;
    ~at_end() { ++ended; }
  };
  std::vector<party> parties;
  for (const int each : sockets) parties.push_back({each, counts});
  typename Library::crowd crowd(sockets.size());
  for (party& each : parties) {
    crowd.spawn([&each] {
      const at_end here{each.counts.ended};
      ++each.counts.waiting;
      Library::receive(each.socket);
    });
  }
  while (counts.waiting < sockets.size()) Library::yield();
  if (counts.ended != 0) fail("a receive returned although nobody has sent");
  const std::int64_t start = now_ns();
  crowd.cancel();
  crowd.join();
  const std::int64_t end = now_ns();
  if (counts.ended != sockets.size()) fail("a thread was joined that has not ended");
  return static_cast<double>(end - start);
}

template <class Library> std::vector<row> structure_rows() {
  std::vector<row> rows{{"nursery-1000", nursery<Library>}};
  if constexpr (requires { &Library::receive; }) {
    rows.push_back({"cancel-10k", [] { return cancel_blocked(Library::receives_with, cancel_all_of<Library>); }});
  }
  return rows;
}

}  // namespace bench
