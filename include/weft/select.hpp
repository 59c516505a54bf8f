// Waiting for the first of several things: values, room for values, permits, results, a point in time.
//
// After E. W. Dijkstra, "Guarded Commands", CACM 18(8), 1975, and Go's select.
//
//     std::optional<int> job;
//     switch (weft::select(weft::on_receive(jobs, job), weft::on_receive(quit, stop), weft::on_timeout(1s))) {
//       case 0: …  // `job` holds a value, or is empty because `jobs` was closed
//       case 1: …
//       case 2: …  // a second has passed
//     }
#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "weft/channel.hpp"
#include "weft/semaphore.hpp"

namespace weft {

class select_case;
template <class R> class future;
template <class R> class shared_future;

namespace detail {

class selection;
class future_state;

// A waiter that is one of several of its thread. Only its selection makes them. That of a result is a seat in the list of those
// who wait for it (room_wake.hpp), which is not the scheduler's alone.
struct select_waiter : waiter {
  selection* of = nullptr;
  select_case* stands_for = nullptr;  // null: for all of them
};

struct result_case;
struct room_wake;
struct select_result;

// What a kind of case does. All are called on a weft thread that holds the processor.
struct case_kind {
  const char* what;
  void (*prepare)(select_case&);               // before anything is looked at; null: nothing to do
  bool (*ready)(const select_case&) noexcept;  // whether carry_out would not wait; null: of times and otherwise()
  void (*carry_out)(select_case&);
  wait_queue* (*line)(select_case&) noexcept;  // where to wait for it
  void (*settle)(select_case&);                // after it was granted to a waiter; null: nothing to do
};

extern const case_kind at_a_time;
extern const case_kind at_once;
extern const case_kind at_a_result;

}  // namespace detail

/// One of the things that `select` may wait for. Made by the functions below, and used up by nothing: the same list may be
/// selected from again. What it refers to must outlive the select.
class select_case {
 public:
  /// A case that is never ready: to leave one out of a list without moving the others.
  select_case() noexcept {}
  select_case(const select_case& other) noexcept
      : kind_(other.kind_), object_(other.object_), place_(other.place_), when_(other.when_) {}
  select_case& operator=(const select_case& other) noexcept {
    kind_ = other.kind_;
    object_ = other.object_;
    place_ = other.place_;
    when_ = other.when_;
    return *this;
  }

 private:
  friend class detail::selection;
  template <class T> friend struct detail::channel_cases;
  friend struct detail::semaphore_case;
  friend struct detail::result_case;
  friend struct detail::select_result;
  template <class Rep, class Period> friend select_case on_timeout(const std::chrono::duration<Rep, Period>& timeout);
  template <class Clock, class Duration> friend select_case on_time(const std::chrono::time_point<Clock, Duration>& when);
  friend select_case otherwise() noexcept;

  select_case(const detail::case_kind& kind, void* object, void* place) noexcept
      : kind_(&kind), object_(object), place_(place) {}
  select_case(const detail::case_kind& kind, time_point when) noexcept : kind_(&kind), when_(when) {}

  const detail::case_kind* kind_ = nullptr;  // null: never ready
  void* object_ = nullptr;                   // the channel, semaphore, future_state, …
  void* place_ = nullptr;                    // the value to send, or where the one received goes
  time_point when_ = never;
  bool in_line_ = false;  // `waiter_` was made, for the wait that is under way
  union {
    detail::select_waiter waiter_;  // not made before it is needed: it is most of a case
  };
};

namespace detail {

// One call of select, in the frame of its caller: `run` ends in the switch, by a jump, and the thread resumes behind it
// (docs/decisions.md, 1 and 45).
class selection {
 public:
  explicit selection(std::span<select_case> cases) noexcept : cases_(cases) {}
  selection(const selection&) = delete;
  selection& operator=(const selection&) = delete;

  // Carries out a case that is ready, or waits for one.
  void run();
  // Which one it was. @throws what its case does; weft::cancelled
  std::size_t result() {
    if (chosen_ == nullptr) settle();
    return static_cast<std::size_t>(chosen_ - cases_.data());
  }

