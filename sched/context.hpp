// The switch: the one place where stack pointers change, and the one place that knows sanitizers and valgrind.
//
// Boost.Context makes and first enters every context. How a context is saved and resumed is the engine's choice
// (CMake option WEFT_CONTEXT): `native` on x86-64 saves the six callee-saved registers and resumes by `jmp`, three times
// faster on a yield than `boost`, which is jump_fcontext throughout and works on every architecture.
//
// No floating-point control words are saved by `native`: a thread that changes them asks for it (attributes).
// errno and the exception state are the scheduler's business.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(WEFT_CONTEXT_NATIVE)
#error "WEFT_CONTEXT_NATIVE is set by CMake (option WEFT_CONTEXT=native|boost)"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WEFT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEFT_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WEFT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEFT_TSAN 1
#endif
#endif
#if defined(WEFT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace weft::sched {

/// What the tools that watch the stack want to know of one; empty in a plain build.
struct context_notes {
#if defined(WEFT_ASAN)
  void* fake_stack = nullptr;
  const void* low = nullptr;
  std::size_t size = 0;
#endif
#if defined(WEFT_TSAN)
  void* shadow = nullptr;
#endif
  unsigned valgrind_id = 0;
};

/// MXCSR and x87 control word, for threads that asked for their own.
struct floating_point_control {
  std::uint32_t mxcsr = 0;
  std::uint16_t x87 = 0;
};
void save(floating_point_control& into) noexcept;
void load(const floating_point_control& from) noexcept;

/// The entry of every new context; never returns. Defined by the scheduler.
using context_entry = void (*)();

/// Tells the tools that [low, low + size) is a stack from now on, and that it is none any more.
extern const bool tools_watch;  // a sanitizer or valgrind
[[nodiscard]] bool runs_under_valgrind() noexcept;
void tell_attached(context_notes& notes, void* low, std::size_t size);
void tell_detached(context_notes& notes, void* low, std::size_t size) noexcept;
inline void context_attach(context_notes& notes, void* low, std::size_t size) {
  if (tools_watch) [[unlikely]] tell_attached(notes, low, size);
}
inline void context_detach(context_notes& notes, void* low, std::size_t size) noexcept {
  if (tools_watch) [[unlikely]] tell_detached(notes, low, size);
}
/// The same for the calling kernel thread's own stack: from when it may be left for another one to when it no longer is.
void context_adopt_kernel_thread(context_notes& notes);
void context_release_kernel_thread(context_notes& notes) noexcept;

#if WEFT_CONTEXT_NATIVE
extern "C" void weft_switch_context(void** save_here, void* resume) noexcept;
#endif
void jump_to_context(void** save_here, void* resume) noexcept;

// What the sanitizers are told before and after a switch. ThreadSanitizer keeps a shadow of the call stack: the call that
// changes it must not be made from a function of its own, whose end would be noted on the other stack. Its switch orders
// everything before it with everything after it, which is what one processor does.
#if defined(WEFT_ASAN)
void context_leave(context_notes* from, context_notes& to) noexcept;
void context_arrive(context_notes& self) noexcept;
#elif defined(WEFT_TSAN)
[[gnu::always_inline]] inline void context_leave(context_notes*, context_notes& to) noexcept {
  __tsan_switch_to_fiber(to.shadow, 0);
}
[[gnu::always_inline]] inline void context_arrive(context_notes&) noexcept {}
#else
inline void context_leave(context_notes*, context_notes&) noexcept {}
inline void context_arrive(context_notes&) noexcept {}
#endif

// Where identities move (context_identity.hpp): what the tools keep for an identity on a stack stays in that stack's notes while
// another has the identity. It was put by with context_leave(&notes, notes), or is in the middle of the context of `left`.
#if defined(WEFT_ASAN)
/// The identity that was just assumed goes on here, on the stack of `here`.
void context_take_up(context_notes* left, context_notes& here) noexcept;
/// It never will again. `own` has room for what is kept for the caller's own identity.
void context_forget(context_notes& here, context_notes& own) noexcept;
#else
inline void context_take_up(context_notes*, context_notes&) noexcept {}
inline void context_forget(context_notes&, context_notes&) noexcept {}
#endif

/// The exchange alone, for who tells the tools himself.
[[gnu::always_inline]] inline void exchange_stacks(void** save_here, void* resume) noexcept {
#if WEFT_CONTEXT_NATIVE
  weft_switch_context(save_here, resume);
#else
  jump_to_context(save_here, resume);
#endif
}

/// Saves the running context at `*save_here` and resumes the one saved in `resume`. Returns when somebody resumes this
/// one, perhaps on another kernel thread. `from` is null when the running context will never be resumed.
[[gnu::always_inline]] inline void switch_context(void** save_here, void* resume, context_notes* from,
                                                  context_notes& to) noexcept {
  context_leave(from, to);
  exchange_stacks(save_here, resume);
  if (from != nullptr) context_arrive(*from);
}

/// Saves the running context as above and calls `entry` on the stack that ends (is highest) at `top`.
void enter_context(void** save_here, void* top, std::size_t size, context_entry entry, context_notes* from,
                   context_notes& to) noexcept;

/// First thing in a new context: completes the switch that led here.
void context_entered(context_notes& self) noexcept;

/// The registers a backtrace of a saved context starts from.
struct saved_registers {
  std::uintptr_t ip = 0, sp = 0, bp = 0, bx = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0;
};
/// Reads them from a saved context; all zero where the architecture's layout is unknown.
[[nodiscard]] saved_registers read_saved(const void* context) noexcept;

}  // namespace weft::sched
