// Start here: `weft::run` turns the calling kernel thread into a processor for user-level threads.
//
//   #include <weft/runtime.hpp>
//   #include <weft/thread.hpp>
//   int main() {
//     return weft::run([] {
//       weft::jthread other([] { weft::this_thread::sleep_for(std::chrono::seconds(1)); });   // blocks only itself
//       return 0;
//     });
//   }
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/detail/start.hpp"
#include "weft/error.hpp"
#include "weft/upcall.hpp"

namespace weft {

/// Which code may block in the kernel without holding up other threads.
enum class activations : std::uint8_t {
  regions,  ///< what is marked by `weft::blocking`
  all,      ///< everything, page faults included. Experimental: docs/all-code.md says what such code may call
};

class policy;
/// Makes the policy of one scheduler: one of `policies` (weft/policy.hpp), or a function of your own.
using policy_maker = std::function<std::unique_ptr<policy>()>;

/// How a scheduler runs. The defaults suit servers and tools alike.
struct options {
  std::size_t stack = 256 * 1024;  ///< bytes of address space for a thread's stack, guard included; memory is used page by page,
                                   ///< and given back while idle where a thread has waited ten seconds or more above it
  std::size_t guard = 16 * 1024;   ///< bytes below each stack whose touch is reported as a stack overflow
  std::size_t max_threads = 0;     ///< threads alive at once; more is an error for the one who spawns. 0: as memory allows
  upcall::transfer transfer = upcall::transfer::automatic;  ///< how transfers reach the kernel
  unsigned switches_per_poll = 61;                          ///< thread switches between two looks at upcalls
  std::chrono::microseconds poll_interval{50};              ///< and at least this long between two questions to the kernel
  std::chrono::microseconds idle_spin{0};                   ///< look at the inbox this long before an idle sleep
  std::size_t spare_stacks = 1024;                          ///< free stacks that keep their memory; what more was unused for ten
                                                            ///< seconds is given back to the kernel while idle
  std::uint32_t max_activations = 256;                      ///< kernel threads that may carry the processor or a region of
                                                            ///< `blocking`, the caller of `run` included; 1: regions block all
  std::chrono::milliseconds stall_report{0};  ///< a thread that keeps the processor longer than this is reported with its
                                              ///< backtrace on standard error, once for each place; 0: as the environment's
                                              ///< WEFT_STALL says (milliseconds), otherwise nothing is
  int preemption_signal = 0;  ///< the signal that asks such a thread where it is, made weft's for good; 0: a free real-time one
  enum activations activations = activations::regions;  ///< `all`: other threads run on whenever one blocks, marked or not.
                                              ///< Where the kernel refuses what that takes, a sentence on standard
                                              ///< error says so, and only regions are taken over
  std::chrono::microseconds time_slice{0};    ///< threads with `attributes::time_slice` that run longer are preempted; 0:
                                              ///< nobody is. At least 100 µs; 1 ms costs less than 3 %
  policy_maker policy = {};  ///< the order in which ready threads run: `.policy = weft::policies::priority`; empty: first come,
                             ///< first served
  std::string name = "weft";                                ///< of the scheduler, in reports
  upcall::source* source = nullptr;                         ///< use this source instead of the kernel's (simulations, tests)
};

namespace detail {

/// Runs `main` and everything it spawns to the end on the calling kernel thread.
void run(const options& how, start_block* main);

template <class R>
struct outcome {
  std::optional<R> value;
  std::exception_ptr error;
  R take() { return std::move(*value); }
};
template <>
struct outcome<void> {
  std::exception_ptr error;
  void take() {}
};

/// What the first thread calls: a function with a name, because that is what backtraces of "main" show.
template <class R>
struct main_thread {
  outcome<R>& out;

  template <class F, class... Args>
  void operator()(F&& fn, Args&&... args) const {
    try {
      if constexpr (std::is_void_v<R>) {
        std::invoke(std::forward<F>(fn), std::forward<Args>(args)...);
      } else {
        out.value.emplace(std::invoke(std::forward<F>(fn), std::forward<Args>(args)...));
      }
    } catch (...) {
      out.error = std::current_exception();
    }
  }
};

}  // namespace detail

/// Makes the calling kernel thread a processor, runs `fn(args...)` as its first thread ("main") and returns what it returns
/// or throws what it throws. Threads still alive when `fn` returns are cancelled and waited for.
///
/// @throws std::system_error when the kernel refuses what weft cannot do without (the text says what to change), or
///         operation_not_permitted when this kernel thread already runs a scheduler; weft::deadlock when every thread waits
///         and nothing can wake one. One scheduler per kernel thread; any number in a process.
template <class F, class... Args>
  requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...> run(const options& how, F&& fn, Args&&... args) {
  using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
  static_assert(!std::is_reference_v<result>, "weft::run: return a value or a pointer; the thread's stack is gone by then");
  detail::outcome<result> out;
  detail::run(how, detail::make_start(detail::main_thread<result>{out}, std::forward<F>(fn), std::forward<Args>(args)...));
  if (out.error) std::rethrow_exception(out.error);
  return out.take();
}

template <class F, class... Args>
  requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...> run(F&& fn, Args&&... args) {
  return run(options{}, std::forward<F>(fn), std::forward<Args>(args)...);
}

class poster;
namespace sched {
class inbox;
poster poster_to(const std::shared_ptr<inbox>& to);
}

/// A way into a scheduler from other kernel threads. While one exists, an idle scheduler waits instead of reporting a
/// deadlock. Copyable; may outlive the scheduler (posts are then refused).
class poster {
 public:
  poster() = default;
  /// Runs `fn` in a new thread of the scheduler. From any kernel thread, never from a signal handler; never blocks. Posts are
  /// taken a few at a time, between which all other ready threads run; what is posted faster than that piles up in memory.
  /// @returns false when the scheduler has ended, and `fn` will not run. True: it will.
  bool post(std::function<void()> fn) const;

 private:
  friend poster sched::poster_to(const std::shared_ptr<sched::inbox>& to);
  std::shared_ptr<void> state_;
};

/// The way into the calling thread's scheduler.
/// @throws std::system_error(operation_not_permitted) off a weft thread.
[[nodiscard]] poster make_poster();

/// What this kernel and this container offer, and what weft makes of it.
struct capabilities {
  struct item {
    std::string what;    ///< "io_uring", "guard pages", …
    bool there = false;
    std::string detail;  ///< a sentence: what is used instead and what to change to get it
  };
  std::vector<item> items;
  upcall::transfer transfer = upcall::transfer::direct;  ///< what `automatic` means here
  [[nodiscard]] std::string to_string() const;           ///< a line each, for people
};

/// Asks the kernel. Callable from any kernel thread, costs some system calls.
[[nodiscard]] capabilities probe();

/// Every thread of the calling thread's scheduler: number, name, state, what it waits for, backtrace. For people.
/// Milliseconds for a thousand threads; needs some 10 KiB of stack, so not on a tiny one.
[[nodiscard]] std::string dump_threads();

}  // namespace weft
