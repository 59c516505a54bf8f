// The source of upcalls of real kernels: one wait for everything.
//
// Life of an operation. `start` tries it at once if the descriptor is believed ready and nobody else could run; puts it into
// the batch if others could; parks it on its descriptor if it is not ready. Edges reported by epoll move parked operations
// into the batch. `poll` and `wait` flush the batch: through the ring in one system call, told not to wait, or by direct calls
// where they are few or there is no ring. What is finished is delivered as one batch of `unblocked` upcalls.
//
// What cannot be polled (files, open, fsync) goes through the batch too, and then stays in flight in the ring, or on a worker
// kernel thread.
//
// The life of a descriptor ends with close. What waits for it, is in the batch or queues for a worker, is ended first: all of
// that has but its number, which may name another file in a moment. What is in flight in the ring has the open file itself, and
// goes on. What a worker has begun may not have got that far: the close waits until it is done. Rejected: a duplicate for the
// worker, because closing any descriptor of a file drops the process's POSIX locks on it, and has network file systems flush.
// A typed object that is closed on another kernel thread leaves its number to us, because nobody else can end these calls.
//
// Invariants. An operation is in exactly one place (operation_list.hpp). In one direction of a descriptor at most one
// operation is in the batch or in the ring: it holds the turn, and so transfers are first come, first served. A finished
// operation is in no other list. `start` never waits, and never calls the handler but for `others_ready`.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "upcall/descriptor_table.hpp"
#include "upcall/opening.hpp"
#include "upcall/operation_list.hpp"
#include "upcall/ring.hpp"
#include "upcall/workers.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

class reactor final : public source {
 public:
  /// `how` is ring, with a `first` that the kernel has agreed to, or direct; `report` says why, in words.
  /// @throws std::system_error when the kernel refuses epoll
  reactor(transfer how, std::unique_ptr<ring> first, std::string report);
  ~reactor() override;
  reactor(const reactor&) = delete;
  reactor& operator=(const reactor&) = delete;

  void attach(handler& receiver) override { handler_ = &receiver; }
  bool start(operation& op) override;
  void cancel(operation& op) override;
  void poll() override;
  void wait(time_point deadline) override;
  void wake() noexcept override;
  [[nodiscard]] std::unique_ptr<activation_pool> make_activations(detail::processor& word, std::uint32_t limit,
                                                                  bool all_code) override;
  [[nodiscard]] bool bound_here() const noexcept override { return ring_->in_flight() != 0 || ring_->has_prepared(); }
  void enters(std::uint32_t activation) override;
  void leaves(std::uint32_t activation) noexcept override;
  void moved_to(std::uint32_t activation) noexcept override;
  [[nodiscard]] bool prepare_doze(time_point& deadline) override;
  void doze(time_point deadline, int place) noexcept override;
  [[nodiscard]] std::size_t pending() const noexcept override { return pending_; }
  [[nodiscard]] bool wants_poll() const noexcept override { return pending_ != 0 || has_left(); }
  [[nodiscard]] std::string_view name() const noexcept override { return how_ == transfer::ring ? "ring" : "direct"; }

  /// How transfers reach the kernel, and why, in words.
  [[nodiscard]] std::string_view report() const noexcept { return report_; }

 private:
  // ---- downcalls (reactor_start.cpp, reactor_close.cpp). True: complete at once, `op.result` filled ----
  bool begin(operation& op);
  bool begin_transfer(operation& op);
  bool begin_file(operation& op, descriptor_entry& entry);
  bool begin_open(operation& op);
  bool begin_sync(operation& op);
  bool begin_poll(operation& op);
  bool begin_connect(operation& op);
  bool begin_close(operation& op);
  enum class line : bool { last, first };
  bool park(operation& op, descriptor_entry& entry, direction d, line where);
  void fail_all(int fd, std::int32_t error);
  void fail_held(int fd, descriptor_entry& entry, std::int32_t error);
  [[nodiscard]] bool let_go(int fd);

