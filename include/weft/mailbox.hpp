// Mailboxes: values from any kernel thread to any other, weft threads on either side or on both.
//
//     weft::mailbox<job> jobs(64);
//     std::thread reader([&] { while (auto j = read_one()) jobs.send(*std::move(j)); jobs.close(); });  // sleeps while full
//     weft::run([&] { for (job& j : jobs) weft::thread([j = std::move(j)] { j.carry_out(); }).detach(); });  // parks while empty
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

#include "weft/channel.hpp"
#include "weft/detail/mailbox_ring.hpp"
#include "weft/detail/region.hpp"

namespace weft {

/// Passes values of type T between threads of every kind: weft threads of any scheduler, in regions of `blocking` too, and plain
/// kernel threads. Many senders, many receivers. A weft thread that waits parks, so that its scheduler's other threads run on; a
/// plain kernel thread sleeps in the kernel, after a short look where there is a second core. Verbs and `close` are those of
/// `weft::channel`, which is faster within one scheduler.
///
/// Order: values are received in the order in which their sends took their places; the values of one sender in its order. Who
/// waits is woken first come first served, but who comes just then may be faster: a woken thread that finds nothing keeps its
/// place in line.
///
/// It holds `capacity` values, one at least, and never more: a sender that is faster than its receivers waits for them. There is
/// no form without a bound, because then memory would be the bound: who must never wait uses `try_send`, or `poster::post`.
///
/// A T is moved on whichever thread sends or receives it. Its move constructor should not wait: receivers would wait for it. A
/// move that throws in `send` loses nothing: its place is free again when a receiver has passed it. One that throws in `receive`
/// loses that value, and no other.
///
/// A scheduler whose threads wait for a mailbox is never deadlocked, because any kernel thread may use it: when the last one
/// that would ends, it has to `close`. Whoever has received a value, or found the mailbox closed, may destroy it, though the
/// other side's call has not returned yet. Destroying a mailbox on which threads wait is an error that ends the program. After
/// fork() the child's mailbox is a copy that nobody else uses.
///
/// Cost: no memory is taken after its making. To send and to receive are two atomic instructions each and no lock while nobody
/// waits; some microseconds more where a kernel thread, or a scheduler, that sleeps must be woken, once for all it then finds.
/// Source: D. Vyukov, "Bounded MPMC queue", 1024cores.net, 2010; how it waits: weft/detail/mailbox_ring.hpp.
template <class T> class mailbox : private detail::mailbox_ring {
  static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>, "weft::mailbox: T must be a movable object type");

 public:
  /// @param capacity values that fit before `send` waits; memory for them is taken here.
  /// @throws std::system_error(invalid_argument) for 0; std::bad_alloc. Callable from any thread.
  explicit mailbox(std::size_t capacity) : mailbox_ring(capacity, sizeof(box)) {
    box* const made = std::allocator<box>{}.allocate(capacity);
    std::uninitialized_default_construct_n(made, capacity);
    cells_ = reinterpret_cast<std::byte*>(made);
  }
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;
  ~mailbox() {
    await_visitors();
    for (std::uint64_t position = 0; box* const left = take_full(position);) std::destroy_at(&left->value());
    std::allocator<box>{}.deallocate(static_cast<box*>(reinterpret_cast<cell*>(cells_)), capacity_);
  }