  // One of its waiters is granted, or its deadline or a cancellation came. @returns the waiter that stands for all.
  waiter& decide(waiter& ended) noexcept;
  // "select of channel receive 0x…, time": what it waits for.
  [[nodiscard]] std::string text() const;

 private:
  void look(bool prepared);
  void note(select_case& c) noexcept;
  void prepare();
  void run_in_region();
  void wait();
  bool join_lines();
  void wait_for_results_too();
  select_case* sit_down(room_wake& wake, bool& from_elsewhere) noexcept;
  select_case* draw_result() noexcept;
  void settle();

  std::span<select_case> cases_;
  select_case* chosen_ = nullptr;
  select_case* next_time_ = nullptr;  // the first of those with the earliest time
  select_case* otherwise_ = nullptr;  // the first of its kind
  select_case* ended_ = nullptr;
  select_waiter* any_result_ = nullptr;  // while it waits for results
  select_waiter whole_;
  wait_queue own_line_;
};

}  // namespace detail

/// Waits until one of `cases` can be carried out, carries out that one and no other, and returns its index.
///
/// If several can be, one is drawn by lot. If none can be and there is an `otherwise()`, that one is chosen. Every optional
/// given to `on_receive` is emptied first; the one of the chosen case is filled, or stays empty when the channel is closed and
/// drained. A channel may occur in several cases, and several selects may wait for the same things: each value, room and permit
/// goes to one; a result stays where it is, for all of them. Without cases it waits for ever. As long as a result may come from
/// another kernel thread, an idle scheduler waits instead of reporting a deadlock.
///
/// @throws channel_closed when the chosen case is a send and the channel is closed; weft::cancelled (nothing was carried out);
///         operation_not_permitted off a weft thread; what moving the value throws (it stays where it was);
///         std::bad_alloc when a time is among the cases and there is no memory for it.
/// Cost: O(cases), once before and once after the wait, whatever happens meanwhile.
inline std::size_t select(std::span<select_case> cases) {
  detail::selection one(cases);
  one.run();
  return one.result();
}

/// The same: `select(on_receive(a, x), on_timeout(1s))`.
template <std::same_as<select_case>... Cases> std::size_t select(Cases... cases) {
  std::array<select_case, sizeof...(Cases)> all{cases...};
  return select(std::span<select_case>(all));
}

namespace detail {

template <class T> struct channel_cases {
  using slot = std::optional<T>;
  static channel<T>& of(const select_case& c) noexcept { return *static_cast<channel<T>*>(c.object_); }

  static constexpr bool plain = std::is_trivially_destructible_v<T>;  // emptying calls nobody, so the look may do it

  static void empty(select_case& c) { static_cast<slot*>(c.place_)->reset(); }
  static bool has_value(const select_case& c) noexcept {
    if constexpr (plain) static_cast<slot*>(c.place_)->reset();
    return of(c).count_ > 0 || !of(c).senders_.empty() || of(c).closed_;
  }
  static void receive(select_case& c) { of(c).take_into(*static_cast<slot*>(c.place_)); }
  static wait_queue* receivers(select_case& c) noexcept { return &of(c).receivers_; }

  static bool has_room(const select_case& c) noexcept {
    return of(c).closed_ || !of(c).receivers_.empty() || !of(c).full();
  }
  static void send(select_case& c) { static_cast<void>(of(c).try_send(*static_cast<T*>(c.place_))); }
  static wait_queue* senders(select_case& c) noexcept { return &of(c).senders_; }
  // Whoever takes the value clears the slot; a close does not.
  static void sent(select_case& c) {
    if (c.waiter_.slot != nullptr) throw_channel_closed();
  }

  static constexpr case_kind receiving{"channel receive", plain ? nullptr : empty, has_value, receive, receivers, nullptr};
  static constexpr case_kind sending{"channel send", nullptr, has_room, send, senders, sent};

  static select_case on_receive(channel<T>& from, slot& into) noexcept { return {receiving, &from, &into}; }
  static select_case on_send(channel<T>& to, T& value) noexcept { return {sending, &to, &value}; }
};

// The same for a permit.
struct semaphore_case {
  static semaphore_base& of(const select_case& c) noexcept { return *static_cast<semaphore_base*>(c.object_); }

