// What the peers liburing and hybrid share: an io_uring with errors turned into sentences.
#pragma once

#include <liburing.h>

#include <array>
#include <span>
#include <string>

#include "measure.hpp"

namespace bench {

class ring {
 public:
  /// @param entries submissions that fit; completions have four times as much room
  ring(unsigned entries, unsigned flags) {
    io_uring_params parameters{};
    parameters.flags = flags | IORING_SETUP_CQSIZE;
    parameters.cq_entries = 4 * entries;
    const int error = io_uring_queue_init_params(entries, &ring_, &parameters);
    if (error < 0) fail("this kernel refuses io_uring: error " + std::to_string(-error));
    io_uring_register_ring_fd(&ring_);
  }
  ring(const ring&) = delete;
  ~ring() { io_uring_queue_exit(&ring_); }

  /// An empty submission; submits those before it when the queue is full.
  io_uring_sqe* next() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    while (entry == nullptr) {
      submit();
      entry = io_uring_get_sqe(&ring_);
    }
    return entry;
  }

  void submit() { io_uring_submit(&ring_); }
  void submit_and_wait() { io_uring_submit_and_wait(&ring_, 1); }

  /// Calls `handle(completion)` for the completions that are there and returns their number.
  template <class Handle> unsigned reap(Handle handle) {
    const unsigned count = io_uring_peek_batch_cqe(&ring_, completions_.data(), completions_at_once);
    for (io_uring_cqe* completion : std::span(completions_).first(count)) handle(*completion);
    io_uring_cq_advance(&ring_, count);
    return count;
  }

 private:
  io_uring ring_{};
  static constexpr unsigned completions_at_once = 4096;
  std::array<io_uring_cqe*, completions_at_once> completions_;
};

}  // namespace bench
