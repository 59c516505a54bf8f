// Threads: `thread`, `jthread`, `this_thread`. Semantics of the C++ standard library; a block costs no kernel thread.
#pragma once

#include <chrono>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/detail/start.hpp"
#include "weft/error.hpp"

namespace weft {

/// A user-level thread of the calling thread's scheduler. As `std::thread`: joined or detached before it is destroyed,
/// or `std::terminate`. Only where a thread that was asked to end unwinds (its `join` may just have thrown
/// `weft::cancelled`), the destructor of a joinable handle asks the other thread to end as well and waits for it. Made, joined
/// and moved from any weft thread of the same scheduler; one of another scheduler that joins, detaches or cancels it ends the
/// program with a sentence. No handle may outlive its `weft::run`, in which all threads end.
///
/// An exception that leaves the thread's function terminates the program with the thread's name and backtrace, except
/// `weft::cancelled`, which ends the thread quietly. Cost of spawn + join: ≤ 40 ns when stacks are warm.
class thread {
 public:
  using native_handle_type = detail::thread_record*;

  /// Names a thread among all threads alive, by a small number. Numbers begin anew after 2^32 threads.
  class id {
   public:
    id() noexcept = default;
    friend bool operator==(id, id) noexcept = default;
    friend std::strong_ordering operator<=>(id, id) noexcept = default;
    /// The number that reports and traces print; 0 for "no thread".
    [[nodiscard]] std::uint32_t number() const noexcept { return number_; }

   private:
    friend class thread;
    friend struct std::hash<id>;
    friend id make_id(std::uint32_t number) noexcept;  // for this_thread::get_id
    explicit id(std::uint32_t number) noexcept : number_(number) {}
    std::uint32_t number_ = 0;
  };

  thread() noexcept = default;

  /// Starts a thread that calls `fn(args...)` with decayed copies of its arguments.
  /// @throws std::system_error when no stack is to be had (the text names the limit) or no memory for the thread's record
  ///         (not_enough_memory; std::bad_alloc when there is none for the error either), operation_not_permitted
  ///         off a weft thread; whatever copying the arguments throws.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, thread> && !std::is_same_v<std::remove_cvref_t<F>, attributes> &&
             std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
  explicit thread(F&& fn, Args&&... args) : thread(detail::usual_attributes, std::forward<F>(fn), std::forward<Args>(args)...) {}

  /// The same with attributes: `weft::thread t({.name = "reader", .stack = 64 * 1024}, fn)`.
  template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
  thread(const attributes& how, F&& fn, Args&&... args)
      : record_(detail::spawn(how, detail::make_start(std::forward<F>(fn), std::forward<Args>(args)...))) {}

