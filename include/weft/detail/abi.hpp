// What inline code may know of the running scheduler, and the one thread-local through which it finds it.
//
// A weft thread may resume on another kernel thread, so the address of a thread-local must never be kept across a switch.
// Compilers do keep it. Hence this header: on x86-64 the slot is read by one volatile instruction pair that the compiler
// cannot merge with an earlier one; elsewhere by a function that is never inlined.
#pragma once

#include <chrono>
#include <cstdint>

namespace weft::trace {
class ring;
}
namespace weft::upcall {
class source;
}

namespace weft::detail {

struct thread_record;

/// The part of a scheduler that inline code reads. `current` is null on a kernel thread that runs no weft thread: the
/// slot then points to `off_weft`, to a face of the activation's own while it does not hold the processor, or to the one of
/// threads whose own code upcalls may interrupt: so the fast paths need one test, and every other way into weft goes through
/// `with_processor`.
struct scheduler_face {
  thread_record* current = nullptr;
  thread_record* away = nullptr;  // the thread whose region of blocking(), or own interruptible code, runs on this kernel thread
  trace::ring* trace = nullptr;
  upcall::source* source = nullptr;
};

}  // namespace weft::detail

extern "C" {
extern __thread weft::detail::scheduler_face* weft_this_scheduler __attribute__((tls_model("initial-exec")));
}

namespace weft::detail {

#if defined(__x86_64__)
[[nodiscard]] inline scheduler_face& this_scheduler_face() noexcept {
  scheduler_face* face;
  asm volatile("movq weft_this_scheduler@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(face));
  return *face;
}
#else
[[nodiscard, gnu::noinline]] scheduler_face& this_scheduler_face() noexcept;
#endif

/// The time-stamp counter; a steady clock in nanoseconds on processors without one that user code may read.
#if defined(__x86_64__)
[[nodiscard]] inline std::uint64_t read_ticks() noexcept { return __builtin_ia32_rdtsc(); }
#else
[[nodiscard]] inline std::uint64_t read_ticks() noexcept {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(since_boot).count());
}
#endif

/// Tells the core that the caller looks at something again and again: the other half of the core gets more of it.
#if defined(__x86_64__)
inline void pause_core() noexcept { __builtin_ia32_pause(); }
#else
inline void pause_core() noexcept {}
#endif

/// For loops that look at memory which another core is about to write.
inline void relax_processor() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// A system call that leaves errno alone, for where errno may be another kernel thread's (sched/outside.cpp). @returns a negative
/// errno when it fails.
#if defined(__x86_64__)
inline long call_kernel(long number, long a, long b, long c) noexcept {
  asm volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return number;
}
#else
long call_kernel(long number, long a, long b, long c) noexcept;
#endif

/// True on a kernel thread that runs a weft thread, also in a region of blocking(): weft operations can be called.
[[nodiscard]] inline bool on_weft_thread() noexcept {
  const scheduler_face& face = this_scheduler_face();
  return face.current != nullptr || face.away != nullptr;
}

/// The running weft thread, or null when the calling kernel thread runs none.
[[nodiscard]] inline thread_record* current_thread() noexcept { return this_scheduler_face().current; }

}  // namespace weft::detail
