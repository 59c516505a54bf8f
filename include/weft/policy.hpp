// The order in which ready threads run, and what of it each thread can say.
//
//   weft::run({.policy = weft::policies::priority}, [] {
//     weft::jthread background({.name = "index", .priority = -10}, build_index);
//     weft::this_thread::set_priority(5);
//   });
//
// A policy is asked at every switch: when the running thread waits, yields, ends or its time slice is over. Nobody is interrupted
// because somebody more urgent became ready; where that matters, threads have time slices (docs/preemption.md).
//
// A policy of your own is a class with three functions. Here one thread in turn of each of three groups:
//
//   class in_turn : public weft::policy {
//     weft::ready_list groups_[3];
//     unsigned turn_ = 0;
//     weft::ready_list& group_of(weft::ready_thread& t) { return groups_[t.priority()]; }   // 0, 1 or 2
//     void put(weft::ready_thread& t, came) noexcept override { group_of(t).push_back(t); }
//     void remove(weft::ready_thread& t) noexcept override { group_of(t).remove(t); }
//     weft::ready_thread* take() noexcept override {
//       for (int tries = 0; tries < 3; ++tries) {
//         if (weft::ready_thread* const t = groups_[turn_++ % 3].pop_front()) return t;
//       }
//       return nullptr;
//     }
//   };
//   weft::run({.policy = [] { return std::make_unique<in_turn>(); }}, …);
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "weft/error.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"
#include "weft/upcall.hpp"

namespace weft {

namespace sched {
class policy_node;
}

/// What a policy knows of a thread: from its spawn to its end always the same object.
class ready_thread {
 public:
  ready_thread(const ready_thread&) = delete;
  ready_thread& operator=(const ready_thread&) = delete;

  /// From `least_priority` to `most_priority`: its own, or that of a more urgent thread that waits for a mutex it holds.
  [[nodiscard]] int priority() const noexcept { return priority_; }
  /// When its work should be done, or that of a thread that waits for a mutex it holds, if that is sooner; `never`: nobody said.
  [[nodiscard]] time_point deadline() const noexcept { return deadline_; }
  /// As reports print them.
  [[nodiscard]] std::uint32_t number() const noexcept;
  [[nodiscard]] std::string_view name() const noexcept;

  // For the policy, as it likes. weft sets them to null and zero before a new thread's first `put`.
  ready_thread* next = nullptr;      ///< a `ready_list` uses these two while the thread is in it
  ready_thread* previous = nullptr;
  void* data = nullptr;
  std::uint64_t key = 0;

 private:
  friend class sched::policy_node;
  ready_thread() noexcept = default;
  ~ready_thread() = default;

  time_point deadline_ = never;
  time_point own_deadline_ = never;
  std::int16_t priority_ = 0;
  std::int16_t own_priority_ = 0;
};

/// A list of ready threads, for policies. Everything takes constant time; nothing throws or allocates.
class ready_list {
 public:
  ready_list() = default;
  ready_list(const ready_list&) = delete;
  ready_list& operator=(const ready_list&) = delete;

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] ready_thread* front() const noexcept { return first_; }
  [[nodiscard]] ready_thread* back() const noexcept { return last_; }

  void push_back(ready_thread& t) noexcept {
    t.next = nullptr;
    t.previous = last_;
    (last_ != nullptr ? last_->next : first_) = &t;
    last_ = &t;
  }
  void push_front(ready_thread& t) noexcept {
    t.previous = nullptr;
    t.next = first_;
    (first_ != nullptr ? first_->previous : last_) = &t;
    first_ = &t;
  }
  /// `t` is in this list.
  void remove(ready_thread& t) noexcept {
    (t.previous != nullptr ? t.previous->next : first_) = t.next;
    (t.next != nullptr ? t.next->previous : last_) = t.previous;
  }
  /// Null when the list is empty.
  ready_thread* pop_front() noexcept {
    ready_thread* const t = first_;
    if (t != nullptr) remove(*t);
    return t;
  }