  /// Hands over `value`; waits while the mailbox is full.
  /// @throws channel_closed (the value is lost); weft::cancelled (nobody got the value); what moving a T throws;
  ///         operation_not_permitted when it has to wait in an observer of upcalls.
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
    return try_send_now(value) || try_send_deadline(value, detail::deadline_after(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_send_for(T&& value, const std::chrono::duration<Rep, Period>& timeout) {
    return try_send_for(value, timeout);
  }

  /// Takes the next value; waits for one. Empty when the mailbox is closed and drained.
  /// @throws weft::cancelled (no value is lost); what moving a T throws; operation_not_permitted as `send`.
  std::optional<T> receive() { return receive_deadline(never); }
  /// Takes the next value if there is one now; empty otherwise (ask `closed()` to tell why).
  [[nodiscard]] std::optional<T> try_receive() {
    if (!detail::begin_mailbox_call() && detail::in_interruptible_code()) [[unlikely]] {
      return detail::with_processor("mailbox::try_receive", [this] { return try_receive(); });
    }
    std::uint64_t position = 0;
    box* const from = take_full(position);
    return from != nullptr ? take(*from, position) : slot();
  }
  /// Takes the next value, waiting at most until `when`; empty when closed and drained, or when the time came.
  template <class Clock, class Duration>
  [[nodiscard]] std::optional<T> receive_until(const std::chrono::time_point<Clock, Duration>& when) {
    return receive_deadline(detail::deadline_on(when));
  }
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> receive_for(const std::chrono::duration<Rep, Period>& timeout) {
    return receive_deadline(detail::deadline_after(timeout));
  }

  /// Ends the mailbox: waiting senders get `channel_closed`; receivers get what is there, then an empty optional. Idempotent,
  /// from any thread, and never waits.
  void close() noexcept { mailbox_ring::close(); }
  [[nodiscard]] bool closed() const noexcept { return closed_already(); }

  /// Values in it, as of a moment of this call; those being moved in or out just then may count.
  [[nodiscard]] std::size_t size() const noexcept { return count(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  /// `for (T& value : mailbox)` receives until the mailbox is closed and drained.
  class iterator {
   public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_category = std::input_iterator_tag;
    explicit iterator(mailbox& from) : from_(&from), value_(from.receive()) {}
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
    mailbox* from_;
    mutable std::optional<T> value_;
  };
  [[nodiscard]] iterator begin() { return iterator(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }

 private:
  using slot = std::optional<T>;
  enum class outcome : std::uint8_t { sent, not_now, closed };

  struct box : cell {
    [[nodiscard]] T* place() noexcept { return reinterpret_cast<T*>(bytes); }
    [[nodiscard]] T& value() noexcept { return *std::launder(place()); }
    alignas(T) std::byte bytes[sizeof(T)];
  };

  // Takes the value out of a cell for good, also when moving it throws, and hands the cell back to the senders.
  struct emptied {
    mailbox& of;
    box& from;
    std::uint64_t phase;
    ~emptied() {
      std::destroy_at(&from.value());
      of.hand_on(from, phase);
    }
  };

  // A move that throws leaves a hollow in its place, which receivers step over.
  [[gnu::always_inline]] outcome push(T& value) {
    std::uint64_t position = 0;
    cell* const c = take_cell(senders_, position);
    if (c == nullptr) return (position & closed_bit) != 0 ? outcome::closed : outcome::not_now;
    box& to = static_cast<box&>(*c);
    const std::uint64_t phase = 2 * turn(position);
    if constexpr (std::is_nothrow_move_constructible_v<T>) {
      std::construct_at(to.place(), std::move(value));
    } else {
      try {
        std::construct_at(to.place(), std::move(value));
      } catch (...) {
        hand_on(to, phase, hollow);
        throw;
      }
    }
    hand_on(to, phase);
    return outcome::sent;
  }

  // The next cell with a value; the caller then owns it.
  [[gnu::always_inline]] box* take_full(std::uint64_t& position) noexcept {
    for (;;) {
      cell* const c = take_cell(receivers_, position);
      if constexpr (!std::is_nothrow_move_constructible_v<T>) {
        if (c != nullptr && (c->word.load(std::memory_order_relaxed) & hollow) != 0) {
          hand_on(*c, 2 * turn(position) + 1);
          continue;
        }
      }
      return static_cast<box*>(c);
    }
  }

  [[gnu::always_inline]] slot take(box& from, std::uint64_t position) {
    const emptied at_the_end{*this, from, 2 * turn(position) + 1};
    return slot(std::in_place, std::move(from.value()));
  }

  bool try_send_now(T& value) {
    if (!detail::begin_mailbox_call() && detail::in_interruptible_code()) [[unlikely]] {
      return detail::with_processor("mailbox::try_send", [&] { return try_send_now(value); });
    }
    const outcome how = push(value);
    if (how == outcome::closed) [[unlikely]]
      detail::throw_channel_closed();
    return how == outcome::sent;
  }

  outcome send_until(T& value, time_point deadline) {
    if (!detail::begin_mailbox_call()) [[unlikely]]
      return send_with_care(value, deadline);
    const outcome how = push(value);
    return how == outcome::not_now ? send_with_care(value, deadline) : how;
  }

  // Whatever is not a plain push, left by a jump as in a channel (docs/decisions.md, 34).
  [[gnu::noinline]] outcome send_with_care(T& value, time_point deadline) {
    if (detail::in_interruptible_code()) {
      return detail::with_processor("mailbox::send", [&] { return send_with_care(value, deadline); });
    }
    errand mine(*this, senders_);
    detail::wake_reason why = detail::wake_reason::granted;
    for (bool again = false;; again = true) {
      const outcome how = push(value);
      if (how != outcome::not_now || why == detail::wake_reason::timed_out) return how;
      why = wait(senders_, deadline, again, mine);
    }
  }

  bool try_send_deadline(T& value, time_point deadline) {
    const outcome how = send_until(value, deadline);
    if (how == outcome::closed) detail::throw_channel_closed();
    return how == outcome::sent;
  }

  std::optional<T> receive_deadline(time_point deadline) {
    if (!detail::begin_mailbox_call()) [[unlikely]]
      return receive_with_care(deadline);
    std::uint64_t position = 0;
    box* const from = take_full(position);
    return from != nullptr ? take(*from, position) : receive_with_care(deadline);
  }

  [[gnu::noinline]] std::optional<T> receive_with_care(time_point deadline) {
    if (detail::in_interruptible_code()) {
      return detail::with_processor("mailbox::receive", [&] { return receive_with_care(deadline); });
    }
    errand mine(*this, receivers_);
    detail::wake_reason why = detail::wake_reason::granted;
    for (bool again = false;; again = true) {
      std::uint64_t position = 0;
      if (box* const from = take_full(position); from != nullptr) return take(*from, position);
      if (drained() || why == detail::wake_reason::timed_out) return {};
      why = wait(receivers_, deadline, again, mine);
    }
  }
};

}  // namespace weft
