// Values that each thread has its own of: what thread_local is for kernel threads.
//
//     weft::local<std::string> request([] { return std::string("none"); });
//     …
//     *request = "GET /";             // this thread's
//     log("in ", *request);
//
// A thread_local variable belongs to the kernel thread, so all threads of a scheduler share it; and whoever keeps its address
// over a region of weft::blocking may find another one there.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "weft/detail/local_value.hpp"

namespace weft {

/// Asks a `local` to be inherited.
struct inherit_t {
  explicit inherit_t() = default;
};
inline constexpr inherit_t inherit{};

template <class T> class bound;

namespace detail {

/// A thread's value, and where the table points.
template <class T> struct value_of_local : local_value {
  T value;
  // The value is what `make(args...)` returns: copied nowhere.
  template <class Make, class... Args> explicit value_of_local(const Make& make, const Args&... args) : value(make(args...)) {}

  static local_value* as_found(std::unique_ptr<value_of_local> made) noexcept {
    made->destroy = [](local_value& self) noexcept { delete static_cast<value_of_local*>(&self); };
    return made.release();
  }
};

/// How a local makes its first value.
template <class T> class local_beginning {
 public:
  local_beginning() = default;
  local_beginning(const local_beginning&) = delete;
  local_beginning& operator=(const local_beginning&) = delete;
  virtual ~local_beginning() = default;
  [[nodiscard]] virtual local_value* make() const = 0;
};

/// By a function.
template <class T, class F> class local_beginning_by final : public local_beginning<T> {
 public:
  explicit local_beginning_by(F fn) : fn_(std::move(fn)) {}
  local_value* make() const override { return value_of_local<T>::as_found(std::make_unique<value_of_local<T>>(fn_)); }

 private:
  F fn_;
};

/// How a child's value is made of its parent's: by a function.
template <class T, class F> class local_heritage_by final : public local_heritage {
 public:
  explicit local_heritage_by(F fn) : fn_(std::move(fn)) {}
  local_value* derive(const local_value& parents) const override {
    const T& value = static_cast<const value_of_local<T>&>(parents).value;
    return value_of_local<T>::as_found(std::make_unique<value_of_local<T>>(fn_, value));
  }

 private:
  F fn_;
};

}  // namespace detail

/// A variable of which every weft thread has its own, like `thread_local`.
///
/// A thread's value is made when the thread first asks for it, and destroyed at the thread's end, by the thread: when its
/// function and its arguments are gone, and before anybody who waits for its exit goes on (`join`, `notify_all_at_thread_exit`,
/// `set_value_at_thread_exit`). What was made last is destroyed first. These destructors may wait, undisturbed by a
/// cancellation, and use other locals, which are then made anew if they are gone already, and destroyed in their turn. An
/// exception that leaves one calls `std::terminate`.
///
/// It is the thread's wherever that runs: in regions of `blocking`, with time slices, on any kernel thread. Other threads never
/// touch it, so it needs no lock; a reference to it may be handed to them as to any object. `exit` destroys no thread's values.
///
/// The local itself is made and destroyed by anybody, on weft threads or not, as a global or otherwise. Values outlive it: each
/// is destroyed when its thread ends. There may be 4,096 locals at a time.
///
/// Off a weft thread (kernel threads, a child made by fork, upcall observers) there is no value: `get` throws.
///
/// Cost: ≈ 20 instructions to get a value that is there, whatever the number of locals: the thread's record leads to a table
/// of pointers, in which the local has a place while it lives. The first value of a thread takes an allocation for the value (48
/// bytes besides it) and one for the table, which has room for four locals, and grows to as many as there are. Threads that use
/// none pay one look at a pointer at their end.
template <class T> class local {
  static_assert(std::is_object_v<T> && !std::is_array_v<T> && !std::is_const_v<T>, "weft::local: of a value that can change");

 public:
  /// Values begin as `T()`.
  local() requires std::default_initializable<T> : local([] { return T(); }) {}
  /// Values begin as what `initial()` returns, called by the thread whose value it is; several kernel threads may call it at
  /// once. It may wait; when it throws there is no value, and the exception leaves whoever asked.
  /// @throws std::bad_alloc; std::system_error(resource_unavailable_try_again) when there are 4,096 locals already
  template <class F>
  requires std::invocable<const F&>
  explicit local(F initial) : name_(false), beginning_(std::make_unique<detail::local_beginning_by<T, F>>(std::move(initial))) {}

  /// The same, and inherited: a thread begins with a copy of its parent's value, if the parent has one when it starts the thread
  /// (`thread`, `jthread`, `nursery`, `async`). The parent makes the copy, before the thread is there; what that throws leaves
  /// the call that starts it. A child's values count as made in the order in which the parent's were. What a `poster` posts has
  /// no parent, nor has "main". Once one such local exists, every thread that is started looks for values to copy: one predicted
  /// branch until then, and a look at a pointer from then on for parents without values.
  explicit local(inherit_t how) requires std::default_initializable<T> && std::copy_constructible<T>
      : local(how, [] { return T(); }) {}
  template <class F>
  requires std::invocable<const F&> && std::copy_constructible<T> local(inherit_t how, F initial)
      : local(how, std::move(initial), [](const T& parents) { return parents; }) {}
  /// The same, where the child begins with `derived(parent's value)`, called by the parent.
  template <class F, class G>
  requires std::invocable<const F&> && std::invocable<const G&, const T&> local(inherit_t, F initial, G derived)
      : name_(true),
        beginning_(std::make_unique<detail::local_beginning_by<T, F>>(std::move(initial))),
        heritage_(std::make_shared<const detail::local_heritage_by<T, G>>(std::move(derived))) {}

  local(const local&) = delete;
  local& operator=(const local&) = delete;
  ~local() = default;

  /// The calling thread's value; it is made if need be. Valid until the thread's end, or that of the scope of a `bound`.
  /// @throws what making it throws; std::system_error: operation_not_permitted off a weft thread, resource_deadlock_would_occur
  ///         where the value is being made and asks for itself; std::bad_alloc
  [[nodiscard]] T& get() {
    if (T* const there = get_if(); there != nullptr) [[likely]]
      return *there;
    return make();
  }
  [[nodiscard]] T& operator*() { return get(); }
  [[nodiscard]] T* operator->() { return std::addressof(get()); }

  /// The calling thread's value, or null when it has none yet; null off a weft thread.
  [[nodiscard]] T* get_if() noexcept {
    detail::local_value* const there = detail::find_local_value(name_);
    return there == nullptr ? nullptr : std::addressof(static_cast<detail::value_of_local<T>*>(there)->value);
  }
  [[nodiscard]] bool has_value() const noexcept { return detail::find_local_value(name_) != nullptr; }

  /// Gives the calling thread's value; where it has none yet the initial one is not made. @throws as get, what assigning throws
  void set(T value) requires std::movable<T> {
    if (T* const there = get_if(); there != nullptr) {
      *there = std::move(value);
      return;
    }
    detail::local_making here(name_);
    finish(here, held::as_found(std::make_unique<held>([&] { return std::move(value); })));
  }

 private:
  friend class bound<T>;
  using held = detail::value_of_local<T>;

  [[gnu::noinline]] T& make() {
    detail::local_making here(name_);
    return finish(here, beginning_->make());
  }
  T& finish(detail::local_making& here, detail::local_value* made) noexcept {
    made->heritage = heritage_;
    here.done(*made);
    return static_cast<held*>(made)->value;
  }

  const detail::local_name name_;
  const std::unique_ptr<const detail::local_beginning<T>> beginning_;
  const std::shared_ptr<const detail::local_heritage> heritage_;
};

/// While one exists, a local of the calling thread has another value; then it has its former one again, or none, if it had none.
/// Children that are started meanwhile inherit the bound one.
///
///     const weft::bound here(request, "GET /");
///
/// An object of a block: made and destroyed by the same thread, the last one first; the local must outlive it. Otherwise it ends
/// the program with a sentence. No allocation, unless it is the thread's first use of a local.
template <class T> class bound {
 public:
  /// @throws what making the value throws; std::system_error(operation_not_permitted) off a weft thread; std::bad_alloc
  template <class U = T>
  requires std::constructible_from<T, U> bound(local<T>& in, U&& value) : value_([&] { return T(std::forward<U>(value)); }) {
    value_.heritage = in.heritage_;
    detail::bind_local_value(in.name_, value_);
  }
  ~bound() { detail::unbind_local_value(value_); }
  bound(const bound&) = delete;
  bound& operator=(const bound&) = delete;

 private:
  detail::value_of_local<T> value_;
};

template <class T, class U> bound(local<T>&, U&&) -> bound<T>;

}  // namespace weft
