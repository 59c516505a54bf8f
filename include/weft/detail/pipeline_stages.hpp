// The stages that pipelines are built of: where values come from, what is done to them, how streams join and part.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <span>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "weft/detail/stage.hpp"
#include "weft/mutex.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"

namespace weft::detail {

/// A channel of the program's own. Whoever fills it learns by its close that nobody reads any more.
template <class T> class channel_stage final : public stage {
 public:
  explicit channel_stage(channel<T>& from) : stage(1), from_(from) {}

 private:
  void close_outlet(std::size_t) noexcept override { from_.close(); }
  void each_inlet(const std::function<void(inlet_base&)>&) noexcept override {}

  channel<T>& from_;
};

/// A stage with one outlet of its own.
template <class T> class one_outlet : public stage {
 public:
  explicit one_outlet(std::size_t buffer) : stage(1), out_(buffer) {}
  [[nodiscard]] channel<T>& out() noexcept { return out_; }

 private:
  void close_outlet(std::size_t) noexcept override { out_.close(); }

  channel<T> out_;
};

/// A thread that calls `fill(channel)`.
template <class T, class Fill> class source_stage final : public one_outlet<T> {
 public:
  source_stage(Fill fill, std::size_t buffer) : one_outlet<T>(buffer), fill_(std::move(fill)) {}
  void begin(const attributes& how) {
    this->start(1, how, [this](std::size_t) { static_cast<void>(std::invoke(fill_, this->out())); });
  }

 private:
  void each_inlet(const std::function<void(inlet_base&)>&) noexcept override {}

  Fill fill_;
};

/// Whether a range that is the stage's own holds its values, so that they may be moved out. A view may show those of others.
template <class R> inline constexpr bool holds_values = !std::ranges::view<R>;

/// Sends what a range holds: one that is the stage's own is emptied, of any other the values are copied.
template <class R, class T> struct range_source {
  static constexpr bool owned = !std::is_lvalue_reference_v<R> && holds_values<std::remove_cvref_t<R>>;
  std::conditional_t<std::is_lvalue_reference_v<R>, std::remove_reference_t<R>*, std::remove_cvref_t<R>> range;

  void operator()(channel<T>& out) {
    if constexpr (std::is_lvalue_reference_v<R>) {
      for (auto&& value : *range) out.send(T(std::forward<decltype(value)>(value)));
    } else if constexpr (owned) {
      for (auto&& value : range) out.send(T(std::move(value)));
    } else {
      for (auto&& value : range) out.send(T(std::forward<decltype(value)>(value)));
    }
  }
};

/// Threads that take a value each, prepare it side by side, and emit what came of it, in order if so asked.
template <class In, class Out, class Step> class worker_stage final : public one_outlet<Out> {
 public:
  worker_stage(inlet<In> in, Step step, std::size_t workers, bool ordered, std::size_t buffer)
      : one_outlet<Out>(buffer),
        in_(std::move(in)),
        step_(std::move(step)),
        workers_(workers),
        in_order_(ordered && workers > 1) {
    for (std::size_t i = 0; in_order_ && i < workers; ++i) turns_.emplace_back(i == 0 ? 1 : 0);
    in_.read_by(*this);
  }
  void begin(const attributes& how) {
    this->start(workers_, how, [this](std::size_t) { work(); });
  }

 private:
  struct taken {
    std::optional<In> value;
    std::uint64_t number;
  };

  void each_inlet(const std::function<void(inlet_base&)>& visit) noexcept override { visit(in_); }

  void work() {
    for (taken next = take(); next.value.has_value(); next = take()) {
      auto made = step_.prepare(std::move(*next.value));
      if (!in_order_) {
        step_.emit(std::move(made), this->out());
        continue;
      }
      turn(next.number).acquire();
      step_.emit(std::move(made), this->out());
      turn(next.number + 1).release();
    }
  }

  // A value and its number are taken together: who waits for the value keeps the others from theirs.
  taken take() {
    if (!in_order_) return {in_.receive(), 0};
    const std::lock_guard whole(taking_);
    std::optional<In> value = in_.receive();
    return {std::move(value), taken_++};
  }
  // Each worker holds one number, from the lowest that was not emitted on: so as many turns as workers tell them apart.
  binary_semaphore& turn(std::uint64_t number) { return turns_[static_cast<std::size_t>(number % workers_)]; }

  inlet<In> in_;
  Step step_;
  const std::size_t workers_;
  const bool in_order_;
  mutex taking_;
  std::uint64_t taken_ = 0;
  std::deque<binary_semaphore> turns_;
};

template <class F> struct transform_step {
  F fn;
  template <class T> auto prepare(T&& value) { return std::invoke(fn, std::forward<T>(value)); }
  template <class Made, class T> void emit(Made&& made, channel<T>& out) { out.send(std::forward<Made>(made)); }
};

template <class F> struct filter_step {
  F keep;
  template <class T> std::optional<T> prepare(T&& value) {
    std::optional<T> kept;
    if (std::invoke(keep, std::as_const(value))) kept.emplace(std::move(value));
    return kept;
  }
  template <class T> void emit(std::optional<T> kept, channel<T>& out) {
    if (kept.has_value()) out.send(std::move(*kept));
  }
};

template <class F> struct expand_step {
  F fn;
  template <class T> auto prepare(T&& value) { return std::invoke(fn, std::forward<T>(value)); }
  template <class Made, class T> void emit(Made made, channel<T>& out) { range_source<Made, T>{std::move(made)}(out); }
};

struct buffer_step {
  template <class T> T prepare(T&& value) { return std::forward<T>(value); }
  template <class T> void emit(T&& value, channel<T>& out) { out.send(std::forward<T>(value)); }
};

template <class F> struct for_each_step {
  F fn;
  template <class T> std::monostate prepare(T&& value) {
    static_cast<void>(std::invoke(fn, std::forward<T>(value)));
    return {};
  }
  void emit(std::monostate, channel<std::monostate>&) {}
};

/// A thread for each stream, all of which fill one outlet.
template <class T> class merge_stage final : public one_outlet<T> {
 public:
  merge_stage(std::vector<inlet<T>> in, std::size_t buffer) : one_outlet<T>(buffer), in_(std::move(in)) {
    for (inlet<T>& each : in_) each.read_by(*this);
  }
  void begin(const attributes& how) {
    if (in_.empty()) return this->out().close();
    this->start(in_.size(), how, [this](std::size_t i) {
      while (std::optional<T> value = in_[i].receive()) this->out().send(std::move(*value));
    });
  }

 private:
  void each_inlet(const std::function<void(inlet_base&)>& visit) noexcept override {
    for (inlet<T>& each : in_) visit(each);
  }

  std::vector<inlet<T>> in_;
};

/// A thread that gives every value to each outlet that is open, in whatever order those take it.
template <class T> class tee_stage final : public stage {
 public:
  tee_stage(inlet<T> in, std::size_t count, std::size_t buffer)
      : stage(count), in_(std::move(in)), copies_(count), cases_(count) {
    for (std::size_t i = 0; i < count; ++i) out_.emplace_back(buffer);
    in_.read_by(*this);
  }
  void begin(const attributes& how) {
    start(1, how, [this](std::size_t) {
      while (std::optional<T> value = in_.receive()) give(std::move(*value));
    });
  }
  [[nodiscard]] channel<T>& out(std::size_t i) noexcept { return out_[i]; }

 private:
  void close_outlet(std::size_t i) noexcept override { out_[i].close(); }
  void each_inlet(const std::function<void(inlet_base&)>& visit) noexcept override { visit(in_); }

  void give(T value) {
    copy(std::move(value));
    while (offer()) continue;
  }

  // A copy for every outlet that is open; the last one gets the value itself.
  void copy(T value) {
    std::size_t last = out_.size();
    for (std::size_t i = 0; i < out_.size(); ++i) {
      if (out_[i].closed()) continue;
      if (last != out_.size()) copies_[last].emplace(std::as_const(value));
      last = i;
    }
    if (last != out_.size()) copies_[last].emplace(std::move(value));
  }

  // Whether outlet `i` is still to get its copy. Dropping that of one that was closed may wait.
  bool wanted(std::size_t i) {
    if (copies_[i].has_value() && out_[i].closed()) copies_[i].reset();
    return copies_[i].has_value();
  }

  // Gives the copies to whoever takes them now, and waits for one more taker. @returns whether there may be another.
  bool offer() {
    bool left = false;
    try {
      for (std::size_t i = 0; i < out_.size(); ++i) {
        cases_[i] = select_case();
        if (!wanted(i)) continue;
        if (out_[i].try_send(*copies_[i])) {
          copies_[i].reset();
          continue;
        }
        cases_[i] = on_send(out_[i], *copies_[i]);
        left = true;
      }
      if (left) copies_[select(cases_)].reset();
    } catch (const channel_closed&) {  // an outlet was left meanwhile: wanted() finds which
      return true;
    }
    return left;
  }

  inlet<T> in_;
  std::deque<channel<T>> out_;
  std::vector<std::optional<T>> copies_;
  std::vector<select_case> cases_;
};

}  // namespace weft::detail
