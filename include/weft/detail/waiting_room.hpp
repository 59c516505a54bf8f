// Where threads of every kind wait for what a thread of any kind may bring: below futures, mailboxes and scheduler objects.
//
// What a `wait_queue` is to the threads of one scheduler, this is to weft threads of several and to plain kernel threads. It has
// a lock, which also guards whatever its owner says: what is waited for is looked at under it, so that nothing is missed. Weft
// threads have the lock inside the scheduler only, where they are neither preempted nor left.
#pragma once

#include <cstdint>
#include <mutex>

#include "weft/detail/park.hpp"

namespace weft::sched {
class inbox;
}

namespace weft::detail {

/// Whether the caller is a weft thread in its own code, which upcalls may interrupt: whoever takes a lock, or must not stop half
/// way, goes through `with_processor` there. In a region of blocking() it is false: that is a kernel thread like any other.
[[nodiscard]] bool in_interruptible_code() noexcept;

class waiting_room {
 public:
  /// Those whose waits are about to be ended, in the order of their waiting.
  class chosen {
   public:
    chosen() noexcept = default;
    chosen(const chosen&) = delete;
    chosen& operator=(const chosen&) = delete;

   private:
    friend class waiting_room;
    waiter* first_ = nullptr;  // linked by `next`
    waiter* last_ = nullptr;
    const sched::inbox* here_ = nullptr;  // of the scheduler whose processor the caller has, if any
  };

  /// What somebody waits for, and how.
  struct request {
    const char* call;                 // for errors: "future::wait"
    const char* what;                 // for reports: "future"
    const void* object;               // the same
    bool (*over)(void* of) noexcept;  // under the lock, before the wait: whether there is nothing to wait for
    void* of;
    time_point deadline = never;
    cancellation mode = cancellation::allowed;
    bool first = false;                    // the caller waited before, in vain: it comes before all others
    const sched::inbox* by_one = nullptr;  // only threads of this scheduler can end the wait; null: any kernel thread can
  };

  /// How a wait ended. Somebody who was chosen and whose time came meanwhile, or who was asked to end, is `chosen` as well: what
  /// it was chosen for may be for others now.
  struct verdict {
    wake_reason reason = wake_reason::granted;
    bool chosen = false;
  };

  waiting_room() noexcept = default;
  waiting_room(const waiting_room&) = delete;
  waiting_room& operator=(const waiting_room&) = delete;

  /// Waits until `r.over` says so or the caller is chosen: a weft thread parks, which lets others run; another kernel thread
  /// sleeps in the kernel. `how` says how it ended, also when this throws.
  /// @throws std::system_error(operation_not_permitted) in an observer of upcalls; std::bad_alloc when the deadline finds no
  ///         memory
  void wait(const request& r, verdict& how);

  // ---- for a thread that waits in several rooms (sched/select.cpp) ----

  /// Takes a place in the line; `seat.slot` points to a room_wake. @returns false when `over(of)`: then there is nothing to
  /// leave.
  [[nodiscard]] bool sit_down(waiter& seat, bool (*over)(void* of) noexcept, void* of, bool first = false);
  /// Leaves it. @returns false when somebody has taken it out of the line already.
  bool stand_up(waiter& seat);

  // ---- for those who end waits ----

  void lock() { lock_.lock(); }
  void unlock() { lock_.unlock(); }
  /// Under the lock.
  [[nodiscard]] bool empty() const noexcept { return waiters_.empty(); }
  void choose_first(chosen& into) noexcept;
  void choose_all(chosen& into) noexcept;
  /// Ends the waits of those chosen. Without the lock: they may destroy the room at once.
  static void wake(const chosen& those) noexcept;

 private:
  struct kernel_seat;

  void wait_in_thread(const request& r, verdict& how);
  void wait_in_kernel(const request& r, verdict& how);

  std::mutex lock_;
  wait_queue waiters_;
};

}  // namespace weft::detail