  thread(const thread&) = delete;
  thread& operator=(const thread&) = delete;
  thread(thread&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
  thread& operator=(thread&& other) noexcept {
    if (joinable()) std::terminate();
    record_ = std::exchange(other.record_, nullptr);
    return *this;
  }
  ~thread() {
    if (joinable()) [[unlikely]] destroyed_joinable();
  }

  void swap(thread& other) noexcept { std::swap(record_, other.record_); }
  friend void swap(thread& a, thread& b) noexcept { a.swap(b); }

  [[nodiscard]] bool joinable() const noexcept { return record_ != nullptr; }
  [[nodiscard]] id get_id() const noexcept;
  [[nodiscard]] native_handle_type native_handle() noexcept { return record_; }

  /// Waits until the thread has ended.
  /// @throws std::system_error: invalid_argument when there is nothing to join (or somebody else did it meanwhile),
  ///         resource_deadlock_would_occur when a thread joins itself; weft::cancelled (the thread is then still joinable).
  void join() { static_cast<void>(join_with(never, detail::cancellation::allowed)); }

  /// As `join`, at most until `deadline`. @returns false when the time came first; the thread is then still joinable.
  [[nodiscard]] bool try_join_until(time_point deadline) { return join_with(deadline, detail::cancellation::allowed); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_join_for(const std::chrono::duration<Rep, Period>& timeout) {
    return try_join_until(detail::deadline_after(timeout));
  }

  /// Lets the thread go on alone. When the function given to `weft::run` returns, threads still there are asked to end
  /// (`request_cancel`) and waited for.
  void detach();

  /// Asks the thread to end: its blocking operations, the one it is in included, throw `weft::cancelled`. Returns at once.
  void request_cancel() noexcept;

  /// Changes the thread's own priority or deadline, as `this_thread::set_priority` and `set_deadline` do (weft/policy.hpp); a
  /// thread that is ready gets its new place at once. Nothing happens when it has ended.
  /// @throws std::system_error: invalid_argument outside `least_priority` … `most_priority` or without a thread,
  ///         operation_not_permitted off a weft thread
  void set_priority(int priority);
  void set_deadline(time_point when);

  /// Number of kernel threads the hardware runs at once, as in `std::thread`. A scheduler uses one of them.
  [[nodiscard]] static unsigned hardware_concurrency() noexcept;

 private:
  friend class jthread;
  [[noreturn]] static void nothing_to_join();
  void destroyed_joinable() noexcept;

  bool join_with(time_point deadline, detail::cancellation mode) {
    if (record_ == nullptr) [[unlikely]] nothing_to_join();
    if (detail::current_thread() == nullptr) [[unlikely]] {
      return detail::with_processor("thread::join", [&] { return join_with(deadline, mode); });
    }
    detail::waiter self;
    self.what = "join";
    self.object = record_;
    detail::thread_record* const of = record_;
    detail::await_end(*of, self, deadline, mode);
    if (self.reason != detail::wake_reason::granted) [[unlikely]] {
      if (self.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
      return false;
    }
    // Joined, detached or moved by another thread meanwhile; perhaps the handle was used again, for the same record.
    if (record_ != of || !detail::forget(*of, self)) [[unlikely]] nothing_to_join();
    record_ = nullptr;
    return true;
  }

  detail::thread_record* record_ = nullptr;
};

std::ostream& operator<<(std::ostream& out, thread::id id);

/// As `std::jthread`: its destructor requests a stop and joins. A function that takes a `std::stop_token` first gets one.
class jthread {
  template <class F, class... Args>
  static constexpr bool runs = std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...> ||
                               std::is_invocable_v<std::decay_t<F>, std::decay_t<Args>...>;

 public:
  using id = thread::id;
  using native_handle_type = thread::native_handle_type;

  jthread() noexcept : stop_(std::nostopstate) {}

  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, jthread> && !std::is_same_v<std::remove_cvref_t<F>, attributes> &&
             runs<F, Args...>)
  explicit jthread(F&& fn, Args&&... args)
      : jthread(detail::usual_attributes, std::forward<F>(fn), std::forward<Args>(args)...) {}

  template <class F, class... Args>
    requires runs<F, Args...>
  jthread(const attributes& how, F&& fn, Args&&... args)
      : thread_(make(how, stop_, std::forward<F>(fn), std::forward<Args>(args)...)) {}

  jthread(const jthread&) = delete;
  jthread& operator=(const jthread&) = delete;
  jthread(jthread&&) noexcept = default;
  jthread& operator=(jthread&& other) noexcept {
    if (this == &other) return *this;
    end();
    stop_ = std::move(other.stop_);
    thread_ = std::move(other.thread_);
    return *this;
  }
  ~jthread() { end(); }

  void swap(jthread& other) noexcept {
    std::swap(stop_, other.stop_);
    thread_.swap(other.thread_);
  }
  friend void swap(jthread& a, jthread& b) noexcept { a.swap(b); }

  [[nodiscard]] bool joinable() const noexcept { return thread_.joinable(); }
  [[nodiscard]] id get_id() const noexcept { return thread_.get_id(); }
  [[nodiscard]] native_handle_type native_handle() noexcept { return thread_.native_handle(); }
  void join() { thread_.join(); }
  [[nodiscard]] bool try_join_until(time_point deadline) { return thread_.try_join_until(deadline); }
  template <class Rep, class Period>
  [[nodiscard]] bool try_join_for(const std::chrono::duration<Rep, Period>& timeout) {
    return thread_.try_join_for(timeout);
  }
  void detach() { thread_.detach(); }
  void request_cancel() noexcept { thread_.request_cancel(); }
  void set_priority(int priority) { thread_.set_priority(priority); }
  void set_deadline(time_point when) { thread_.set_deadline(when); }

  [[nodiscard]] std::stop_source get_stop_source() noexcept { return stop_; }
  [[nodiscard]] std::stop_token get_stop_token() const noexcept { return stop_.get_token(); }
  bool request_stop() noexcept;
  [[nodiscard]] static unsigned hardware_concurrency() noexcept { return thread::hardware_concurrency(); }

 private:
  template <class F, class... Args>
  static thread make(const attributes& how, const std::stop_source& stop, F&& fn, Args&&... args) {
    if constexpr (std::is_invocable_v<std::decay_t<F>, std::stop_token, std::decay_t<Args>...>) {
      return thread(how, std::forward<F>(fn), stop.get_token(), std::forward<Args>(args)...);
    } else {
      return thread(how, std::forward<F>(fn), std::forward<Args>(args)...);
    }
  }
  void end() noexcept;

  std::stop_source stop_;
  thread thread_;
};

/// While one exists, ticks leave the calling thread alone: for code of the program's own that holds what no other thread must
/// find half changed. Nests. Weft operations, and waits in them, work as ever. Does nothing off a weft thread. ≈ 1 ns.
class no_preemption {
 public:
  no_preemption() noexcept;
  ~no_preemption() {
    if (counter_ != nullptr) *counter_ = *counter_ - 1;
  }
  no_preemption(const no_preemption&) = delete;
  no_preemption& operator=(const no_preemption&) = delete;

 private:
  volatile unsigned* counter_;
};

// The standard library's stop state knows kernel threads only: another thread of this one must not come in between.
inline bool jthread::request_stop() noexcept {
  const no_preemption whole;
  return stop_.request_stop();
}

namespace this_thread {

/// Lets every other ready thread run before the caller goes on. ≈ 5 ns.
void yield();

[[nodiscard]] thread::id get_id() noexcept;

/// The calling thread's name; "" when it has none.
[[nodiscard]] std::string_view name();
/// Changes it; the first 31 bytes are kept. Reports and traces show the new name from here on.
/// @throws operation_not_permitted off a weft thread
void set_name(std::string_view name);

/// Whether the calling thread's own code may be preempted from here on, at any instruction (`attributes::time_slice`). Nothing
/// happens where `options::time_slice` is zero. ≈ 10 ns, some 50 µs for the first thread of a scheduler that asks.
/// @throws operation_not_permitted off a weft thread; std::system_error when the kernel has no clock or signal for it
void set_time_slice(bool on);

/// True when this thread was asked to end, or the stretch of code it is in (weft/cancel.hpp), and no shield hides that: long
/// computations ask now and then.
[[nodiscard]] bool cancel_requested() noexcept;

/// Waits at least until `when`; never early, on any clock, also one that is set back meanwhile.
/// @throws weft::cancelled
template <class Clock, class Duration>
void sleep_until(const std::chrono::time_point<Clock, Duration>& when) {
  if constexpr (std::is_same_v<Clock, clock>) {
    if (detail::sleep(detail::deadline_at(when)) == detail::wake_reason::cancelled) detail::throw_cancelled();
  } else {
    for (duration left = detail::time_left(when); left > left.zero(); left = detail::time_left(when)) {
      if (detail::sleep(detail::deadline_after(left)) == detail::wake_reason::cancelled) detail::throw_cancelled();
    }
  }
}

/// Waits at least `how_long`. Zero or less: as `yield`.
/// @throws weft::cancelled
template <class Rep, class Period>
void sleep_for(const std::chrono::duration<Rep, Period>& how_long) {
  if (how_long <= how_long.zero()) return yield();
  if (detail::sleep(detail::deadline_after(how_long)) == detail::wake_reason::cancelled) detail::throw_cancelled();
}

}  // namespace this_thread
}  // namespace weft

template <>
struct std::hash<weft::thread::id> {
  std::size_t operator()(weft::thread::id id) const noexcept { return std::hash<std::uint32_t>{}(id.number_); }
};
