// Ending a stretch of a thread's code: by request, by a deadline, by a std::stop_token, or not at all.
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
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/detail/stop_watch.hpp"
#include "weft/error.hpp"

namespace weft {

namespace sched {
class scheduler;
}

namespace detail {

class stop_outlet;

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
  /// When the stretch is to end, for whatever reason, `to` requests a stop. It must live as long.
  void hand_out(stop_outlet& to) noexcept;

 private:
  friend class sched::scheduler;
  // Found from its address when the time has come.
  struct alarm : waiter {
    cancel_frame* of = nullptr;
  };

  alarm alarm_;
  cancel_frame* outer_ = nullptr;
  thread_record* thread_ = nullptr;
  stop_outlet* outlet_ = nullptr;
  const kind kind_;
  bool cancelled_ = false;
  bool expired_ = false;

 public:
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
  [[nodiscard]] bool expired() const noexcept { return expired_; }  // its deadline came
};

/// While one exists, a stop request ends the stretch.
class stop_of_frame final : private stop_listener {
 public:
  /// @throws std::bad_alloc
  stop_of_frame(cancel_frame& frame, const std::stop_token& token);
  ~stop_of_frame();
  stop_of_frame(const stop_of_frame&) = delete;
  stop_of_frame& operator=(const stop_of_frame&) = delete;

 private:
  void stop() noexcept override { frame_.cancel(); }
  cancel_frame& frame_;
  stop_watch watch_;
};

}  // namespace detail

/// A stretch of code that another thread may end, or a deadline, or a stop request.
///
/// `request_cancel` may come before the stretch, in it, or after it, from any weft thread of the same scheduler. Threads that
/// are started in the stretch are not in it: see weft::nursery. Scopes nest.
class cancel_scope {
 public:
  cancel_scope() noexcept = default;
  /// One whose stretch is cancelled when `deadline` comes.
  explicit cancel_scope(time_point deadline) noexcept : deadline_(deadline) {}
  /// One whose stretch is cancelled when a stop is requested, by whichever kernel thread, or when `deadline` comes. While it
  /// runs and a stop is possible, an idle scheduler waits instead of reporting a deadlock.
  explicit cancel_scope(std::stop_token token, time_point deadline = never) noexcept
      : deadline_(deadline), token_(std::move(token)) {}
  cancel_scope(const cancel_scope&) = delete;
  cancel_scope& operator=(const cancel_scope&) = delete;

  /// Calls `fn()` in the scope. @returns true when it returned, false when a wait in it was ended by this scope.
  /// @throws what `fn` throws; weft::cancelled when something else than this scope ended it (an outer one, the thread's end);
  ///         operation_not_permitted off a weft thread; std::logic_error when the scope is in use already; std::bad_alloc (a
  ///         deadline and a stop token need memory).
  /// Cost: ≈ 10 ns, 30 more with a deadline, three allocations with a stop token.
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
    if (outlet_ != nullptr) return cancel_and_stop();
    if (frame_ != nullptr) frame_->cancel();
  }
  [[nodiscard]] bool cancel_requested() const noexcept {
    return requested_ || token_.stop_requested() || (frame_ != nullptr && frame_->cancelled());
  }
  /// Whether its deadline came in a stretch, which it then ended, unless that waited no more.
  [[nodiscard]] bool expired() const noexcept { return expired_ || (frame_ != nullptr && frame_->expired()); }

  /// For code that is written against stop tokens, in the stretch or in threads that it has started: a stop is requested when
  /// the stretch is to end, by whatever: the scope, one around it, the thread's end. `request_cancel` makes the request itself,
  /// before it returns; otherwise a thread of its own does, soon after. The callbacks must not wait: to the standard library all
  /// threads of a kernel thread are one. One that was stopped without `request_cancel` is not for the next run: ask again.
  /// From any weft thread of the scheduler. @throws std::bad_alloc
  [[nodiscard]] std::stop_token stop_token();

 private:
  class attachment {
   public:
    attachment(cancel_scope& scope, detail::cancel_frame& frame) : scope_(scope), frame_(frame) {
      if (scope.token_.stop_possible()) stop_ = std::make_unique<detail::stop_of_frame>(frame, scope.token_);
      scope.frame_ = &frame;
      if (scope.requested_) frame.cancel();
      if (scope.outlet_ != nullptr) frame.hand_out(*scope.outlet_);
    }
    ~attachment() {
      scope_.frame_ = nullptr;
      if (frame_.expired()) scope_.expired_ = true;
    }
    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;

   private:
    cancel_scope& scope_;
    detail::cancel_frame& frame_;
    std::unique_ptr<detail::stop_of_frame> stop_;
  };
  [[noreturn]] static void in_use();
  void cancel_and_stop() noexcept;

  time_point deadline_ = never;
  std::stop_token token_;
  detail::cancel_frame* frame_ = nullptr;
  std::shared_ptr<detail::stop_outlet> outlet_;  // of the tokens it has handed out
  bool requested_ = false;
  bool expired_ = false;

 protected:
  [[nodiscard]] time_point ends_at() const noexcept { return deadline_; }
};

/// A `cancel_scope` that has a deadline: `weft::deadline_scope soon(1s);` counts from here, however often it is run.
class deadline_scope : public cancel_scope {
 public:
  explicit deadline_scope(time_point deadline) noexcept : cancel_scope(deadline) {}
  /// A time on any clock, as that goes now.
  template <class Clock, class Duration>
  explicit deadline_scope(const std::chrono::time_point<Clock, Duration>& deadline)
      : cancel_scope(detail::deadline_on(deadline)) {}
  /// @throws operation_not_permitted off a weft thread
  template <class Rep, class Period>
  explicit deadline_scope(const std::chrono::duration<Rep, Period>& timeout)
      : cancel_scope(detail::deadline_after(timeout, detail::now("deadline_scope"))) {}

  [[nodiscard]] time_point deadline() const noexcept { return ends_at(); }
};

namespace detail {

template <class F> auto run_in(cancel_scope&& scope, F&& fn) {
  using result = std::invoke_result_t<F>;
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
  return detail::run_in(cancel_scope(deadline), std::forward<F>(fn));
}
/// The same for a time on any clock, as that goes when this is called.
template <class Clock, class Duration, std::invocable F>
[[nodiscard]] auto with_deadline(const std::chrono::time_point<Clock, Duration>& deadline, F&& fn) {
  return detail::run_in(cancel_scope(detail::deadline_on(deadline)), std::forward<F>(fn));
}
/// The same, at most for `timeout` from now.
template <class Rep, class Period, std::invocable F>
[[nodiscard]] auto with_timeout(const std::chrono::duration<Rep, Period>& timeout, F&& fn) {
  return detail::run_in(cancel_scope(detail::deadline_after(timeout)), std::forward<F>(fn));
}

/// The same, until a stop is requested: `if (!weft::with_stop_token(token, [&] { serve(); })) …`.
/// @throws as cancel_scope::run
template <std::invocable F> [[nodiscard]] auto with_stop_token(std::stop_token token, F&& fn) {
  return detail::run_in(cancel_scope(std::move(token)), std::forward<F>(fn));
}

/// While one exists, the calling thread's waits are left alone by what asks it to end from outside: scopes around the shield,
/// and `thread::request_cancel`. Scopes inside the shield work. For a few steps that must not be left half done: whoever waits
/// for the thread's end waits that long. Does nothing for time slices: see no_preemption.
/// @throws operation_not_permitted off a weft thread
class shield {
 public:
  shield() : frame_(detail::cancel_frame::kind::shield, never) {}

 private:
  detail::cancel_frame frame_;
};

}  // namespace weft
