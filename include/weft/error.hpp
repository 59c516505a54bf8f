// Errors: what weft throws, and the check that guards its invariants.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>

namespace weft {

/// Thrown by every operation of a thread that was asked to end which has to wait, after the kernel has let go of its buffers.
/// Also where only a stretch of its code is to end (weft/cancel.hpp), which then catches it.
/// `yield` and operations that need not wait do not throw it: long computations ask `this_thread::cancel_requested()`.
///
/// Let it pass: it unwinds the thread and ends it quietly. Deliberately no `std::exception`, so that `catch (const
/// std::exception&)` for errors does not swallow it; `catch (...)` must rethrow it, as with a thread cancelled in POSIX.
/// A thread that catches it and blocks again gets it again. While a thread unwinds, its destructors may block undisturbed; where
/// a thread that was asked to end leaves a scope without an exception, their waits throw this too, as any other's.
class cancelled {
 public:
  [[nodiscard]] const char* what() const noexcept { return "weft: the thread was asked to end"; }
};

/// Thrown out of `weft::run` when every thread was parked and nothing was left that could wake one.
/// `what()` is the whole report: each thread with its name, what it waited for and its backtrace.
class deadlock : public std::system_error {
 public:
  explicit deadlock(const std::string& report);
};

namespace detail {

/// Throws `std::system_error` with `what` as a sentence that says what to do.
[[noreturn]] void throw_error(std::errc code, const char* what);
[[noreturn]] void throw_errno(int error, const char* what);
/// Throws weft::cancelled. Inlined: each frame that an exception passes costs 0.4 µs, and thousands may end at once.
[[noreturn, gnu::always_inline]] inline void throw_cancelled() { throw cancelled(); }
/// Throws `operation_not_permitted`: the calling kernel thread runs no weft thread.
[[noreturn]] void throw_off_weft(const char* call);
/// The same for calls that cannot throw and found threads to wake: prints the sentence and aborts.
[[noreturn]] void end_off_weft(const char* call) noexcept;
/// Prints the broken invariant, the threads and the latest events, and aborts.
[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace detail
}  // namespace weft

/// Aborts with a report when an invariant of weft itself is broken. Never for what a user can cause.
#define WEFT_CHECK(expression) \
  (static_cast<bool>(expression) ? static_cast<void>(0) : ::weft::detail::check_failed(#expression, __FILE__, __LINE__))
