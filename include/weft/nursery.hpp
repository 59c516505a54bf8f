// Threads that end before the block that started them does.
//
//     weft::with_nursery([&](weft::nursery& n) {
//       for (auto& url : urls) n.spawn([&] { fetch(url); });
//     });  // all have ended; the first exception has ended the others and is thrown here
//
// After N. J. Smith, "Notes on structured concurrency", 2018.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <vector>

#include "weft/cancel.hpp"
#include "weft/detail/park.hpp"
#include "weft/thread.hpp"

namespace weft {

/// Threads that belong together. Their first exception asks all others to end; `join` throws it when all have.
///
/// A nursery is for the threads of one scheduler. Children may spawn more of them, also while `join` waits. Destroyed with
/// children alive (an exception passes through its block), it asks them to end and waits for them.
class nursery {
 public:
  template <class R> class result;

  nursery() = default;
  nursery(const nursery&) = delete;
  nursery& operator=(const nursery&) = delete;
  ~nursery();

  /// Starts a thread that calls `fn(args...)` with decayed copies of its arguments. In a nursery that was asked to end it is
  /// asked to end at once. @throws as weft::thread
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, attributes> && std::invocable<std::decay_t<F>, std::decay_t<Args>...>)
  void spawn(F&& fn, Args&&... args) {
    spawn(attributes{}, std::forward<F>(fn), std::forward<Args>(args)...);
  }
  template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
  void spawn(const attributes& how, F&& fn, Args&&... args) {
    const place made = add();
    try {
      adopt(made, thread(how, [this, made, fn = std::decay_t<F>(std::forward<F>(fn)),
                               ... args = std::decay_t<Args>(std::forward<Args>(args))]() mutable {
              const ending here(*this, made);
              run([&] { static_cast<void>(std::invoke(std::move(fn), std::move(args)...)); });
            }));
    } catch (...) {
      remove(made);
      throw;
    }
  }

  /// The same for a function whose value is wanted: `auto n = home.start(count_lines, path); … n.get()`.
  template <class F, class... Args>
    requires std::invocable<std::decay_t<F>, std::decay_t<Args>...>
  [[nodiscard]] auto start(F&& fn, Args&&... args) {
    using R = std::invoke_result_t<std::decay_t<F>, std::decay_t<Args>...>;
    result<R> made;
    spawn([to = made.state_, fn = std::decay_t<F>(std::forward<F>(fn)),
           ... args = std::decay_t<Args>(std::forward<Args>(args))]() mutable {
      to->run([&]() -> R { return std::invoke(std::move(fn), std::move(args)...); });
    });
    return made;
  }

  /// Waits until all children have ended, those included that are spawned meanwhile.
  /// @throws the first exception that left a child; weft::cancelled when the calling thread is asked to end: then the children
  ///         are, and have ended all the same. After that the nursery can be used again.
  void join();

  /// Asks all children to end, and those that are spawned from here on, until `join` has returned.
  void request_cancel() noexcept;

  /// For children that are written against stop tokens: a stop is requested together with their end, by whoever asks for it.
  /// `join` that was asked for it leaves the nursery with new ones: ask again. The callbacks must not wait.
  /// @throws std::bad_alloc
  [[nodiscard]] std::stop_token stop_token();

  [[nodiscard]] std::size_t size() const noexcept { return alive_; }  ///< children alive
  /// The exceptions that left children since the last `join` began, the first one first: the others of what `join` threw.
  [[nodiscard]] const std::vector<std::exception_ptr>& errors() const noexcept { return errors_; }

 private:
  template <std::invocable<nursery&> F> friend void with_nursery(F&& body);
  using place = std::uint32_t;  // in children_
  static constexpr place nowhere = static_cast<place>(-1);
  struct child {
    thread handle;
    place next_free = nowhere;  // of those whose child has ended
    bool over = false;          // it ended before its handle was here
  };

  class ending {
   public:
    ending(nursery& of, place at) noexcept : of_(of), at_(at) {}
    ~ending() { of_.ended(at_); }
    ending(const ending&) = delete;
    ending& operator=(const ending&) = delete;

   private:
    nursery& of_;
    place at_;
  };

  place add();
  void adopt(place at, thread made) noexcept;
  void remove(place at) noexcept;
  void ended(place at) noexcept;
  void fail(std::exception_ptr why) noexcept;
  void wait(detail::cancellation mode);
  void join_body(cancel_scope& body, const std::function<void()>& call);

  template <class F> void run(F&& fn) {
    try {
      fn();
    } catch (const cancelled&) {  // it was asked to end, and has
    } catch (...) {
      fail(std::current_exception());
    }
  }

  std::vector<child> children_;  // a child stays at its place, which is used again after its end
  place first_free_ = nowhere;
  std::size_t alive_ = 0;
  std::vector<std::exception_ptr> errors_;
  cancel_scope* body_ = nullptr;  // with_nursery's, while its body runs
  std::stop_source stop_{std::nostopstate};  // of the tokens it has handed out
  bool asked_ = false;
  bool joined_ = false;  // errors_ are those of a join that is over
  detail::wait_queue waiters_;
};

namespace detail {

/// What a child leaves for whoever asks: whether, how and with what it ended.
class child_outcome_base {
 public:
  child_outcome_base() = default;
  child_outcome_base(const child_outcome_base&) = delete;
  child_outcome_base& operator=(const child_outcome_base&) = delete;

  /// Waits for the end. @throws what left the child; weft::cancelled, also when that was asked to end
  void await();
  void end(std::exception_ptr why) noexcept;

 protected:
  ~child_outcome_base() = default;

 private:
  wait_queue waiters_;
  std::exception_ptr why_;
  bool ended_ = false;
};

template <class R> class child_outcome : public child_outcome_base {
 public:
  template <class F> void run(F&& fn) {
    try {
      value_.emplace(fn());
    } catch (...) {
      end(std::current_exception());
      throw;
    }
    end(nullptr);
  }
  std::optional<R> value_;
};

template <> class child_outcome<void> : public child_outcome_base {
 public:
  template <class F> void run(F&& fn) {
    try {
      fn();
    } catch (...) {
      end(std::current_exception());
      throw;
    }
    end(nullptr);
  }
};

}  // namespace detail

/// The value of a child started with `nursery::start`. Copies share it. Usable also after the nursery is gone.
template <class R> class nursery::result {
 public:
  /// Waits for the child. @returns its value, moved out: once.
  /// @throws what left the child (it leaves `join`, too); weft::cancelled when the child was asked to end, or the caller is;
  ///         std::bad_optional_access the second time
  R get() {
    state_->await();
    if constexpr (!std::is_void_v<R>) {
      R value = std::move(state_->value_.value());
      state_->value_.reset();
      return value;
    }
  }

 private:
  friend class nursery;
  std::shared_ptr<detail::child_outcome<R>> state_ = std::make_shared<detail::child_outcome<R>>();
};

/// Calls `body(n)` with a nursery and waits until all its children have ended. An exception of a child also ends the waits of
/// the body, and is thrown from here; so is one of the body, which ends the children. Children outlive the body's own variables:
/// what they refer to belongs before the call.
/// @throws the first exception of all; weft::cancelled when the calling thread is asked to end
template <std::invocable<nursery&> F> void with_nursery(F&& body) {
  nursery home;
  cancel_scope scope;
  home.join_body(scope, [&] { static_cast<void>(std::invoke(std::forward<F>(body), home)); });
}

}  // namespace weft
