// Making a thread that a signal interrupted do something else first, on its own stack.
//
// The handler of the signal, on its alternate stack, changes what it will return to: a piece of code that saves every register
// below the thread's frames, calls a function, and goes on where the thread was. So the handler is over before anything happens,
// and the function may do what no handler may: switch to another thread, and come back on another kernel thread. (As the Go
// runtime since 1.14; a thread parked inside a handler would take the signal mask and alternate stack of its kernel thread
// along.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::sched {

using interruption_target = void (*)(void* argument) noexcept;

/// True where threads can be interrupted: x86-64 whose vector registers user code may save, without ThreadSanitizer (which
/// delivers signals late) and valgrind.
extern const bool contexts_interruptible;

/// What the interrupted code was about to do, from the third argument of a signal handler; zero elsewhere.
struct interrupted_place {
  std::uintptr_t instruction = 0;
  std::uintptr_t stack_pointer = 0;
};
[[nodiscard]] interrupted_place place_of(const void* context) noexcept;

/// Bytes that `interrupt` and a switch below it need of the interrupted stack.
[[nodiscard]] std::size_t interruption_room() noexcept;

/// In a signal handler: lets the interrupted code call `then(argument)` when the handler has returned. The caller has seen to it
/// that there is room. `then` must not throw.
void interrupt(void* context, interruption_target then, void* argument) noexcept;

/// In a signal handler: the signals that will be blocked when it has returned, one bit each from 1 on, become `now`. @returns
/// those that would have been.
inline constexpr std::uint64_t all_signals = ~std::uint64_t{0};
std::uint64_t exchange_signal_mask(void* context, std::uint64_t now) noexcept;
/// The calling kernel thread blocks these, and no others, from here on.
void set_signal_mask(std::uint64_t now) noexcept;

}  // namespace weft::sched
