// Results that are ready later: `promise`, `future`, `shared_future`, `packaged_task`, `async`. Semantics of the C++ standard
// library; between threads of every kind.
#pragma once

#include <chrono>
#include <exception>
#include <future>  // std::future_error, std::future_errc, std::future_status, std::launch
#include <memory>
#include <type_traits>
#include <utility>

#include "weft/detail/future_state.hpp"
#include "weft/detail/future_task.hpp"
#include "weft/detail/park.hpp"
#include "weft/error.hpp"

namespace weft {

using std::future_category;
using std::future_errc;
using std::future_error;
using std::future_status;
using std::launch;

template <class R>
class future;
template <class R>
class shared_future;

namespace detail {

struct future_access;

/// What future and shared_future have in common. Waiting is for weft threads of any scheduler, which park, regions of `blocking`
/// included, and for plain kernel threads, which sleep in the kernel. A weft thread that waits may throw weft::cancelled; the
/// future is then what it was.
template <class R>
class future_base {
 public:
  /// Whether there is a state. Without one everything else but moves and swaps throws future_error(no_state).
  [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

  /// Waits until the result is ready. A deferred function runs here, in the first thread that waits without a timeout.
  /// @throws future_error(no_state); weft::cancelled
  void wait() const { state().wait(); }

  /// Waits at most so long. @returns deferred at once where the function is deferred. A timeout of zero lets others run, too.
  /// @throws future_error(no_state); weft::cancelled; std::bad_alloc when the deadline finds no memory
  template <class Rep, class Period>
  future_status wait_for(const std::chrono::duration<Rep, Period>& timeout) const {
    future_state& s = state();
    if (s.ready()) return future_status::ready;
    if (s.deferred()) return future_status::deferred;
    return status(s.wait_until(deadline_after(timeout)));
  }

  /// The same, until `when` on any clock, also one that is set back meanwhile.
  template <class Clock, class Duration>
  future_status wait_until(const std::chrono::time_point<Clock, Duration>& when) const {
    future_state& s = state();
    if (s.ready()) return future_status::ready;
    if (s.deferred()) return future_status::deferred;
    if constexpr (std::is_same_v<Clock, clock>) {
      return status(s.wait_until(deadline_at(when)));
    } else {
      duration left = time_left(when);
      bool there = s.wait_until(deadline_after(left));
      while (!there && (left = time_left(when)) > duration::zero()) there = s.wait_until(deadline_after(left));
      return status(there);
    }
  }

 protected:
  future_base() noexcept = default;
  explicit future_base(std::shared_ptr<future_result<R>> state) noexcept : state_(std::move(state)) {}
  future_base(const future_base&) noexcept = default;
  future_base(future_base&&) noexcept = default;
  future_base& operator=(const future_base&) noexcept = default;
  future_base& operator=(future_base&&) noexcept = default;
  ~future_base() = default;

  // For select.
  friend future_state* state_of(const future_base& of) noexcept { return of.state_.get(); }

  future_result<R>& state() const {
    if (state_ == nullptr) throw_future_error(future_errc::no_state);
    return *state_;
  }

  std::shared_ptr<future_result<R>> state_;

 private:
  static future_status status(bool ready) noexcept { return ready ? future_status::ready : future_status::timeout; }
};

}  // namespace detail

/// As `std::future`: the one right to a result. Its destructor waits for the end of the function where async() made it, and then
/// is not ended by a cancellation.
template <class R>
class future : public detail::future_base<R> {
 public:
  future() noexcept = default;
  future(const future&) = delete;
  future& operator=(const future&) = delete;
  future(future&&) noexcept = default;
  future& operator=(future&&) noexcept = default;
  ~future() = default;

  /// Gives the right to everybody who copies what is returned. No state is left here.
  shared_future<R> share() noexcept { return shared_future<R>(std::move(*this)); }

  /// Waits, and takes the result. No state is left here, unless the wait throws.
  /// @throws the error that was set; future_error(no_state); weft::cancelled
  R get() {
    this->wait();
    const std::shared_ptr<detail::future_result<R>> taken = std::move(this->state_);
    return taken->take();
  }

 private:
  friend struct detail::future_access;
  friend class shared_future<R>;
  explicit future(std::shared_ptr<detail::future_result<R>> state) noexcept : detail::future_base<R>(std::move(state)) {}
};

/// As `std::shared_future`: a right to a result that can be copied. One object may be used by several threads at once as long as
/// nobody assigns to it.
template <class R>
class shared_future : public detail::future_base<R> {
 public:
  shared_future() noexcept = default;
  shared_future(const shared_future&) noexcept = default;
  shared_future& operator=(const shared_future&) noexcept = default;
  shared_future(shared_future&&) noexcept = default;
  shared_future& operator=(shared_future&&) noexcept = default;
  shared_future(future<R>&& from) noexcept : detail::future_base<R>(std::move(from.state_)) {}
  ~shared_future() = default;

