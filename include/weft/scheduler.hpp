// A scheduler as an object: a kernel thread of its own that runs what others give it.
//
//     weft::scheduler side({.name = "side"});
//     auto answer = side.submit([](int n) { return compute(n); }, 7);   // in a new weft thread there; from any kernel thread
//     std::cout << answer.get();
//     side.join();
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "weft/future.hpp"
#include "weft/runtime.hpp"

namespace weft {

namespace detail {
class scheduler_object;
}

/// Owns a kernel thread that runs one scheduler. Each piece of work given to it becomes a thread there. Schedulers and plain
/// kernel threads talk by mailboxes, futures and posts; everything else of weft belongs to the threads of one scheduler.
///
/// `post`, `submit`, `request_stop` and `way_in` may be called from any kernel thread, by weft threads of this or any other
/// scheduler too, also at once. `join` and the destructor are for one caller, outside the scheduler; a weft thread that waits
/// there parks.
///
/// While it is not being joined a scheduler is never deadlocked: work that ends the wait may still come. Signals sent to the
/// program may be taken on its kernel thread, as on that of whoever made it. In a child of fork() it takes no work, and its
/// destructor does nothing.
class scheduler {
 public:
  /// Starts it; it is there when this returns. Cost: a kernel thread and a handful of descriptors, ≈ 100 µs.
  /// @throws std::system_error as weft::run, also when no kernel thread is to be had; std::bad_alloc
  scheduler() : scheduler(options{}) {}
  explicit scheduler(const options& how);
  scheduler(scheduler&&) noexcept = default;
  scheduler& operator=(scheduler&&) = delete;
  /// `request_stop`, and waits for the end; a cancellation does not end that wait. A weft::deadlock is then only printed. In one
  /// of its own threads it ends the program with a sentence.
  ~scheduler();

  /// Runs `fn` in a new thread of this scheduler. An exception that leaves it ends the program with a report, as one that leaves
  /// any thread, unless it is weft::cancelled.
  /// @returns false when the scheduler has ended or was asked to, and `fn` will not run. True: it will.
  /// @throws std::system_error(invalid_argument) for an empty function, or after a move; std::bad_alloc. Never blocks.
  [[nodiscard]] bool post(std::function<void()> fn);

  /// Calls `fn(args...)` with decayed copies of its arguments in a new thread of this scheduler; what it returns or throws is the
  /// future's result. Where it will not run, or ends by weft::cancelled, that is future_error(broken_promise). The future's
  /// destructor does not wait.
  /// @throws std::system_error(invalid_argument) after a move; std::bad_alloc, what copying throws. Never blocks.
  template <class F, class... Args>
  requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
  [[nodiscard]] future<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> submit(F&& fn, Args&&... args) {
    using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
    auto call = [all = std::make_tuple(std::forward<F>(fn), std::forward<Args>(args)...)]() mutable -> result {
      return std::apply([](auto&... each) -> result { return std::invoke(std::move(each)...); }, all);
    };
    const auto work = std::make_shared<packaged_task<result()>>(std::move(call));
    future<result> made = work->get_future();
    static_cast<void>(post([work] { (*work)(); }));
    return made;
  }

  /// Asks it to end: takes no more work, and asks all its threads to end, as `thread::request_cancel` does; work that was
  /// accepted and has not begun still runs, and its first wait throws weft::cancelled. Returns at once. Idempotent.
  void request_stop() noexcept;

  /// Waits until all work that was given to it has ended, and that given to it by such work, and then for its own end. Threads
  /// that this work started and left are asked to end when all work has.
  /// @throws weft::deadlock when all its threads waited, and nothing could end a wait any more (it has ended all the same);
  ///         std::system_error: resource_deadlock_would_occur in one of its own threads, invalid_argument when it was joined
  ///         before;
  ///         weft::cancelled when the calling thread is asked to end meanwhile: then it can be joined again
  void join();
  /// False when it was joined, or moved from.
  [[nodiscard]] bool joinable() const noexcept;

  /// The way into it, which may outlive it. A poster keeps it from being reported as a deadlock, and from nothing else.
  /// @throws std::system_error(invalid_argument) after a move; std::bad_alloc
  [[nodiscard]] poster way_in() const;

 private:
  [[nodiscard]] detail::scheduler_object& object(const char* call) const;
  std::shared_ptr<detail::scheduler_object> object_;  // none after a move
};

}  // namespace weft