  static bool has_permit(const select_case& c) noexcept { return of(c).count_ > 0; }
  static void take(select_case& c) { --of(c).count_; }
  static wait_queue* waiters(select_case& c) noexcept { return &of(c).waiters_; }

  static constexpr case_kind acquiring{"semaphore", nullptr, has_permit, take, waiters, nullptr};

  template <std::ptrdiff_t Max> static select_case on_acquire(counting_semaphore<Max>& from) noexcept {
    return {acquiring, static_cast<semaphore_base*>(&from), nullptr};
  }
};

// The same for a result.
struct result_case {
  static select_case on(future_state* of) noexcept {
    return of == nullptr ? select_case() : select_case(at_a_result, of, nullptr);
  }
};

}  // namespace detail

/// The next value of `from`, into `into`.
template <class T> [[nodiscard]] select_case on_receive(channel<T>& from, std::optional<T>& into) noexcept {
  return detail::channel_cases<T>::on_receive(from, into);
}
/// The same, or a case that is never ready when `from` is null.
template <class T> [[nodiscard]] select_case on_receive(channel<T>* from, std::optional<T>& into) noexcept {
  return from == nullptr ? select_case() : on_receive(*from, into);
}

/// Sending `value` to `to`. It is moved from only when this case is chosen.
template <class T> [[nodiscard]] select_case on_send(channel<T>& to, std::type_identity_t<T>& value) noexcept {
  return detail::channel_cases<T>::on_send(to, value);
}
/// The same for a temporary: it must live until the select is over, as it does in the call `select(on_send(to, f()), …)`.
template <class T> [[nodiscard]] select_case on_send(channel<T>& to, std::type_identity_t<T>&& value) noexcept {
  return detail::channel_cases<T>::on_send(to, value);
}
/// The same, or a case that is never ready when `to` is null.
template <class T> [[nodiscard]] select_case on_send(channel<T>* to, std::type_identity_t<T>& value) noexcept {
  return to == nullptr ? select_case() : on_send(*to, value);
}
/// The same for a temporary.
template <class T> [[nodiscard]] select_case on_send(channel<T>* to, std::type_identity_t<T>&& value) noexcept {
  return to == nullptr ? select_case() : on_send(*to, value);
}

/// A permit of `from`.
template <std::ptrdiff_t Max> [[nodiscard]] select_case on_acquire(counting_semaphore<Max>& from) noexcept {
  return detail::semaphore_case::on_acquire(from);
}

/// The result of `of`: when this is chosen, `of.get()` waits for nobody. It may be given by a thread of any kind. A case that is
/// never ready when `of` is not valid(); always ready where a deferred function makes the result, which is called in `get`. `of`
/// stays as it is; until the select is over it must not be moved from, assigned to or destroyed. Cost: as a future's wait for
/// each.
template <class R> [[nodiscard]] select_case on_ready(const future<R>& of) noexcept {
  return detail::result_case::on(state_of(of));
}
/// The same. Many threads may wait for one result.
template <class R> [[nodiscard]] select_case on_ready(const shared_future<R>& of) noexcept {
  return detail::result_case::on(state_of(of));
}

/// The time `timeout` from now: from when this is called. @throws operation_not_permitted off a weft thread.
template <class Rep, class Period> [[nodiscard]] select_case on_timeout(const std::chrono::duration<Rep, Period>& timeout) {
  return {detail::at_a_time, detail::deadline_after(timeout, detail::now("on_timeout"))};
}
/// The time `when` on any clock, as that goes when this is called.
template <class Clock, class Duration>
[[nodiscard]] select_case on_time(const std::chrono::time_point<Clock, Duration>& when) {
  return {detail::at_a_time, detail::deadline_on(when)};
}

/// What is chosen when nothing else can be carried out now: with it, `select` does not wait.
[[nodiscard]] inline select_case otherwise() noexcept { return {detail::at_once, never}; }

}  // namespace weft
