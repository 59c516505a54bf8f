// Perf events of a kernel thread that stop it: each time one of them happens, the kernel thread gets a SIGTRAP before its next
// instruction of user code (perf_event_attr.sigtrap, Linux 5.13). No other signal is as exact: it is never late, and it ends no
// system call early, because it is made on the way out of the kernel.
#pragma once

#include <linux/perf_event.h>

#include <cstdint>

namespace weft::upcall {

/// What is called when an event traps: in the signal handler, on the kernel thread of the event and its alternate stack, with all
/// signals blocked. Nothing there may touch errno or anything thread_local: they may be another kernel thread's (outside.cpp).
struct trap_receiver {
  void (*then)(trap_receiver& self, void* context) noexcept;
};

/// Whether the program leaves SIGTRAP to us.
[[nodiscard]] bool sigtrap_is_free() noexcept;
/// Makes SIGTRAP ours to the end of the process; traps of others end the program, as they would without us.
/// @returns false when the program handles SIGTRAP itself.
[[nodiscard]] bool take_sigtrap() noexcept;
/// Whether that would work now.
[[nodiscard]] bool sigtrap_is_free() noexcept;

/// `wanted` with sigtrap and what goes with it.
[[nodiscard]] perf_event_attr complete_trap(perf_event_attr wanted, trap_receiver& to, bool disabled) noexcept;

/// Opens `wanted` for the calling kernel thread, with sigtrap and what goes with it, switched off. `to` must live until the event
/// was closed by this kernel thread. @returns the descriptor or a negative errno.
[[nodiscard]] int open_trap(perf_event_attr wanted, trap_receiver& to) noexcept;

/// ioctl without errno: to be called in a receiver.
void control_event(int fd, unsigned long request, const void* argument) noexcept;

}  // namespace weft::upcall