 private:
  ready_thread* first_ = nullptr;
  ready_thread* last_ = nullptr;
};

/// Decides which ready thread runs next. One object for each scheduler, made by `options::policy`; only whoever holds that
/// scheduler's processor calls it. Its functions are called in the middle of a switch, on the stack of any thread: they may
/// neither block nor call weft, and need little stack.
class policy {
 public:
  /// How a thread became ready.
  enum class came : std::uint8_t {
    created,    ///< it is new
    woken,      ///< what it waited for has happened
    yielded,    ///< it let others run, or its time slice is over
    displaced,  ///< it had to give way to a child that runs first; the next among its equals
    changed,    ///< it was ready already; `remove` took it out before its priority or deadline changed
  };

  virtual ~policy() = default;

  /// `t` is ready. Each thread is put once, and then either taken or removed.
  virtual void put(ready_thread& t, came how) noexcept = 0;
  /// Takes out the thread that is to run next; null exactly when there is none.
  virtual ready_thread* take() noexcept = 0;
  /// Takes out `t`, wherever it is.
  virtual void remove(ready_thread& t) noexcept = 0;
  /// Whether `a` should run rather than `b`. A mutex goes to the most urgent of those who wait for it; among equals to the
  /// longest waiter. And whoever holds it inherits the priority and the deadline of those who wait, through any number of mutexes
  /// (L. Sha, R. Rajkumar, J. P. Lehoczky, "Priority Inheritance Protocols", IEEE Trans. Computers 39(9), 1990).
  [[nodiscard]] virtual bool more_urgent(const ready_thread& a, const ready_thread& b) const noexcept;
};

/// The orders there are. Each is what `options::policy` wants: a function that makes one.
namespace policies {

/// Threads run in the order in which they became ready. The default: built into the switch, costs nothing.
[[nodiscard]] std::unique_ptr<policy> fifo();
/// The same, and a new thread runs at once, its parent again when it waits or ends: as if every `attributes::start` were `now`.
/// Trees of threads then have as many stacks as they are deep. Costs nothing.
[[nodiscard]] std::unique_ptr<policy> child_first();
/// The highest `attributes::priority` first, in turn among equals: as POSIX SCHED_RR, a ready thread starves all below it.
/// Constant time, ≈ 10 ns more a switch.
[[nodiscard]] std::unique_ptr<policy> priority();
/// The earliest `attributes::deadline` first (C. L. Liu, J. W. Layland, "Scheduling Algorithms for Multiprogramming in a
/// Hard-Real-Time Environment", J. ACM 20(1), 1973), in turn among equals; threads without one come last. Time logarithmic in
/// the number of ready threads. A deadline that passes has no consequence.
[[nodiscard]] std::unique_ptr<policy> deadline();
/// The thread that became ready last runs first: its data are still in the caches. One that yields comes after all others.
/// Starves old ones when new ones keep coming.
[[nodiscard]] std::unique_ptr<policy> lifo();

}  // namespace policies

namespace this_thread {

/// Changes the calling thread's own priority (`attributes::priority`). Takes effect at the next switch. Has no effect, and is
/// not kept, where the policy is `fifo` or `child_first`. ≈ 5 ns.
/// @throws std::system_error: invalid_argument outside `least_priority` … `most_priority`, operation_not_permitted off a weft
///         thread
void set_priority(int priority);
/// The calling thread's own priority, without what it inherits. @throws operation_not_permitted off a weft thread
[[nodiscard]] int priority();

/// Changes when the work of the calling thread should be done (`attributes::deadline`); `weft::never`: no matter when. As
/// `set_priority`. @throws std::system_error(operation_not_permitted) off a weft thread
void set_deadline(time_point when);
/// @throws std::system_error(operation_not_permitted) off a weft thread
[[nodiscard]] time_point deadline();

}  // namespace this_thread
}  // namespace weft
