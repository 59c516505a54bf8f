// The thread rows, written once for every library that looks like the standard one.
//
// `Library` is a struct that names a system under test in the vocabulary of <thread>:
//   thread                     with join()
//   spawn(body)                starts a thread
//   spawn_child_first(body)    the same, and the child runs before its parent where the library offers that
//   spawn_fresh(body)          the same as spawn, on a 64 KiB stack that will not be used twice
//   yield(), sleep_for(duration)
//   mutex, condition_variable
//   buffered, unbuffered       channels of std::uint64_t with send() and receive()
//   semaphore                  with acquire() and release()
// and leaves out what it does not have. Every body captures a single reference, so that it fits where C libraries want a
// void pointer and no library pays for an allocation that another one avoids.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// Runs `body` in `count` threads and waits for all of them.
template <class Library, class Body> void run_threads(long count, Body body) {
  std::vector<typename Library::thread> threads;
  threads.reserve(static_cast<std::size_t>(count));
  for (long i = 0; i < count; ++i) threads.push_back(Library::spawn(body));
  for (auto& thread : threads) thread.join();
}

/// ns from one thread's yield to the next thread's, with `threads` threads taking turns.
template <class Library> double yield(long threads) {
  return ns_per_operation([threads](long yields) {
    const long yields_each = yields / threads;
    run_threads<Library>(threads, [&yields_each] {
      for (long i = 0; i < yields_each; ++i) Library::yield();
    });
  });
}

/// ns to start an empty thread and join it, one at a time.
template <class Library> double spawn_join() {
  return ns_per_operation([](long threads) {
    for (long i = 0; i < threads; ++i) Library::spawn([] {}).join();
  });
}

/// ns per thread to start 100,000 empty threads and then join them all. Not warmed up: the memory is part of the price.
template <class Library> double spawn_many() {
  constexpr long count = 100'000;
  std::vector<typename Library::thread> threads;
  threads.reserve(count);
  const std::int64_t start = now_ns();
  for (long i = 0; i < count; ++i) threads.push_back(Library::spawn_fresh([] {}));
  for (auto& thread : threads) thread.join();
  return static_cast<double>(now_ns() - start) / count;
}

/// ns to lock and unlock a mutex that nobody else wants.
template <class Library> double mutex_free() {
  return ns_per_operation([](long locks) {
    // In a thread of its own: C libraries skip the atomic operations while a process has only one.
    Library::spawn([&locks] {
      typename Library::mutex mutex;
      for (long i = 0; i < locks; ++i) {
        keep(mutex);
        mutex.lock();
        keep(mutex);
        mutex.unlock();
      }
    }).join();
  });
}

/// ns per lock when eight threads want the same mutex and its owner always yields inside.
template <class Library> double mutex_contended() {
  constexpr long threads = 8;
  return ns_per_operation([](long locks) {
    struct {
      long locks_each;
      long taken = 0;
      typename Library::mutex mutex{};
    } shared{.locks_each = locks / threads};
    run_threads<Library>(threads, [&shared] {
      for (long i = 0; i < shared.locks_each; ++i) {
        const std::lock_guard lock(shared.mutex);
        ++shared.taken;
        Library::yield();
      }
    });
    if (shared.taken != locks) fail("the mutex let two threads in at once");
  });
}

template <class Library> std::vector<row> thread_rows() {
  return {
      {"yield-2", [] { return yield<Library>(2); }}, {"yield-1000", [] { return yield<Library>(1000); }},
      {"spawn-join", spawn_join<Library>},           {"spawn-100k", spawn_many<Library>},
      {"mutex-free", mutex_free<Library>},           {"mutex-contended-8", mutex_contended<Library>},
  };
}

}  // namespace bench
