// Channels: values handed from thread to thread, buffered or not.
//
// After C. A. R. Hoare, "Communicating Sequential Processes", CACM 21(8), 1978; close as in Go.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/detail/region.hpp"
#include "weft/error.hpp"

namespace weft {

namespace detail {
template <class T> struct channel_cases;  // weft/select.hpp
}

/// Thrown by `send` on a closed channel.
class channel_closed : public std::system_error {
 public:
  channel_closed();
};

/// Passes values of type T between the threads of one scheduler; many senders, many receivers, first come first served.
///
/// `channel<T>(n)` buffers up to n values; `channel<T>()` has no buffer: a send waits until a receiver has taken its value.
/// `close` ends it: senders get `channel_closed`, receivers first drain what is there, then get an empty optional.
/// Destroying a channel on which threads wait is an error that ends the program. So is using one on which threads of another
/// scheduler wait: schedulers talk by `weft::mailbox`.
///
/// A T is moved between two looks at the channel: its move constructor must not wait for anything (nor yield). Its destructor
/// may, also for this channel.
template <class T>
class channel {
  static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>, "weft::channel: T must be a movable object type");

 public:
  /// @param capacity values that fit before `send` waits; memory for them is taken here.
  explicit channel(std::size_t capacity = 0)
      : capacity_(capacity), buffer_(capacity == 0 ? nullptr : std::allocator<T>{}.allocate(capacity)) {}
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;
  ~channel();

  /// Hands over `value`; waits while the buffer is full (unbuffered: until a receiver came).
  /// @throws channel_closed (the value is lost), weft::cancelled (nobody got the value), operation_not_permitted off a
  ///         weft thread; what moving a T throws (no other value is lost).
  void send(T value) {
    if (send_until(value, never) != outcome::sent) throw channel_closed();
  }
  /// Sends if that needs no waiting. `value` is moved from only when it returns true.
  /// @throws channel_closed
  [[nodiscard]] bool try_send(T& value) { return try_send_now(value); }
  [[nodiscard]] bool try_send(T&& value) { return try_send_now(value); }

