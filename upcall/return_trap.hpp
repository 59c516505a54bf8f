// Stops a kernel thread that waits in the kernel before it executes another instruction of user code: a breakpoint at the
// instruction behind its system call, for who may not have an event that stops it by itself (switch_monitor.hpp, open_stopping).
//
// Needs no privilege. Works for system calls only: an instruction that faulted is executed again without minding breakpoints.
#pragma once

#include <cstdint>
#include <mutex>

#include "upcall/perf_trap.hpp"

namespace weft::upcall::engine {

class return_trap {
 public:
  return_trap() = default;
  ~return_trap() { close(); }
  return_trap(const return_trap&) = delete;
  return_trap& operator=(const return_trap&) = delete;

  /// Makes the breakpoint of the calling kernel thread, not armed. `to` is told when it was met, and calls `disarm`.
  /// @returns 0, or the errno of the refusal
  [[nodiscard]] int open(trap_receiver& to) noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }

  /// Any kernel thread, with `lock` held: from here on its kernel thread stops at `instruction`.
  [[nodiscard]] bool arm(std::uintptr_t instruction) noexcept;
  /// Any kernel thread, also in a signal handler.
  void disarm() noexcept;

  std::mutex lock;  // of those who would arm it: a slow one must not arm it for where it was

 private:
  trap_receiver* to_ = nullptr;
  int fd_ = -1;
};

}  // namespace weft::upcall::engine
