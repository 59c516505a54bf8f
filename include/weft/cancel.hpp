// Ending a stretch of a thread's code: by request, by a deadline, or not at all.
//
//     if (!weft::with_timeout(1s, [&] { handshake(stream); })) log("too slow");
//
// Every wait in the stretch ends with `weft::cancelled`, as for a thread that was asked to end; the scope catches it where the
// stretch ends, and the thread goes on behind it. After Trio's cancel scopes (N. J. Smith, "Timeouts and cancellation for
// humans", 2018).
#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/error.hpp"

namespace weft {

namespace sched {
class scheduler;
}

namespace detail {

/// One stretch that a thread is in, on its stack. What applies to a thread is what was asked of it and of all stretches it is
/// in, up to the innermost shield.
class cancel_frame {
 public:
  enum class kind : std::uint8_t { scope, shield };

  /// The calling thread enters. @throws operation_not_permitted off a weft thread; std::bad_alloc (a deadline needs memory).
  cancel_frame(kind what, time_point deadline);
  ~cancel_frame();
  cancel_frame(const cancel_frame&) = delete;
  cancel_frame& operator=(const cancel_frame&) = delete;

  void cancel() noexcept;

 private:
  friend class sched::scheduler;
  // Found from its address when the time has come.
  struct alarm : waiter {
    cancel_frame* of = nullptr;
  };

  alarm alarm_;
  cancel_frame* outer_ = nullptr;
  thread_record* thread_ = nullptr;
  const kind kind_;
  bool cancelled_ = false;

 public:
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
};

}  // namespace detail

/// A stretch of code that another thread may end, or a deadline.
///
/// `request_cancel` may come before the stretch, in it, or after it, from any weft thread of the same scheduler. Threads that are
/// started in the stretch are not in it: see weft::nursery. Scopes nest.
class cancel_scope {
 public:
  cancel_scope() noexcept = default;
  /// One whose stretch is cancelled when `deadline` comes.
  explicit cancel_scope(time_point deadline) noexcept : deadline_(deadline) {}
  cancel_scope(const cancel_scope&) = delete;
  cancel_scope& operator=(const cancel_scope&) = delete;

  /// Calls `fn()` in the scope. @returns true when it returned, false when a wait in it was ended by this scope.
  /// @throws what `fn` throws; weft::cancelled when something else than this scope ended it (an outer one, the thread's end);
  ///         operation_not_permitted off a weft thread; std::logic_error when the scope is in use already.
  /// Cost: ≈ 10 ns, 30 more with a deadline.
  template <std::invocable F> bool run(F&& fn) {
    if (frame_ != nullptr) [[unlikely]] in_use();
    detail::cancel_frame frame(detail::cancel_frame::kind::scope, deadline_);
    const attachment here(*this, frame);
    try {
      static_cast<void>(std::invoke(std::forward<F>(fn)));
    } catch (const cancelled&) {
      if (!frame.cancelled()) throw;
      return false;
    }
    return true;
  }

  /// Ends the stretch: its waits, the one it is in included, throw `weft::cancelled`. For good: also when it is run again.
  void request_cancel() noexcept {
    requested_ = true;
    if (frame_ != nullptr) frame_->cancel();
  }
  [[nodiscard]] bool cancel_requested() const noexcept { return requested_ || (frame_ != nullptr && frame_->cancelled()); }

 private:
  class attachment {
   public:
    attachment(cancel_scope& scope, detail::cancel_frame& frame) noexcept : scope_(scope) {
      scope.frame_ = &frame;
      if (scope.requested_) frame.cancel();
    }
    ~attachment() { scope_.frame_ = nullptr; }
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;

   private:
    cancel_scope& scope_;
  };
  [[noreturn]] static void in_use();

  time_point deadline_ = never;
  detail::cancel_frame* frame_ = nullptr;
  bool requested_ = false;
};

namespace detail {

template <class F> auto run_until(time_point deadline, F&& fn) {
  using result = std::invoke_result_t<F>;
  cancel_scope scope(deadline);
  if constexpr (std::is_void_v<result>) {
    return scope.run(std::forward<F>(fn));
  } else {
    static_assert(!std::is_reference_v<result>, "return a pointer: a std::optional holds no reference");
    std::optional<result> made;
    if (!scope.run([&] { made.emplace(std::invoke(std::forward<F>(fn))); })) made.reset();
    return made;
  }
}

}  // namespace detail

/// Calls `fn()`, at most until `deadline`. @returns whether it returned; where it returns a value, that, or nothing.
/// @throws as cancel_scope::run. A stretch that never waits is not ended: deadlines are for waits.
template <std::invocable F> [[nodiscard]] auto with_deadline(time_point deadline, F&& fn) {
  return detail::run_until(deadline, std::forward<F>(fn));
}
/// The same for a time on any clock, as that goes when this is called.
template <class Clock, class Duration, std::invocable F>
[[nodiscard]] auto with_deadline(const std::chrono::time_point<Clock, Duration>& deadline, F&& fn) {
  return detail::run_until(detail::deadline_on(deadline), std::forward<F>(fn));
}
/// The same, at most for `timeout` from now.
template <class Rep, class Period, std::invocable F>
[[nodiscard]] auto with_timeout(const std::chrono::duration<Rep, Period>& timeout, F&& fn) {
  return detail::run_until(detail::deadline_after(timeout), std::forward<F>(fn));
}

/// While one exists, the calling thread's waits are left alone by what asks it to end from outside: scopes around the shield, and
/// `thread::request_cancel`. Scopes inside the shield work. For a few steps that must not be left half done: whoever waits for
/// the thread's end waits that long. Does nothing for time slices: see no_preemption.
/// @throws operation_not_permitted off a weft thread
class shield {
 public:
  shield() : frame_(detail::cancel_frame::kind::shield, never) {}

 private:
  detail::cancel_frame frame_;
};

}  // namespace weft