  /// Sends, waiting at most until `when` on any clock, as it goes when the wait begins. `value` is moved from only when it
  /// returns true.
  /// @throws channel_closed, weft::cancelled
  template <class Clock, class Duration>
  [[nodiscard]] bool try_send_until(T& value, const std::chrono::time_point<Clock, Duration>& when) {
    return try_send_deadline(value, detail::deadline_on(when));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_send_until(T&& value, const std::chrono::time_point<Clock, Duration>& when) {
    return try_send_until(value, when);
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_send_for(T& value, const std::chrono::duration<Rep, Period>& timeout) {
    return try_send_deadline(value, detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_send_for(T&& value, const std::chrono::duration<Rep, Period>& timeout) {
    return try_send_for(value, timeout);
  }

  /// Takes the next value; waits for one. Empty when the channel is closed and drained.
  /// @throws weft::cancelled; operation_not_permitted off a weft thread; what moving a T throws.
  std::optional<T> receive() { return receive_deadline(never); }
  /// Takes the next value if there is one now; empty otherwise (ask `closed()` to tell why).
  [[nodiscard]] std::optional<T> try_receive();
  /// Takes the next value, waiting at most until `when`; empty when closed and drained, or when the time came.
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> receive_until(const std::chrono::time_point<Clock, Duration>& when) {
    return receive_deadline(detail::deadline_on(when));
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return receive_deadline(detail::deadline_after(timeout));
  }

  /// Ends the channel: waiting senders get `channel_closed`, waiting receivers an empty optional. Idempotent.
  /// Off a weft thread it ends the program with a sentence when somebody waits.
  void close() noexcept;
  [[nodiscard]] bool closed() const noexcept { return closed_; }

  [[nodiscard]] std::size_t size() const noexcept { return count_; }          ///< values in the buffer now
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }   ///< 0: unbuffered

  /// `for (T& value : channel)` receives until the channel is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    explicit iterator(channel& from) : from_(&from), value_(from.receive()) {}
    [[nodiscard]] T& operator*() const noexcept { return *value_; }
    iterator& operator++() {
      std::optional<T> next = from_->receive();
      value_.reset();
      if (next.has_value()) value_.emplace(std::move(*next));
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& i, std::default_sentinel_t) noexcept { return !i.value_.has_value(); }

   private:
    channel* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend struct detail::channel_cases<T>;

  // A waiting receiver's slot is a std::optional<T>*, a waiting sender's a T*. After the wait the sender's slot is null
  // when the value was taken, and a receiver's optional is filled; neither is the case when the channel was closed.
  // Invariant: receivers wait only while the buffer is empty and no sender waits; senders only while it is full().
  using slot = std::optional<T>;

  enum class outcome : std::uint8_t { sent, late, closed };
  outcome send_until(T& value, time_point deadline);
  outcome send_with_care(T& value, time_point deadline);
  bool try_send_now(T& value);
  bool try_send_deadline(T& value, time_point deadline);
  std::optional<T> receive_deadline(time_point deadline);
  std::optional<T> receive_with_care(time_point deadline);
  outcome wait_for_room(T& value, time_point deadline);
  void wait_for_value(slot& out, time_point deadline);
  bool hand_to_receiver(T& value);
  void push(T& value);
  slot take_buffered();
  void drop_first();
  void take_into(slot& out);
  bool take_from_sender(slot& out);
  slot try_from_sender();
  void destroy_taken(T& cell) noexcept;
  void refill_from_senders() noexcept;
  // Cells that can be constructed in are those that hold no value and are not held_ either.
  [[nodiscard]] bool full() const noexcept { return (destroys_nothing ? count_ : count_ + held_) == capacity_; }
  // False off a weft thread and inside a region of blocking(): then the operation goes through with_processor().
  [[nodiscard]] static bool here() noexcept { return detail::current_thread() != nullptr; }

  static constexpr bool destroys_nothing = std::is_trivially_destructible_v<T>;

  std::size_t capacity_;
  T* buffer_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
  std::uint32_t destroying_ = 0;  // cells whose value was moved out and whose destructor has not returned: it may wait
  std::size_t held_ = 0;          // cells from the oldest of those up to head_
  bool closed_ = false;
  detail::wait_queue receivers_;
  detail::wait_queue senders_;
};

namespace detail {
[[noreturn]] void channel_destroyed_in_use() noexcept;
[[noreturn]] void throw_channel_closed();
}  // namespace detail

template <class T>
channel<T>::~channel() {
  if (!receivers_.empty() || !senders_.empty() || destroying_ != 0) [[unlikely]] detail::channel_destroyed_in_use();
  for (; count_ > 0; --count_) {
    std::destroy_at(buffer_ + head_);
    head_ = head_ + 1 == capacity_ ? 0 : head_ + 1;
  }
  if (buffer_ != nullptr) std::allocator<T>{}.deallocate(buffer_, capacity_);
}

template <class T>
bool channel<T>::hand_to_receiver(T& value) {
  detail::waiter* const w = receivers_.front();
  if (w == nullptr) return false;
  static_cast<slot*>(w->slot)->emplace(std::move(value));  // may throw: the receiver still waits then
  receivers_.remove(*w);
  detail::grant(*w);
  return true;
}

template <class T>
void channel<T>::push(T& value) {
  std::size_t at = head_ + count_;
  if (at >= capacity_) at -= capacity_;
  std::construct_at(buffer_ + at, std::move(value));
  ++count_;
}

// Places in the buffer became free: the values of the longest waiting senders move in. A move that throws leaves value and
// sender where they are; the next receiver tries again.
template <class T>
[[gnu::noinline]] void channel<T>::refill_from_senders() noexcept {
  do {
    detail::waiter* const w = senders_.front();
    if (w == nullptr) return;
    try {
      push(*static_cast<T*>(w->slot));
    } catch (...) {
      return;
    }
    w->slot = nullptr;
    senders_.remove(*w);
    detail::grant(*w);
  } while (!full());
}

// The value of `cell` was moved out, and the cell is no longer among those that hold one. While its destructor waits, other
// threads send and receive: nothing is put into the cell, nor into those behind it, which would come before it in the ring.
template <class T>
void channel<T>::destroy_taken(T& cell) noexcept {
  ++destroying_;
  ++held_;
  std::destroy_at(&cell);
  if (--destroying_ == 0) held_ = 0;
}

// The next value of a buffer that is not empty. A move that throws leaves the value where it is.
// Nobody is told where `out` lies, so that it can be returned in registers: through memory, the store of the value and that of
// its flag are loaded as one, which takes the processor 4 ns more.
template <class T>
typename channel<T>::slot channel<T>::take_buffered() {
  slot out(std::in_place, std::move(buffer_[head_]));
  drop_first();
  return out;
}

// Its value was moved out of the first cell.
template <class T>
[[gnu::always_inline]] inline void channel<T>::drop_first() {
  T& cell = buffer_[head_];
  head_ = head_ + 1 == capacity_ ? 0 : head_ + 1;
  --count_;
  if constexpr (!destroys_nothing) destroy_taken(cell);
  if (!senders_.empty() && (destroys_nothing || !full())) refill_from_senders();
}

// The next value where there is one, straight to where it is to be: a move that throws leaves it where it is.
template <class T>
void channel<T>::take_into(slot& out) {
  if (count_ == 0) return static_cast<void>(take_from_sender(out));
  out.emplace(std::move(buffer_[head_]));
  drop_first();
}

// Fills `out` with the value of the sender that has waited longest, if there is one. The same holds for a move that throws.
template <class T>
bool channel<T>::take_from_sender(slot& out) {
  detail::waiter* const w = senders_.front();
  if (w == nullptr) return false;
  out.emplace(std::move(*static_cast<T*>(w->slot)));
  w->slot = nullptr;
  senders_.remove(*w);
  detail::grant(*w);
  return true;
}

template <class T>
bool channel<T>::try_send_now(T& value) {
  if (!here()) [[unlikely]] return detail::with_processor("channel::try_send", [&] { return try_send_now(value); });
  if (closed_) [[unlikely]] detail::throw_channel_closed();
  if (hand_to_receiver(value)) return true;
  if (full()) return false;
  push(value);
  return true;
}

template <class T>
typename channel<T>::outcome channel<T>::send_until(T& value, time_point deadline) {
  if (!here() || closed_ || !receivers_.empty() || full()) return send_with_care(value, deadline);
  push(value);
  return outcome::sent;
}

// Whatever is not a plain push, in a function of its own: so the push saves no registers and has no frame. It is left by a jump
// (docs/decisions.md, 34).
template <class T>
[[gnu::noinline]] typename channel<T>::outcome channel<T>::send_with_care(T& value, time_point deadline) {
  if (!here()) [[unlikely]] return detail::with_processor("channel::send", [&] { return send_until(value, deadline); });
  if (closed_) [[unlikely]] return outcome::closed;
  if (hand_to_receiver(value)) return outcome::sent;
  if (!full()) {
    push(value);
    return outcome::sent;
  }
  return wait_for_room(value, deadline);
}

// Inlined into what calls them: every return on the way back from a wait is a misprediction (docs/decisions.md, 1).
template <class T>
[[gnu::always_inline]] inline typename channel<T>::outcome channel<T>::wait_for_room(T& value, time_point deadline) {
  detail::waiter self;
  self.what = "channel send";
  self.object = this;
  self.slot = &value;
  if (detail::park(senders_, self, deadline) == detail::wake_reason::cancelled) detail::throw_cancelled();
  if (self.slot == nullptr) return outcome::sent;
  return self.reason == detail::wake_reason::timed_out ? outcome::late : outcome::closed;  // the channel may be gone by now
}

template <class T>
bool channel<T>::try_send_deadline(T& value, time_point deadline) {
  const outcome how = send_until(value, deadline);
  if (how == outcome::closed) detail::throw_channel_closed();
  return how == outcome::sent;
}

template <class T>
std::optional<T> channel<T>::try_receive() {
  if (!here()) [[unlikely]] return detail::with_processor("channel::try_receive", [this] { return try_receive(); });
  return count_ > 0 ? take_buffered() : try_from_sender();
}

template <class T>
[[gnu::noinline]] typename channel<T>::slot channel<T>::try_from_sender() {
  slot out;
  take_from_sender(out);
  return out;
}

template <class T>
std::optional<T> channel<T>::receive_deadline(time_point deadline) {
  return here() && count_ > 0 ? take_buffered() : receive_with_care(deadline);
}

template <class T>
[[gnu::noinline]] std::optional<T> channel<T>::receive_with_care(time_point deadline) {
  if (!here()) [[unlikely]] return detail::with_processor("channel::receive", [&] { return receive_deadline(deadline); });
  slot out;
  if (!take_from_sender(out) && !closed_) [[unlikely]] wait_for_value(out, deadline);
  return out;
}

template <class T>
[[gnu::always_inline]] inline void channel<T>::wait_for_value(slot& out, time_point deadline) {
  detail::waiter self;
  self.what = "channel receive";
  self.object = this;
  self.slot = &out;
  if (detail::park(receivers_, self, deadline) == detail::wake_reason::cancelled) detail::throw_cancelled();
}

template <class T>
void channel<T>::close() noexcept {
  if (!here() && detail::on_weft_thread()) [[unlikely]] return detail::with_processor("channel::close", [this] { close(); });
  if (closed_) return;
  if (!here() && !(receivers_.empty() && senders_.empty())) [[unlikely]] detail::end_off_weft("channel::close");
  closed_ = true;
  while (detail::grant_first(receivers_)) {
  }
  while (detail::grant_first(senders_)) {
  }
}

}  // namespace weft
