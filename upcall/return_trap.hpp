// Stops a kernel thread that waits in the kernel before it executes another instruction of user code: by a breakpoint at the
// instruction behind its system call, or, where it waits in a page fault, by an event that the kernel counts when the fault is
// done. (An instruction that faulted is executed again without minding breakpoints.) One that waits outside of a call may also
// have been frozen by a control group, or with the machine: then nothing is counted, and the breakpoint at its next instruction
// stops it.
//
// Nothing of it is felt by who is not stopped. An event that stopped every kernel thread after every wait could tell of both,
// and of signals too, but it needs privilege, costs 4 µs a wait, and its signal turns what the kernel would begin anew into
// EINTR.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "upcall/perf_trap.hpp"
#include "weft/detail/preemption.hpp"

namespace weft::upcall::engine {

class return_trap {
 public:
  return_trap() = default;
  ~return_trap() { close(); }
  return_trap(const return_trap&) = delete;
  return_trap& operator=(const return_trap&) = delete;

  /// Makes the traps of the calling kernel thread, not armed, and lets SIGTRAP through to it. `to` is told when one was met,
  /// and calls `disarm`.
  /// @returns 0, or the errno with which the breakpoint was refused
  [[nodiscard]] int open(trap_receiver& to) noexcept;
  /// Its own kernel thread.
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return breakpoint_ >= 0; }
  /// Whether a page fault can be told of.
  [[nodiscard]] bool stops_faults() const noexcept { return faults_.front() >= 0 && faults_.back() >= 0; }

  /// Any kernel thread, with `lock` held: from here on its kernel thread, which waits at `at`, stops when it goes on.
  /// @returns false when the kernel refuses.
  [[nodiscard]] bool arm(const whereabouts& at) noexcept;
  /// Its own kernel thread, in a signal handler.
  void disarm() noexcept;
  /// The stack pointer of the code for which it was armed last: a handler of the program's that runs above it has another.
  [[nodiscard]] std::uintptr_t armed_at() const noexcept { return stack_pointer_.load(std::memory_order_acquire); }

  /// Of those who would arm it, up to when the processor is taken: a slow one must not arm it for where it was, nor again for
  /// where it is.
  std::mutex lock;

 private:
  trap_receiver* to_ = nullptr;
  int breakpoint_ = -1;
  std::atomic<std::uintptr_t> stack_pointer_{0};  // where it was armed
  bool was_blocked_ = false;                      // SIGTRAP, where its kernel thread made the traps
  std::array<int, 2> faults_{-1, -1};  // that needed the disk, or a memory lock, and that did not
};

}  // namespace weft::upcall::engine
