// Pipelines: streams of values that threads hand on from stage to stage, written as ranges are.
//
//     for (const std::string& line : weft::from(files) | weft::stages::expand(lines_of, {.workers = 4})
//                                                      | weft::stages::filter(interesting)
//                                                      | weft::stages::transform(digest, {.workers = 8, .ordered = false}))
//       std::cout << line << '\n';
//
// Every stage has threads of its own and a channel to the next one. What holds for all of them:
// - Threads start when the stage is made. They belong to the pipeline object: when it dies (at the end of its block, by an
//   exception, because its thread was asked to end), they are asked to end and waited for. None is left behind.
// - A slow stage holds up those before it, by as much as its `buffer` lets them run ahead: back-pressure.
// - The end of the stream goes down: a stage ends when what it reads from has ended and all is handed on.
// - "Nobody reads any more" goes up: where a pipeline is destroyed or closed early, everything before it ends, too. A channel
//   of the program's own is closed then: its senders get `channel_closed`, as who writes to a pipe that nobody reads.
// - An exception in a stage ends all others, and is thrown where the result is read: at once, before values that were on their
//   way. It is thrown again by every later read. What fails when nobody reads any more is told to nobody.
// - Values are moved from stage to stage, so they may be move-only. Only `tee` copies.
//
// For the threads of one scheduler. A function that is called by several workers is one object that they share; nobody calls it
// in parallel, except where it uses `weft::blocking`. Functions that block in the kernel without it hold up all threads.
//
// After D. McIlroy's pipes (Unix, 1973) and G. Kahn, "The Semantics of a Simple Language for Parallel Programming", IFIP 1974;
// ends and failures as in Go's pipelines with a context, without the part that one can forget.
#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "weft/channel.hpp"
#include "weft/detail/pipeline_stages.hpp"
#include "weft/detail/stage.hpp"
#include "weft/select.hpp"

