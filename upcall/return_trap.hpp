// Stops a kernel thread that waits in the kernel before it executes another instruction of user code: by a breakpoint at the
// instruction behind its system call, or, where it waits in a page fault, by an event that the kernel counts when the fault is
// done. (An instruction that faulted is executed again without minding breakpoints.)
//
// Nothing of it is felt by who is not stopped. An event that stopped every kernel thread after every wait could tell of both,
// and of signals too, but it needs privilege, costs 4 µs a wait, and its signal turns what the kernel would begin anew into EINTR.
#pragma once

#include <array>
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

  /// Makes the traps of the calling kernel thread, not armed. `to` is told when one was met, and calls `disarm`.
  /// @returns 0, or the errno with which the breakpoint was refused
  [[nodiscard]] int open(trap_receiver& to) noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return breakpoint_ >= 0; }
  /// Whether a page fault can be told of.
  [[nodiscard]] bool stops_faults() const noexcept { return faults_.front() >= 0 && faults_.back() >= 0; }

  /// Any kernel thread, with `lock` held: from here on its kernel thread, which waits at `at`, stops when it goes on.
  /// @returns false when the kernel refuses.
  [[nodiscard]] bool arm(const whereabouts& at) noexcept;
  /// Its own kernel thread, in a signal handler.
  void disarm() noexcept;

  std::mutex lock;  // of those who would arm it: a slow one must not arm it for where it was

 private:
  trap_receiver* to_ = nullptr;
  int breakpoint_ = -1;
  std::array<int, 2> faults_{-1, -1};  // that needed the disk, or a memory lock, and that did not
};

}  // namespace weft::upcall::engine
