// Whom the C and C++ runtimes take the calling kernel thread for: whose errno, thread_local variables, exception state and
// pthread_self the running code has.
//
// All of these hang on one register of the kernel thread, the base of fs on x86-64. A thread that is interrupted at any
// instruction may have the address of one of them in a register, so it must find the same ones wherever it goes on. Where threads
// are interrupted (see outside.cpp), identity therefore goes with the processor: whoever holds it has that of the kernel thread
// that called run(), and has one of its own while it stands by.
#pragma once

#include <cstdint>

namespace weft::sched {

struct exception_state;

/// One identity. Its kernel thread must live for as long as anybody has it.
struct identity {
  std::uintptr_t base = 0;
  exception_state* exceptions = nullptr;  // the C++ runtime's, and errno, as the one who has it sees them
  int* error = nullptr;
};

/// True where identities can be assumed: x86-64, without ThreadSanitizer and valgrind, which keep their own idea of who runs.
extern const bool identities_move;

/// True where calls of the C library reach it: no sanitizer's functions, of which own_code.cpp knows nothing, stand before them.
extern const bool library_calls_are_plain;

[[nodiscard]] identity own_identity() noexcept;

/// From here on the caller is taken for another. Nothing that was read through the old one may be used after it: call it where
/// neither errno nor anything thread_local is at hand. ≈ 5 ns, or a system call where the kernel keeps fs to itself.
void assume(const identity& who) noexcept;

}  // namespace weft::sched