  // ---- moving operations (reactor.cpp) ----
  void collect(operation& op, descriptor_entry* entry);
  void uncollect(operation& op);
  void advance(descriptor_entry& entry, direction d);
  void give_turn_back(operation& op, descriptor_entry& entry);
  void finish(operation& op, std::int32_t result);
  [[nodiscard]] descriptor_entry* entry_of(const operation& op) noexcept;

  // ---- carrying out (reactor.cpp) ----
  void flush();
  void carry_out(operation& op, bool through_ring);
  void ask_doubtful(bool through_ring);
  void carry_out_file(operation& op);
  void transferred(operation& op, std::int32_t result);
  void file_done(operation& op, std::int32_t result);
  void connected(operation& op);
  void to_worker(operation& op);
  void left_worker(operation& op);
  void resume_close(int fd);
  void close_left();
  [[nodiscard]] bool has_left() const noexcept { return owned_->has_left() || !left_.empty(); }
  void submit();
  void reap();
  [[nodiscard]] std::int32_t second_try(operation& op, std::int32_t result);

  // ---- what no edge tells of (reactor_retry.cpp) ----
  void try_later(operation& op);
  void retry();
  void nobody_retries();
  void give_up(operation& op, std::int32_t error);
  void opened(operation& op, std::int32_t result);

  // ---- waiting (reactor_wait.cpp) ----
  void look();
  void news(const epoll_event& event);
  void recheck_watchers(descriptor_entry& entry);
  void take_worker_results();
  void sleep(time_point deadline);
  void deliver();


  // Fewer transfers are as cheap as direct calls: receives, ring against direct: 1: +14 %, 2: 0, 3: -7 %, 16: -17 %.
  static constexpr std::size_t many = 3;
  static constexpr std::size_t asked_at_once = 128;
  static constexpr std::size_t news_at_once = 256;
  static constexpr std::size_t events_at_once = 512;

  handler* handler_ = nullptr;
  descriptor_table table_;
  std::unique_ptr<ring> first_ring_;                 // of activation 1
  std::vector<std::unique_ptr<ring>> other_rings_;   // by number less 2; each is used and destroyed on its own kernel thread
  ring* ring_ = first_ring_.get();                   // of the activation that holds the processor
  operation_list batch_;
  operation_list finished_;  // those for whose events there was no room
  operation_list retrying_;
  operation_list closing_;
  std::size_t batch_size_ = 0;
  std::size_t finished_count_ = 0;
  std::size_t pending_ = 0;
  time_point last_look_{};
  time_point next_retry_ = never;
  time_point waits_since_{};  // when the latest of them came, or last something came of it
  scratch_pipe scratch_;
  transfer how_;
  enum class file_reads : std::uint8_t { none, all_done, some_wait };
  file_reads flushed_ = file_reads::none;  // by the flush under way
  bool in_memory_ = false;                 // what was last read from files was there
  bool ring_news_ = false;  // the ring said that the epoll set has news
  std::size_t asked_count_ = 0;
  std::array<pollfd, asked_at_once> asked_{};       // doubtful descriptors,
  std::array<operation*, asked_at_once> askers_{};  // and who wants to read them
  std::unique_ptr<std::array<epoll_event, news_at_once>> news_;
  std::unique_ptr<std::array<event, events_at_once>> events_;
  std::unique_ptr<workers> workers_;
  std::unique_ptr<owned_descriptors> owned_;
  std::vector<int> left_;  // by other kernel threads for us to close
  std::string report_;
  pid_t owner_;
  int doorbell_ = -1;

  // wake() and wait(), see reactor_wait.cpp
  std::atomic<bool> woken_{false};
  std::atomic<bool> asleep_{false};
};

}  // namespace weft::upcall::engine

namespace weft::upcall {

/// How `made`, which make_reactor returned, transfers and why, in words: "transfers direct: io_uring_setup refused (…): …".
[[nodiscard]] std::string_view reactor_report(const source& made) noexcept;

}  // namespace weft::upcall
