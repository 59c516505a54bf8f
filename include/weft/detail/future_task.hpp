// States with a function of their own: those of packaged_task and async.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "weft/detail/future_state.hpp"

namespace weft::detail {

/// What std::invoke_r of C++23 does.
template <class R, class F, class... Args> R invoke_as(F&& fn, Args&&... args) {
  if constexpr (std::is_void_v<R>) {
    static_cast<void>(std::invoke(std::forward<F>(fn), std::forward<Args>(args)...));
  } else {
    return std::invoke(std::forward<F>(fn), std::forward<Args>(args)...);
  }
}

/// The state of a packaged_task<R(Args...)>.
template <class R, class... Args> class task_state : public future_result<R> {
 public:
  /// Calls the function and stores its result, or error. @returns as store_result_of
  [[nodiscard]] virtual std::exception_ptr call(Args... args) = 0;
  /// A new state with this one's function.
  [[nodiscard]] virtual std::shared_ptr<task_state> renew() = 0;
};

template <class F, class R, class... Args> class task_state_of final : public task_state<R, Args...> {
 public:
  template <class G> explicit task_state_of(std::in_place_t, G&& fn) : fn_(std::forward<G>(fn)) {}

  std::exception_ptr call(Args... args) override {
    return this->store_result_of([&]() -> R { return invoke_as<R>(fn_, std::forward<Args>(args)...); });
  }
  std::shared_ptr<task_state<R, Args...>> renew() override {
    return std::make_shared<task_state_of>(std::in_place, std::move(fn_));
  }

 private:
  F fn_;
};

/// The state of what async() returned. The function and its arguments are gone when it is ready.
template <class R, class... Call> class async_state final : public future_result<R> {
 public:
  template <class... A> explicit async_state(std::in_place_t, A&&... call) : call_(std::in_place, std::forward<A>(call)...) {}
  ~async_state() override { this->await_end(); }

  using future_state::launch_as;

 private:
  void carry_out() override {
    const auto invoke = [](auto&... call) -> R { return std::invoke(std::move(call)...); };
    const std::exception_ptr cancelled_by = this->store_result_of([&]() -> R { return std::apply(invoke, *call_); });
    call_.reset();
    this->make_ready();
    if (cancelled_by != nullptr) std::rethrow_exception(cancelled_by);
  }

  std::optional<std::tuple<Call...>> call_;
};

// The signature of a function object, for packaged_task's deduction guide: that of its operator(), if there is one only.
template <class Operator> struct call_signature;
template <class R, class G, class... A> struct call_signature<R (G::*)(A...)> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...)&> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const&> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) volatile> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) volatile&> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const volatile> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const volatile&> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...)& noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const& noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) volatile noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) volatile& noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const volatile noexcept> { using type = R(A...); };
template <class R, class G, class... A> struct call_signature<R (G::*)(A...) const volatile& noexcept> { using type = R(A...); };

}  // namespace weft::detail
