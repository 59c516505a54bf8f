// The seam between scheduler and kernel for whoever holds the processor too long: interrupting a kernel thread by a signal of
// ours, once or tick after tick, and asking the kernel where one waits. Declared here, implemented in upcall/preemption.cpp.
//
// Every interruption comes from a clock that runs only while its kernel thread runs. So it never ends a system call early: one
// that waits is not interrupted, and one that does not wait has finished before the signal is delivered (upcall/preemption.cpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace weft::upcall {

/// Why our signal interrupts a kernel thread.
enum class interruption : std::uint8_t {
  question,  ///< somebody wants to know where it is
  tick,      ///< it has run for a time slice
};

/// What is done about it: in the signal handler, on the interrupted kernel thread and its alternate stack. `whom` is what the
/// ticker was given, null for a question; `context` is the third argument of the handler. errno is kept for a question. For a
/// tick neither errno nor anything thread_local may be touched: they may be another kernel thread's.
using interrupted = void (*)(interruption why, void* whom, void* context) noexcept;

/// The signal that `options::preemption_signal` asks for; for 0, a real-time signal that the program does nothing about. From
/// here on it calls `then`, in all schedulers of the process and to the end of the process: one that is still on its way when
/// the last scheduler ends would otherwise end the program.
/// @throws std::system_error: invalid_argument when there is no such signal, device_or_resource_busy when the program handles
///         it; the text says what to change
[[nodiscard]] int take_signal(int wanted, interrupted then);

/// Interrupts one kernel thread of this process, once.
class question {
 public:
  /// As soon as `kernel_thread` runs in its own code: a tick of the kernel later, 1 to 10 ms. Never if it does not.
  question(int kernel_thread, int signal) noexcept;
  ~question();
  question(const question&) = delete;
  question& operator=(const question&) = delete;

 private:
  void* timer_ = nullptr;
  bool made_ = false;
};

/// Interrupts the kernel thread that makes it whenever that has run for `period`, only while it runs, and never in a system call
/// that waits. By a perf event that traps where the kernel allows it: exact, and only in user code. Otherwise by a timer on the
/// CPU clock, which the kernel looks at in its own tick: 1 to 10 ms. Where the kernel thread blocks the signal, it does not while
/// this lives.
class ticker {
 public:
  /// `signal` is what take_signal() returned. A kernel that refuses both leaves it without ticks: see `source`.
  ticker(std::chrono::nanoseconds period, int signal, void* whom) noexcept;
  ~ticker();  // on the same kernel thread
  ticker(const ticker&) = delete;
  ticker& operator=(const ticker&) = delete;

  enum class clock : std::uint8_t { none, perf, cpu };
  [[nodiscard]] clock source() const noexcept { return source_; }
  /// Why there are no ticks by perf here: an errno, EBUSY where the program handles SIGTRAP; 0: there are.
  [[nodiscard]] static int perf_refusal() noexcept;

 private:
  struct state;
  clock source_ = clock::none;
  std::unique_ptr<state> state_;
};

/// Where a kernel thread is, as far as the kernel tells.
struct whereabouts {
  bool waits = false;              ///< in the kernel; otherwise nothing else is known
  int call = -1;                   ///< number of the system call; -1: a page fault, or unknown
  std::uintptr_t instruction = 0;  ///< where it goes on, and the stack pointer there
  std::uintptr_t stack_pointer = 0;
  friend bool operator==(const whereabouts&, const whereabouts&) = default;
};
[[nodiscard]] whereabouts whereabouts_of(int kernel_thread) noexcept;

/// Whether `kernel_thread`, which waits, would take `signal` before it goes on: it does not block it, and it waits for
/// something, not because a debugger or job control has stopped it, which may let it go on without a word. False when the
/// kernel does not say.
[[nodiscard]] bool would_take(int kernel_thread, int signal) noexcept;

/// Copies memory of this process that may change or vanish meanwhile. @returns the bytes copied; 0 also when the kernel refuses.
[[nodiscard]] std::size_t read_memory(const void* from, void* to, std::size_t bytes) noexcept;

/// Copies one object so. @returns false when the kernel refuses: `to` is then unchanged.
template <class T> bool peek(const T* from, T& to) noexcept {
  return read_memory(from, static_cast<void*>(&to), sizeof to) == sizeof to;
}

/// Whether the kernel answers such questions at all: /proc is there, and process_vm_readv(2) allowed.
[[nodiscard]] bool others_can_be_looked_at() noexcept;

/// Time for which `kernel_thread` had a core so far, in nanoseconds; 0 when it is gone.
[[nodiscard]] std::int64_t core_time_of(int kernel_thread) noexcept;

/// The calling kernel thread, as the kernel numbers it.
[[nodiscard]] int this_kernel_thread() noexcept;

/// Whether threads can be interrupted in their own code at all: this machine, this build (sched/context_interrupt.hpp).
[[nodiscard]] bool threads_interruptible() noexcept;
/// And whether those that wait there can be left (sched/own_code.hpp).
[[nodiscard]] bool waits_can_be_left() noexcept;

}  // namespace weft::upcall
