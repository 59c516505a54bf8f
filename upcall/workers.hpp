// Kernel threads for what can only be done by waiting in a system call, where no ring does it.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>

#include "upcall/operation_list.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// A pool that grows with demand up to `most` and shrinks when idle. Its kernel threads are named, have all signals blocked,
/// and end before the pool does.
///
/// An operation belongs to the pool from `submit` until `take_done`, `drop` or `drop_all` returned it: nobody else touches it
/// in between, and its descriptor must stay open.
class workers {
 public:
  static constexpr std::size_t most = 16;

  /// `wakes` is woken whenever a first operation is done.
  explicit workers(source& wakes) : source_(&wakes) {}
  ~workers();
  workers(const workers&) = delete;
  workers& operator=(const workers&) = delete;

  /// Carries out `op` on some worker. Where the kernel gives us no kernel thread at all, at once on this one.
  void submit(operation& op) noexcept;
  /// Takes `op` back if no worker has begun it. @returns whether it did.
  [[nodiscard]] bool drop(operation& op) noexcept;
  /// Takes back all that no worker has begun of those on descriptor `fd` but opens, in their order.
  [[nodiscard]] operation_list drop_all(int fd) noexcept;
  /// True when `take_done` has something to give.
  [[nodiscard]] bool has_done() const noexcept { return has_done_.load(std::memory_order_acquire); }
  /// All operations done since the last call, `result` filled.
  [[nodiscard]] operation_list take_done() noexcept;

 private:
  enum class slot_state : unsigned char { vacant, running, ended };
  struct slot {
    detail::kernel_thread thread;
    slot_state state = slot_state::vacant;
  };

  void run(slot& self) noexcept;
  bool grow() noexcept;
  bool next_or_end(std::unique_lock<std::mutex>& lock, slot& self) noexcept;

  source* source_;
  std::mutex mutex_;  // guards all below but has_done_
  std::condition_variable work_;
  operation_list queue_;
  operation_list done_;
  std::array<slot, most> slots_;
  std::size_t queued_ = 0;
  std::size_t running_ = 0;
  std::size_t idle_ = 0;
  bool stopping_ = false;
  std::atomic<bool> has_done_{false};
};

}  // namespace weft::upcall::engine
