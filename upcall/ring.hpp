// The io_uring of a reactor: transfers that complete inside the submit, and file operations that stay in flight.
//
// One ring, DEFER_TASKRUN and SINGLE_ISSUER: completions are posted only while this kernel thread asks for them, never by
// interrupting it. It belongs to the kernel thread that uses it first.
//
// A ring that was closed has one interruption left: some 20 ms later the kernel takes it off the books of every kernel thread
// that made or used it and lives, and ends what that one waits in. `epoll_wait`, `semtimedop` and their like return EINTR then.
// So rings are closed only where nobody waits any more: none is made for a trial and closed on a kernel thread that goes on.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>

#include "upcall/operation_list.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

class ring {
 public:
  ring() = default;
  ~ring();
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;

  /// Has the kernel make the ring, for whichever kernel thread uses it first. Called once at most, before all else.
  /// @returns 0, or the errno of the refusal. Costs 30 µs.
  [[nodiscard]] int prepare() noexcept;

  /// True if the kernel gave or gives us a ring. From then on it is the calling kernel thread's.
  [[nodiscard]] bool usable() noexcept { return state_ == state::made || (state_ != state::refused && make()); }

  /// Operations whose completion was not reaped yet.
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }
  /// Entries prepared, not submitted.
  [[nodiscard]] bool has_prepared() const noexcept { return state_ == state::made && io_uring_sq_ready(&ring_) != 0; }
  /// True when the next entry finds no room: submit first.
  [[nodiscard]] bool full() noexcept { return io_uring_sq_space_left(&ring_) == 0; }

  /// Adds the transfer `op`, told not to wait: it completes inside the submit, maybe with EAGAIN. Not when full.
  void prepare_transfer(operation& op, bool socket) noexcept;
  /// Adds the file operation `op`. Not when full.
  void prepare_file(operation& op) noexcept;
  /// Asks the kernel to let go of `op`, which is in flight. Not when full.
  void prepare_cancel(operation& op) noexcept;
  /// Keeps a one-shot poll of the epoll set `fd` in the ring, so that `sleep` ends when a descriptor has news. Not when full.
  void watch(int fd) noexcept;

  /// Hands everything prepared to the kernel. @returns false when completions must be reaped before it takes the rest.
  bool submit() noexcept;
  /// Submits, then waits for a completion, a signal or the time-out (null: for ever).
  void sleep(__kernel_timespec* timeout) noexcept;

  /// Calls `done(operation&, result)` for every completion there is. @returns true when the watched epoll set has news.
  template <class Done> bool reap(Done done) noexcept {
    if (state_ != state::made) return false;
    bool news = false;
    do {
      fetch();
      unsigned head = 0;
      unsigned count = 0;
      io_uring_cqe* cqe = nullptr;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        news |= take(*cqe, done);
      }
      io_uring_cq_advance(&ring_, count);
    } while (overflowed());
    return news;
  }

  /// After fork: leaves the ring to the parent.
  void abandon() noexcept { state_ = state::refused; }

 private:
  enum class state : std::uint8_t { unused, prepared, made, refused };
  static constexpr std::uint64_t watch_data = 1;  // no address of an operation
  static constexpr std::uint64_t cancel_data = 2;

  template <class Done> bool take(const io_uring_cqe& cqe, Done& done) noexcept {
    if (cqe.user_data == watch_data) {
      watching_ = false;
      return true;
    }
    if (cqe.user_data == cancel_data) return false;
    --in_flight_;
    done(*reinterpret_cast<operation*>(cqe.user_data), cqe.res);
    return false;
  }

  bool make() noexcept;
  void close() noexcept;
  void fetch() noexcept;
  [[nodiscard]] bool overflowed() const noexcept { return (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0; }
  io_uring_sqe* next() noexcept { return io_uring_get_sqe(&ring_); }
  void enter(io_uring_sqe* sqe, operation& op) noexcept;

  io_uring ring_{};
  std::size_t in_flight_ = 0;
  state state_ = state::unused;
  bool watching_ = false;
};

}  // namespace weft::upcall::engine
