// What a promise and its futures share.
//
// A state goes from `empty` to `claimed`, by whoever is the first to give a result, and from there to `ready`. The result is
// written in between, by that one alone and under no lock, because it is the program's own code that copies it. One that is
// `deferred` is claimed by the first thread that waits, which makes the result itself.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <future>  // std::future_error and what belongs to it
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/detail/waiting_room.hpp"
#include "weft/error.hpp"

namespace weft::detail {

[[noreturn]] void throw_future_error(std::future_errc why);

/// The part that does not depend on the result's type. Everything may be called by threads of any kind.
class future_state {
 public:
  enum class stage : std::uint8_t { empty, deferred, claimed, ready };

  future_state() noexcept = default;
  future_state(const future_state&) = delete;
  future_state& operator=(const future_state&) = delete;
  virtual ~future_state() = default;

  // ---- for those who give the result ----

  /// @throws std::future_error(promise_already_satisfied)
  void claim() {
    if (!try_claim()) throw_future_error(std::future_errc::promise_already_satisfied);
  }
  /// Claims it and stores the error. @throws std::future_error(promise_already_satisfied); std::system_error(invalid_argument)
  /// for a null pointer
  void store_error(std::exception_ptr error);
  /// Wakes all who wait; the result was stored. Touches nothing of the state once they may know.
  void make_ready() noexcept;
  /// The same when the calling thread ends. @throws std::bad_alloc or std::system_error: then the result is forgotten again
  static void make_ready_at_thread_exit(const std::shared_ptr<future_state>& state);
  /// Nobody will give a result any more: broken_promise, unless there is one.
  static void abandon(std::shared_ptr<future_state>& state) noexcept;
  /// @throws std::future_error(future_already_retrieved) but for the first call
  void retrieve() {
    if (retrieved_.exchange(true, std::memory_order_relaxed)) throw_future_error(std::future_errc::future_already_retrieved);
  }

  // ---- for those who want it ----

  [[nodiscard]] bool ready() const noexcept { return stage_.load(std::memory_order_acquire) == stage::ready; }
  [[nodiscard]] bool deferred() const noexcept { return stage_.load(std::memory_order_relaxed) == stage::deferred; }
  /// @throws weft::cancelled
  void wait();
  /// @returns whether it is ready. @throws weft::cancelled
  [[nodiscard]] bool wait_until(time_point deadline);
  /// For a thread that waits for several results (sched/select.cpp): takes a seat in the list, whose `slot` is a room_wake.
  /// @returns false when it is ready: then there is no seat to leave. With the processor, as the next one.
  [[nodiscard]] bool sit_down(waiter& seat) noexcept { return room_.sit_down(seat, is_over, this); }
  /// Leaves it, whether or not somebody has taken it out of the list.
  void stand_up(waiter& seat) noexcept { room_.stand_up(seat); }
  /// Whether others than the threads of scheduler `home` may give the result.
  [[nodiscard]] bool may_come_from_elsewhere(const sched::inbox* home) const noexcept { return home_ != home; }
  /// Once it is ready.
  void throw_if_error() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

 protected:
  /// For states with a function of their own, before anybody else knows of them. @throws as weft::async
  void launch_as(std::launch policy);
  /// For destructors of states that were started: waits for the end of carry_out().
  void await_end() noexcept;
  [[nodiscard]] bool try_claim() noexcept {
    stage expected = stage::empty;
    // acquire: pairs with the release in withdraw, after which another one writes the result.
    return stage_.compare_exchange_strong(expected, stage::claimed, std::memory_order_acquire);
  }
  /// Takes a claim back: there was no result.
  void withdraw() noexcept {
    error_ = nullptr;
    forget_value();
    stage_.store(stage::empty, std::memory_order_release);
  }
  void break_promise() noexcept;

  std::exception_ptr error_;

 private:
  virtual void forget_value() noexcept = 0;
  /// Makes the result, and makes it ready. For states with a function of their own. @throws weft::cancelled
  virtual void carry_out() {}

  static bool is_over(void* of) noexcept;
  [[nodiscard]] wake_reason wait_slow(time_point deadline, cancellation mode);
  void start();
  void ask_to_end() noexcept;

  waiting_room room_;  // and the lock of becoming ready
  thread_record* thread_ = nullptr;     // that carries it out, and lives until it is ready;
  const sched::inbox* home_ = nullptr;  // and its scheduler
  std::atomic<stage> stage_{stage::empty};
  std::atomic<bool> retrieved_{false};
};

/// What stands for the value of a result that is none.
struct no_value {};

/// … and the part that does.
template <class R>
class future_result : public future_state {
  static constexpr bool is_reference = std::is_lvalue_reference_v<R>;
  using reference_or_value = std::conditional_t<is_reference, std::add_pointer_t<R>, R>;
  using stored = std::conditional_t<std::is_void_v<R>, no_value, reference_or_value>;

 public:
  /// Claims it and stores the value.
  /// @throws std::future_error(promise_already_satisfied), what the copy throws: then the state is what it was
  template <class... Value>
  void store(Value&&... value) {
    claim();
    try {
      emplace(std::forward<Value>(value)...);
    } catch (...) {
      withdraw();
      throw;
    }
  }

  /// Stores what `call` returns or throws; the state was claimed. A thread that is asked to end has no result to give: the
  /// promise is broken, and the weft::cancelled is returned, for the caller to throw when the state is ready.
  template <class Call>
  [[nodiscard]] std::exception_ptr store_result_of(Call&& call) {
    try {
      if constexpr (std::is_void_v<R>) {
        std::forward<Call>(call)();
        emplace();
      } else {
        emplace(std::forward<Call>(call)());
      }
    } catch (const cancelled&) {
      break_promise();
      return std::current_exception();
    } catch (...) {
      error_ = std::current_exception();
      if (error_ == nullptr) {  // no exception of C++: pthread_exit or pthread_cancel, which nobody may stop
        break_promise();
        make_ready();
        throw;
      }
    }
    return nullptr;
  }

  /// Once it is ready, and for one caller only. @throws the error
  R take() {
    throw_if_error();
    if constexpr (is_reference) {
      return **value_;
    } else if constexpr (!std::is_void_v<R>) {
      return std::move(*value_);
    }
  }
  /// Once it is ready. @throws the error
  std::conditional_t<is_reference || std::is_void_v<R>, R, std::add_lvalue_reference_t<const R>> look() const {
    throw_if_error();
    if constexpr (is_reference) {
      return **value_;
    } else if constexpr (!std::is_void_v<R>) {
      return *value_;
    }
  }

 private:
  template <class... Value>
  void emplace(Value&&... value) {
    if constexpr (is_reference) {
      value_.emplace(std::addressof(value)...);
    } else {
      value_.emplace(std::forward<Value>(value)...);
    }
  }
  void forget_value() noexcept override { value_.reset(); }

  std::optional<stored> value_;
};

}  // namespace weft::detail