namespace weft {

namespace detail {
template <class T> struct inlet_of;
}

/// How a stage works: `stages::transform(fetch, {.workers = 8, .ordered = false})`.
struct stage_options {
  /// Threads that call the function, each for a value of its own. Sources, `merge` and `tee` have as many as they need.
  std::size_t workers = 1;
  /// Results leave in the order in which their values came; a slow one holds up at most `workers - 1` later ones. False: they
  /// leave as they are made.
  bool ordered = true;
  /// Results that may wait for the next stage.
  std::size_t buffer = 0;
  /// Of the stage's threads. Without a name they have the stage's: "transform", "merge", … A name must live until they start.
  attributes threads = {};
};

/// The reading end of a stream, and the owner of the threads that fill it. An input range and a view (so the standard library's
/// adaptors work on it), movable, not copyable. Threads may share one and receive from it in turns.
template <class T> class pipeline : public std::ranges::view_base {
 public:
  using value_type = T;

  /// Holds nothing: reading from it throws `invalid_argument`, as from one that was moved from.
  pipeline() = default;
  explicit pipeline(detail::inlet<T> from) noexcept : from_(std::move(from)) {}
  pipeline(pipeline&&) noexcept = default;
  /// Ends the stream that was held, as the destructor does.
  pipeline& operator=(pipeline&&) noexcept = default;
  /// Closes, and waits until the threads of all stages have ended, also in a thread that was asked to end itself. A stage's
  /// function that neither returns nor waits keeps it waiting. Not while a thread receives.
  ~pipeline() = default;

  /// The next value; waits for one. Empty when the stream has ended, or was closed.
  /// @throws what a stage failed with; weft::cancelled; std::system_error(invalid_argument) when it holds nothing
  std::optional<T> receive() { return from_.receive(); }
  /// The same, waiting at most until `when`, or for `timeout`: then it is empty, too.
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> receive_until(const std::chrono::time_point<Clock, Duration>& when) {
    return from_.receive_by([&](channel<T>& out) { return out.receive_until(when); });
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return from_.receive_by([&](channel<T>& out) { return out.receive_for(timeout); });
  }
  /// The same, if there is one now.
  [[nodiscard]] std::optional<T> try_receive() {
    return from_.receive_by([](channel<T>& out) { return out.try_receive(); });
  }

  /// Reads no more: asks every stage before this one to end and returns at once. The branch of a `tee` only leaves it.
  /// Threads that receive get what is in the buffer, then an empty optional. Idempotent.
  void close() noexcept { from_.leave(); }

  /// All values that are left.
  [[nodiscard]] std::vector<T> to_vector() {
    std::vector<T> all;
    while (std::optional<T> value = receive()) all.push_back(std::move(*value));
    return all;
  }

  /// `for (T& value : stream)` receives until the stream ends. Once: what was read is gone.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;
    explicit iterator(pipeline& from) : from_(&from.from_), value_(from.receive()) {}
    [[nodiscard]] T& operator*() const noexcept { return *value_; }
    iterator& operator++() {
      value_.reset();
      if (std::optional<T> next = from_->receive()) value_.emplace(std::move(*next));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) noexcept { return !i.value_.has_value(); }

   private:
    detail::inlet<T>* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend struct detail::inlet_of<T>;
  detail::inlet<T> from_;
};

namespace detail {

/// What is written behind `|`: makes the next pipeline of one.
template <class Make> struct stage_adaptor { Make make; };
template <class Make> stage_adaptor(Make) -> stage_adaptor<Make>;

template <class T> struct inlet_of {
  static channel<T>& out(pipeline<T>& from) { return from.from_.out(); }
  static inlet<T> take(pipeline<T>& from) {
    static_cast<void>(out(from));  // throws where there is none
    return std::move(from.from_);
  }
};

template <class T> inline constexpr bool is_pipeline = false;
template <class T> inline constexpr bool is_pipeline<pipeline<T>> = true;
template <class T> inline constexpr bool holds_values<pipeline<T>> = true;
template <class T> inline constexpr bool is_channel = false;
template <class T> inline constexpr bool is_channel<channel<T>> = true;
template <class T> inline constexpr bool is_initializer_list = false;
template <class T> inline constexpr bool is_initializer_list<std::initializer_list<T>> = true;
template <class T> T value_of(const channel<T>&);
template <class T> T value_of(const pipeline<T>&);
template <class R>
concept plain_range = std::ranges::input_range<R> && !is_pipeline<std::remove_cvref_t<R>> && !is_channel<std::remove_cvref_t<R>>;

// What can be read from: a pipeline that is given away, or a channel that is lent.
template <class S>
concept is_stream = (is_pipeline<std::remove_cvref_t<S>> && !std::is_lvalue_reference_v<S>) ||
                    (is_channel<std::remove_cvref_t<S>> && std::is_lvalue_reference_v<S>);
/// The channel that it is, or that it points to.
template <class T> channel<T>& channel_of(channel<T>& one) { return one; }
template <class P> auto channel_of(const P& pointer) -> decltype(channel_of(*pointer)) { return channel_of(*pointer); }
template <class R>
concept names_channel = requires(R one) {
  channel_of(one);
};

void check_workers(const stage_options& how);
void check_branches(std::size_t count);

/// What the stage's threads are made of.
[[nodiscard]] inline attributes named(const stage_options& how, const char* name) {
  attributes made = how.threads;
  if (made.name.empty()) made.name = name;
  return made;
}

/// The stage's threads start; the pipeline is theirs to fill.
template <class T, class S> pipeline<T> begin_stage(std::shared_ptr<S> made, const attributes& how) {
  made->begin(how);
  channel<T>& out = made->out();
  return pipeline<T>(inlet<T>(std::move(made), out));
}

/// The pipeline that ends with one stage more.
template <class Out, class T, class Step>
pipeline<Out> append(pipeline<T> from, Step step, const stage_options& how, const char* name, bool ordered) {
  check_workers(how);
  using made = worker_stage<T, Out, Step>;
  return begin_stage<Out>(make_stage<made>(inlet_of<T>::take(from), std::move(step), how.workers, ordered, how.buffer),
                          named(how, name));
}

}  // namespace detail

// ---- where streams begin ----

/// A stream of what a range holds: files, numbers, lines of an input. One thread walks over it. A range given as an lvalue is
/// referred to and its values are copied; a container given as an rvalue is kept and emptied; a view is kept. A range that waits
/// must do so by weft's means.
template <detail::plain_range R> [[nodiscard]] auto from(R&& range, const stage_options& how = {}) {
  static_assert(!detail::is_initializer_list<std::remove_cvref_t<R>>, "weft::from: the list would be gone; say std::vector{…}");
  using T = std::ranges::range_value_t<R>;
  using fill = detail::range_source<R, T>;
  const auto held = [&] {
    if constexpr (std::is_lvalue_reference_v<R>) {
      return fill{std::addressof(range)};
    } else {
      return fill{std::move(range)};
    }
  };
  return detail::begin_stage<T>(detail::make_stage<detail::source_stage<T, fill>>(held(), how.buffer),
                                detail::named(how, "from"));
}

/// A stream of what is sent to `values`, until that is closed. Needs no thread. The pipeline owns the reading: it closes the
/// channel when it ends early, and nobody else should receive from it. The channel must outlive it.
template <class T> [[nodiscard]] pipeline<T> from(channel<T>& values) {
  return pipeline<T>(detail::inlet<T>(detail::make_stage<detail::channel_stage<T>>(values), values));
}
/// The stream itself, for code that takes a stream of any kind.
template <class T> [[nodiscard]] pipeline<T> from(pipeline<T>&& stream) { return std::move(stream); }

/// A stream of what `fill(out)` sends to the channel it is given; it ends when that returns.
/// `weft::generate<int>([](weft::channel<int>& out) { for (int n = 0;; ++n) out.send(n); })`
template <class T, std::invocable<channel<T>&> F> [[nodiscard]] pipeline<T> generate(F fill, const stage_options& how = {}) {
  return detail::begin_stage<T>(detail::make_stage<detail::source_stage<T, F>>(std::move(fill), how.buffer),
                                detail::named(how, "generate"));
}

// ---- what is done on the way ----

/// What stands behind `|`. To its left may be a pipeline (as an rvalue: a stage owns what it reads from), a channel, any input
/// range (as by `from`), or another of these: `const auto clean = stages::filter(valid) | stages::transform(trim);`
namespace stages {

/// What `fn(value)` returns, for every value.
template <class F> [[nodiscard]] auto transform(F fn, const stage_options& how = {}) {
  return detail::stage_adaptor{[fn = std::move(fn), how]<class T>(pipeline<T> from) mutable {
    static_assert(std::invocable<F&, T>, "stages::transform: the function must take the stream's values");
    using Out = std::remove_cvref_t<std::invoke_result_t<F&, T>>;
    static_assert(std::is_object_v<Out>, "stages::transform: the function returns nothing; stages::for_each is meant");
    return detail::append<Out>(std::move(from), detail::transform_step<F>{std::move(fn)}, how, "transform", how.ordered);
  }};
}

/// The values for which `keep(value)` is true.
template <class F> [[nodiscard]] auto filter(F keep, const stage_options& how = {}) {
  return detail::stage_adaptor{[keep = std::move(keep), how]<class T>(pipeline<T> from) mutable {
    static_assert(std::predicate<F&, const T&>, "stages::filter: the function must take the stream's values and return bool");
    return detail::append<T>(std::move(from), detail::filter_step<F>{std::move(keep)}, how, "filter", how.ordered);
  }};
}

/// Every element of the range that `fn(value)` returns, for every value; that may be a pipeline again, say the lines of a file.
/// Where in order, lazy ranges are walked over in order, by one worker at a time.
template <class F> [[nodiscard]] auto expand(F fn, const stage_options& how = {}) {
  return detail::stage_adaptor{[fn = std::move(fn), how]<class T>(pipeline<T> from) mutable {
    using Made = std::remove_cvref_t<std::invoke_result_t<F&, T>>;
    static_assert(std::ranges::input_range<Made>, "stages::expand: the function must return a range");
    return detail::append<std::ranges::range_value_t<Made>>(std::move(from), detail::expand_step<F>{std::move(fn)}, how, "expand",
                                                            how.ordered);
  }};
}

/// The same values; up to `count` of them may wait here, so that those before run ahead of those behind. Memory for them is
/// taken at once.
[[nodiscard]] inline auto buffer(std::size_t count) {
  return detail::stage_adaptor{[count]<class T>(pipeline<T> from) {
    return detail::append<T>(std::move(from), detail::buffer_step{}, {.buffer = count}, "buffer", false);
  }};
}

/// The end of a pipeline: calls `fn(value)` for every value and waits until all is done. The order of the calls is that of the
/// values; with several workers, that of their beginnings. @throws what a stage failed with; weft::cancelled
template <class F> [[nodiscard]] auto for_each(F fn, const stage_options& how = {}) {
  return detail::stage_adaptor{[fn = std::move(fn), how]<class T>(pipeline<T> from) mutable {
    static_assert(std::invocable<F&, T>, "stages::for_each: the function must take the stream's values");
    auto end = detail::append<std::monostate>(std::move(from), detail::for_each_step<F>{std::move(fn)}, how, "for_each", false);
    static_cast<void>(end.receive());
  }};
}

}  // namespace stages

namespace detail {

// The adaptor by value: one that is written in place may hold a function that can only be moved.
template <class T, class Make> auto operator|(pipeline<T>&& from, stage_adaptor<Make> next) { return next.make(std::move(from)); }
template <class T, class Make> auto operator|(pipeline<T>& from, stage_adaptor<Make> next) = delete;  // std::move it
template <class T, class Make> auto operator|(channel<T>& values, stage_adaptor<Make> next) {
  return next.make(weft::from(values));
}
/// Any range is a stream, too.
template <plain_range R, class Make> auto operator|(R&& range, stage_adaptor<Make> next) {
  return next.make(weft::from(std::forward<R>(range)));
}
/// Two of them are one.
template <class First, class Second> auto operator|(stage_adaptor<First> first, stage_adaptor<Second> second) {
  return stage_adaptor{[first = std::move(first), second = std::move(second)]<class T>(pipeline<T> from) mutable {
    return std::move(second).make(std::move(first).make(std::move(from)));
  }};
}

}  // namespace detail

// ---- streams that join and part ----

/// One stream of the values of all, which ends when all have. Those of one stream stay in their order; between streams they come
/// as they come. One thread for each.
template <class T> [[nodiscard]] pipeline<T> merge(std::vector<pipeline<T>> streams, const stage_options& how = {}) {
  std::vector<detail::inlet<T>> in;
  in.reserve(streams.size());
  for (pipeline<T>& each : streams) in.push_back(detail::inlet_of<T>::take(each));
  return detail::begin_stage<T>(detail::make_stage<detail::merge_stage<T>>(std::move(in), how.buffer),
                                detail::named(how, "merge"));
}
/// The same for channels and pipelines one by one: `merge(a, b, std::move(c))`.
template <class First, class... More>
requires(detail::is_stream<First>&&...&& detail::is_stream<More>) [[nodiscard]] auto merge(First&& first, More&&... more) {
  using T = decltype(detail::value_of(first));
  std::vector<pipeline<T>> streams;
  streams.reserve(1 + sizeof...(more));
  streams.push_back(from(std::forward<First>(first)));
  (streams.push_back(from(std::forward<More>(more))), ...);
  return merge(std::move(streams));
}
/// The same for a range of channels, or of pointers to them, plain or smart.
template <std::ranges::input_range R>
requires(detail::names_channel<std::ranges::range_reference_t<R>>)
    [[nodiscard]] auto merge(R&& channels, const stage_options& how = {}) {
  using T = decltype(detail::value_of(detail::channel_of(*std::ranges::begin(channels))));
  std::vector<pipeline<T>> streams;
  for (auto&& each : channels) streams.push_back(from(detail::channel_of(each)));
  return merge(std::move(streams), how);
}

/// `count` streams that each get every value, copied; the last that is left gets the value itself.
///
/// All go at the pace of the slowest, less what `how.buffer` lets the others run ahead of it. So each wants a thread of its own
/// to read it, and whoever reads one to its end before another waits for ever. A stream that is closed or destroyed is left out
/// from there on; when all are, the source ends. One thread. O(count) a value.
/// @throws std::system_error(invalid_argument) when `count` is 0
template <class T>
[[nodiscard]] std::vector<pipeline<T>> tee(pipeline<T> stream, std::size_t count, const stage_options& how = {}) {
  static_assert(std::is_copy_constructible_v<T>, "weft::tee: every stream gets a copy, so the values must be copyable");
  detail::check_branches(count);
  auto made = detail::make_stage<detail::tee_stage<T>>(detail::inlet_of<T>::take(stream), count, how.buffer);
  std::vector<pipeline<T>> branches;
  branches.reserve(count);
  for (std::size_t i = 0; i < count; ++i) branches.emplace_back(detail::inlet<T>(made, made->out(i), i));
  made->begin(detail::named(how, "tee"));
  return branches;
}
/// The same for a channel.
template <class T>
[[nodiscard]] std::vector<pipeline<T>> tee(channel<T>& values, std::size_t count, const stage_options& how = {}) {
  return tee(from(values), count, how);
}
/// The same for a number that the compiler knows: `auto [log, store] = weft::tee<2>(std::move(events));`
template <std::size_t Count, class S>
requires(Count > 0 && detail::is_stream<S>) [[nodiscard]] auto tee(S&& stream, const stage_options& how = {}) {
  auto branches = tee(from(std::forward<S>(stream)), Count, how);
  return [&]<std::size_t... I>(std::index_sequence<I...>) { return std::array{std::move(branches[I])...}; }
  (std::make_index_sequence<Count>());
}

/// The next value of `from` as a case of `select`. Where that leaves `into` empty the stream has ended: `receive` then throws
/// what a stage failed with, or is empty as well. @throws std::system_error(invalid_argument) when `from` holds nothing
template <class T> [[nodiscard]] select_case on_receive(pipeline<T>& from, std::optional<T>& into) {
  return on_receive(detail::inlet_of<T>::out(from), into);
}

}  // namespace weft