  /// Waits, and shows the result, which lives as long as any copy of this does.
  /// @throws the error that was set; future_error(no_state); weft::cancelled
  decltype(auto) get() const {
    this->wait();
    return this->state_->look();
  }
};

namespace detail {

struct future_access {
  template <class R>
  static future<R> make(std::shared_ptr<future_result<R>> state) {
    return future<R>(std::move(state));
  }
};

/// What all promises have in common. A result may be given by a weft thread of any scheduler, in a region too, and by a plain
/// kernel thread; weft threads of the giver's own scheduler become ready at once, others through their scheduler's inbox.
template <class R>
class promise_base {
 public:
  /// @throws std::bad_alloc
  promise_base() : state_(std::make_shared<future_result<R>>()) {}
  /// The state's memory is the allocator's.
  template <class Allocator>
  promise_base(std::allocator_arg_t, const Allocator& from) : state_(std::allocate_shared<future_result<R>>(from)) {}
  promise_base(const promise_base&) = delete;
  promise_base& operator=(const promise_base&) = delete;
  promise_base(promise_base&&) noexcept = default;
  promise_base& operator=(promise_base&& other) noexcept {
    promise_base taken(std::move(other));
    state_.swap(taken.state_);
    return *this;
  }
  /// Who waits gets future_error(broken_promise) if there is no result.
  ~promise_base() {
    if (state_ != nullptr) give_up();
  }

  /// @throws future_error: no_state, future_already_retrieved
  future<R> get_future() {
    held()->retrieve();
    return future_access::make<R>(state_);
  }

  /// @throws future_error: no_state, promise_already_satisfied; std::system_error(invalid_argument) for a null pointer
  void set_exception(std::exception_ptr error) {
    const auto state = held();
    state->store_error(std::move(error));
    state->make_ready();
  }
  /// The same; but it is ready, and who waits goes on, when the calling thread has ended.
  /// @throws as set_exception, and std::bad_alloc or std::system_error: then there is no result yet
  void set_exception_at_thread_exit(std::exception_ptr error) {
    const auto state = held();
    state->store_error(std::move(error));
    future_state::make_ready_at_thread_exit(state);
  }

 protected:
  // A copy: whoever is woken may destroy the promise before make_ready() has returned.
  std::shared_ptr<future_result<R>> held() const {
    if (state_ == nullptr) throw_future_error(future_errc::no_state);
    return state_;
  }
  template <class... Value>
  void give(Value&&... value) {
    const auto state = held();
    state->store(std::forward<Value>(value)...);
    state->make_ready();
  }
  template <class... Value>
  void give_at_thread_exit(Value&&... value) {
    const auto state = held();
    state->store(std::forward<Value>(value)...);
    future_state::make_ready_at_thread_exit(state);
  }
  void exchange(promise_base& other) noexcept { state_.swap(other.state_); }

 private:
  void give_up() noexcept {
    std::shared_ptr<future_state> last = std::move(state_);
    future_state::abandon(last);
  }

  std::shared_ptr<future_result<R>> state_;
};

}  // namespace detail

/// As `std::promise`: gives a result, once. Cost: one allocation; to give a result and to take it ≈ 100 ns together, a wait in
/// between ≈ 50 ns more within one scheduler, some microseconds from one kernel thread to another.
template <class R>
class promise : public detail::promise_base<R> {
 public:
  using detail::promise_base<R>::promise_base;
  void swap(promise& other) noexcept { this->exchange(other); }

  /// @throws future_error: no_state, promise_already_satisfied; what the copy or move throws: then there is no result yet
  void set_value(const R& value) { this->give(value); }
  void set_value(R&& value) { this->give(std::move(value)); }
  /// The same; but it is ready, and who waits goes on, when the calling thread has ended, its function's arguments are destroyed
  /// and, off weft threads, its thread_local objects too. @throws std::bad_alloc, std::system_error besides
  void set_value_at_thread_exit(const R& value) { this->give_at_thread_exit(value); }
  void set_value_at_thread_exit(R&& value) { this->give_at_thread_exit(std::move(value)); }
};

/// As `std::promise<R&>`.
template <class R>
class promise<R&> : public detail::promise_base<R&> {
 public:
  using detail::promise_base<R&>::promise_base;
  void swap(promise& other) noexcept { this->exchange(other); }

  void set_value(R& value) { this->give(value); }
  void set_value_at_thread_exit(R& value) { this->give_at_thread_exit(value); }
};

/// As `std::promise<void>`.
template <>
class promise<void> : public detail::promise_base<void> {
 public:
  using detail::promise_base<void>::promise_base;
  void swap(promise& other) noexcept { this->exchange(other); }

