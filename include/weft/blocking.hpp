// Marked regions: code that may block in the kernel without holding up the other threads.
#pragma once

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>

#include "weft/detail/region.hpp"

namespace weft {

/// Runs `fn` where it may block in the kernel without holding up other threads, and returns what it returns.
///
/// The calling thread keeps one kernel thread from the first instruction of `fn` to the last, so errno, `thread_local`,
/// owners of locks and `pthread_self` behave in it as in any C++ program. Other weft threads may run **in parallel** with
/// `fn` meanwhile, on another kernel thread: share with them only what you would share with a kernel thread, or hand it over
/// before and after. If the kernel does block, other threads run again within tens of microseconds (`blocked` upcall, cause
/// `region`, its result the number of the system call where somebody observes); at the end of `fn` the thread goes back to
/// the ready queue (`unblocked`). Which kernel thread it runs on before and after the region is the scheduler's choice.
///
/// Inside `fn`
///   - weft operations work. Each takes the processor for as long as it lasts, on this kernel thread: some tens of
///     microseconds when another activation has it. Do a region's weft work before or after it where you can.
///   - a nested `blocking` is a plain call, and exceptions leave it as they leave any function.
///   - a cancellation waits: `fn` is not disturbed, and `weft::cancelled` is thrown when it has returned. One that was asked
///     for before is thrown instead of calling `fn`.
///   - nothing counts as a deadlock: the scheduler waits for as long as `fn` takes.
///
/// If as many threads are in regions as `options::max_activations` allows, the next one waits until one leaves; reports
/// show it waiting for "activation".
///
/// @throws whatever `fn` throws; weft::cancelled; `std::system_error`: resource_unavailable_try_again if the kernel gives no
///         kernel thread that could carry on, operation_not_permitted off a weft thread.
/// Callable from any weft thread. Cost: ≤ 25 ns and no system call if `fn` does not block (the first region after an idle
/// sleep: 1.5 µs); ≈ 6 µs where file operations of other threads are in flight, because then `fn` is carried to another
/// kernel thread first.
/// Source: T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992, section 3.1 (blocked and unblocked upcalls).
template <std::invocable F> std::invoke_result_t<F> blocking(F&& fn) {
  using result = std::invoke_result_t<F>;
  detail::region here;
  if constexpr (std::is_void_v<result>) {
    std::invoke(std::forward<F>(fn));
    here.end();
  } else if constexpr (std::is_reference_v<result>) {
    result value = std::invoke(std::forward<F>(fn));
    here.end();
    return static_cast<result>(value);
  } else {
    result value = std::invoke(std::forward<F>(fn));
    here.end();
    return value;
  }
}

/// True inside a region of `blocking` whose kernel thread is the caller's.
[[nodiscard]] bool in_blocking_region() noexcept;

}  // namespace weft
