// What people read when something is wrong: thread dumps, deadlocks, overflows, unhandled exceptions.
#pragma once

#include <string>
#include <string_view>

namespace weft::sched {

class scheduler;

/// Every thread: number, name, state, what it waits for (and who holds it), backtrace. For `weft::dump_threads`.
[[nodiscard]] std::string thread_report(scheduler& s);

/// The same under a headline that says that nothing can wake them, and with the cycle of mutexes if there is one.
[[nodiscard]] std::string deadlock_report(scheduler& s);

/// Writes to standard error with plain write(2).
void print_report(std::string_view text) noexcept;

/// Prints `sentence` and the running thread's name and backtrace, and aborts. For misuse that cannot be thrown.
[[noreturn]] void fatal(std::string_view sentence) noexcept;

/// The same, for a mutex, a channel, … (`waits_for` as in `waiter::what`) in which threads of two schedulers met: nothing can
/// repair that race, but where it is seen it is said.
[[noreturn]] void used_by_two_schedulers(std::string_view waits_for) noexcept;

/// The calling kernel thread's alternate signal stack while it exists, unless the kernel thread had one before: a report about a
/// stack without room needs another. Destroyed on the same kernel thread.
class signal_stack {
 public:
  signal_stack() noexcept;
  ~signal_stack();
  signal_stack(const signal_stack&) = delete;
  signal_stack& operator=(const signal_stack&) = delete;

 private:
  void* memory_;
};

/// While one exists, this process reports stack overflows and unhandled exceptions of weft threads before it ends, and a
/// forked child is kept off its parent's scheduler. One per running scheduler; what was installed before is chained to and
/// restored with the last.
class crash_reports {
 public:
  crash_reports();
  ~crash_reports();
  crash_reports(const crash_reports&) = delete;
  crash_reports& operator=(const crash_reports&) = delete;
};

}  // namespace weft::sched
