// The rows of calls that block in the kernel, written once for every library that has a way to make them.
//
// Needs of the `Library` of thread_rows.hpp: spawn(body), semaphore, and
//   blocking(fn)     calls fn, which may block in the kernel, so that other threads run meanwhile; returns when fn has
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

/// ns of a blocking call that does not block.
template <class Library> double blocking_free() {
  return ns_per_operation([](long calls) {
    for (long i = 0; i < calls; ++i) Library::blocking([&i] { keep(i); });
  });
}

/// Two threads, one of which always sits in a read of an empty pipe until the other one runs and writes.
template <class Library> class handoff {
 public:
  handoff() {
    if (pipe(ends_.data()) != 0) fail_with_errno("pipe");
  }

  /// For a second, after a warm-up.
  void run() {
    auto other = Library::spawn([this] { write_when_running(); });
    constexpr std::int64_t warm_up_ns = 200'000'000;
    constexpr std::int64_t window_ns = 1'000'000'000;
    const std::int64_t start = now_ns();
    for (std::int64_t now = start; now < start + warm_up_ns + window_ns; now = now_ns()) {
      const std::int64_t returned = read_once();
      if (now < start + warm_up_ns) continue;
      takeovers_.push_back(static_cast<double>(ran_at_ - blocked_at_) * 1e-3);
      returns_.push_back(static_cast<double>(returned - wrote_at_) * 1e-3);
    }
    over_ = true;
    may_run_.release();
    other.join();
  }

  std::vector<double>& takeovers() { return takeovers_; }  // µs from a call that blocks to the next thread's running
  std::vector<double>& returns() { return returns_; }      // µs from the write that ends a call to its thread's running

 private:
  // Makes the other thread ready, which cannot run before this one waits; @returns when this one runs again.
  std::int64_t read_once() {
    may_run_.release();
    blocked_at_ = now_ns();
    Library::blocking([this] {
      char byte = 0;
      if (read(ends_[0], &byte, 1) != 1) fail_with_errno("read");
    });
    const std::int64_t returned = now_ns();
    has_returned_.release();
    return returned;
  }

  void write_when_running() {
    for (;;) {
      may_run_.acquire();
      ran_at_ = now_ns();
      if (over_) return;
      wrote_at_ = now_ns();
      if (write(ends_[1], "x", 1) != 1) fail_with_errno("write");
      has_returned_.acquire();
    }
  }

  std::array<int, 2> ends_{};
  typename Library::semaphore may_run_{0};
  typename Library::semaphore has_returned_{0};
  std::int64_t blocked_at_ = 0;
  std::int64_t ran_at_ = 0;
  std::int64_t wrote_at_ = 0;
  bool over_ = false;
  std::vector<double> takeovers_;
  std::vector<double> returns_;
};

/// µs until the next thread runs, the median; prints the 99th percentile too, and what the way back takes. `cores` is "" or
/// "-1core", as in the names of the figures.
template <class Library> double blocking_handoff(const std::string& cores) {
  static handoff<Library> both;  // outlives the row, which ends the program
  both.run();
  print_figure("blocking-takeover" + cores + "-p99", percentile(both.takeovers(), 99));
  print_figure("blocking-return" + cores, percentile(both.returns(), 50));
  return percentile(both.takeovers(), 50);
}

template <class Library> std::vector<row> blocking_rows() {
  const auto on_two_cores = [] {
    use_both_cores();
    return blocking_handoff<Library>("");
  };
  return {
      {"blocking-free", blocking_free<Library>},
      {"blocking-takeover-p50", on_two_cores},
      {"blocking-takeover-1core-p50", [] { return blocking_handoff<Library>("-1core"); }},
  };
}

}  // namespace bench