  void set_value() { this->give(); }
  void set_value_at_thread_exit() { this->give_at_thread_exit(); }
};

/// As the member.
template <class R>
void swap(promise<R>& a, promise<R>& b) noexcept {
  a.swap(b);
}

/// As `std::packaged_task`: a function whose result goes to a future.
template <class Signature>
class packaged_task;  // of a function type only

/// What a packaged_task is: a function that takes `Args`, and a promise of an `R`. Any thread may call it.
/// Cost: one allocation for function and result.
template <class R, class... Args>
class packaged_task<R(Args...)> {
 public:
  packaged_task() noexcept = default;
  /// @throws std::bad_alloc, what copying `fn` throws
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, packaged_task>)
  explicit packaged_task(F&& fn)
      : state_(std::make_shared<detail::task_state_of<std::decay_t<F>, R, Args...>>(std::in_place, std::forward<F>(fn))) {
    static_assert(std::is_invocable_r_v<R, std::decay_t<F>&, Args...>, "weft::packaged_task: the function has another signature");
  }
  packaged_task(const packaged_task&) = delete;
  packaged_task& operator=(const packaged_task&) = delete;
  packaged_task(packaged_task&&) noexcept = default;
  packaged_task& operator=(packaged_task&& other) noexcept {
    packaged_task taken(std::move(other));
    swap(taken);
    return *this;
  }
  /// Who waits gets future_error(broken_promise) if the function was not called.
  ~packaged_task() {
    if (state_ != nullptr) give_up();
  }
  void swap(packaged_task& other) noexcept { state_.swap(other.state_); }

  [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

  /// @throws future_error: no_state, future_already_retrieved
  future<R> get_future() {
    held()->retrieve();
    return detail::future_access::make<R>(state_);
  }

  /// Calls the function; what it returns or throws is the result. Only weft::cancelled comes out, and breaks the promise.
  /// @throws future_error: no_state, promise_already_satisfied; weft::cancelled
  void operator()(Args... args) {
    const auto state = held();
    state->claim();
    const std::exception_ptr cancelled_by = state->call(std::forward<Args>(args)...);
    state->make_ready();
    if (cancelled_by != nullptr) std::rethrow_exception(cancelled_by);
  }
  /// The same; but it is ready, and who waits goes on, when the calling thread has ended.
  /// @throws as operator(), and std::bad_alloc or std::system_error: then there is no result yet
  void make_ready_at_thread_exit(Args... args) {
    const auto state = held();
    state->claim();
    const std::exception_ptr cancelled_by = state->call(std::forward<Args>(args)...);
    detail::future_state::make_ready_at_thread_exit(state);
    if (cancelled_by != nullptr) std::rethrow_exception(cancelled_by);
  }

  /// The same function with a new state; that of before is abandoned.
  /// @throws future_error(no_state); std::bad_alloc, what moving the function throws
  void reset() {
    packaged_task fresh;
    fresh.state_ = held()->renew();
    swap(fresh);
  }

 private:
  using task = detail::task_state<R, Args...>;
  std::shared_ptr<task> held() const {
    if (state_ == nullptr) detail::throw_future_error(future_errc::no_state);
    return state_;
  }
  void give_up() noexcept {
    std::shared_ptr<detail::future_state> last = std::move(state_);
    detail::future_state::abandon(last);
  }

  std::shared_ptr<task> state_;
};

// Signatures are deduced as by the standard library's.
template <class R, class... Args>
packaged_task(R (*)(Args...)) -> packaged_task<R(Args...)>;
template <class F>
packaged_task(F) -> packaged_task<typename detail::call_signature<decltype(&F::operator())>::type>;

/// As the member.
template <class R, class... Args>
void swap(packaged_task<R(Args...)>& a, packaged_task<R(Args...)>& b) noexcept {
  a.swap(b);
}

/// Calls `fn(args...)` with decayed copies of its arguments: with `launch::async` in a new weft thread of the caller's scheduler,
/// with `launch::deferred` in the first thread that waits for the result; with both as with `launch::async`, unless no thread
/// is to be had. The destructor of the last future of a `launch::async` waits for the function; where it unwinds a thread that
/// was asked to end, the function's thread is asked to end as well. A function that ends by weft::cancelled has broken its
/// promise. Cost: one allocation, and a thread's.
/// @throws std::system_error: operation_not_permitted off a weft thread unless the policy is `launch::deferred`, as
///         weft::thread when no thread is to be had, invalid_argument for a policy that is neither; what copying throws
template <class F, class... Args>
[[nodiscard]] future<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> async(launch policy, F&& fn, Args&&... args) {
  using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
  using state = detail::async_state<result, std::decay_t<F>, std::decay_t<Args>...>;
  auto made = std::make_shared<state>(std::in_place, std::forward<F>(fn), std::forward<Args>(args)...);
  made->launch_as(policy);
  return detail::future_access::make<result>(std::move(made));
}

/// The same with `launch::async`.
template <class F, class... Args>
[[nodiscard]] future<std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>> async(F&& fn, Args&&... args) {
  return weft::async(launch::async, std::forward<F>(fn), std::forward<Args>(args)...);
}

}  // namespace weft

template <class R, class Allocator>
struct std::uses_allocator<weft::promise<R>, Allocator> : std::true_type {};
