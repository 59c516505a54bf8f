// Reports of threads that hold the processor for too long, so that no other thread runs.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "sched/program_text.hpp"
#include "sched/unwind.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/detail/preemption.hpp"
#include "weft/upcall.hpp"

namespace weft::sched {

class scheduler;

/// A kernel thread that looks at a scheduler from outside. A thread with which the processor has stayed for longer than a limit
/// is reported on standard error with its name and backtrace, once for each function of the program in which that happens.
///
/// One that runs is asked where it is, by a signal; one that waits in the kernel is left alone, because a signal would end its
/// wait: its stack is copied and read from outside. Off: costs nothing. On: a wake-up of this kernel thread eight times per limit
/// (1 to 50 ms) while there is anything to see, none while the scheduler idles.
class stall_watch {
 public:
  stall_watch(scheduler& of, duration limit, int signal);
  ~stall_watch();
  stall_watch(const stall_watch&) = delete;
  stall_watch& operator=(const stall_watch&) = delete;

  /// From the kernel thread that holds the processor: threads run again.
  void rest_is_over() noexcept {
    // seq_cst: see scheduler::rest.
    if (asleep_.load(std::memory_order_seq_cst)) wake();
  }
  /// In the signal handler, on the kernel thread of the thread that was asked.
  void answer(void* context) noexcept;

 private:
  // What is known of the thread that holds the processor.
  struct sighting {
    std::uint32_t thread = 0;  // 0: none does, the scheduler itself works
    char name[32] = {};
    stack_bounds bounds{};
    call_stack stack;
  };

  void run();
  void look();
  void look_at(std::uint64_t progress);
  [[nodiscard]] bool look_at_waiting(std::uint64_t progress, int kernel_thread);
  void tell(const sighting& found, const std::string& how);
  [[nodiscard]] bool is_new(const call_stack& stack);
  void wake() noexcept;
  static void describe_holder(const scheduler& of, sighting& into) noexcept;

  scheduler* scheduler_;
  duration limit_;
  int signal_;
  program_text program_;
  std::vector<std::uintptr_t> sites_;  // functions that were told of
  std::vector<std::uintptr_t> copy_;   // of the stack of one that waits

  // What the last look saw.
  std::uint64_t seen_ = 0;
  time_point since_{};
  std::int64_t core_time_ = 0;
  bool told_ = false;
  int quiet_ = 0;

  std::optional<upcall::question> question_;
  std::atomic<std::uint64_t> asked_{0};     // the progress at which the holder is to answer
  std::atomic<std::uint64_t> answered_{0};  // and did, in `answer_`
  sighting answer_;

  std::mutex lock_;  // of the two that follow
  std::condition_variable news_;
  bool stopping_ = false;
  bool woken_ = false;
  std::atomic<bool> asleep_{false};
  detail::kernel_thread thread_;
};

/// What `options::stall_report` asks for, or the environment's WEFT_STALL, in milliseconds; null for nothing.
/// @throws std::system_error when the signal is taken, or there is no kernel thread
[[nodiscard]] std::unique_ptr<stall_watch> watch_for_stalls(scheduler& of);

/// Called by our signal (see weft/detail/preemption.hpp).
void on_interruption(upcall::interruption why, void* whom, void* context) noexcept;

}  // namespace weft::sched
