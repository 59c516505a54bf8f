// How the wait of a weft thread in one or several rooms is ended, from wherever that is done.
//
// The thread has a seat in the line of each room, and one waiter of its own, which its scheduler can end for a deadline or a
// cancellation without the rooms' locks. All of it lies on the thread's stack.
#pragma once

#include <atomic>

#include "sched/inbox.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/park.hpp"

namespace weft::detail {

/// What the seats of one wait have in common; their `slot` points to it. Kernel threads, which sleep otherwise, have none.
struct room_wake {
  room_wake(sched::scheduler& s, waiter& ends) noexcept : home(s.mail().get()), wait(ends) { post.wakes = &ends; }

  /// For the thread, once it has left all its seats: a post that is on its way must arrive before the stack goes on.
  void await_post(wait_queue& line) noexcept {
    while (posted.load(std::memory_order_relaxed) && !post.arrived) {
      static_cast<void>(park(line, wait, never, cancellation::shielded));
    }
  }

  sched::inbox* const home;
  waiter& wait;  // linked as long as nobody has ended it
  sched::inbox::post post;
  std::atomic<bool> posted{false};  // `post` is on its way. Set under the lock of a room in whose line the thread has a seat
};

/// A wait that threads elsewhere may end, while it lasts.
class open_wait {
 public:
  /// Null: they may not.
  explicit open_wait(sched::scheduler* of) noexcept : scheduler_(of) {
    if (scheduler_ != nullptr) scheduler_->begin_open_wait();
  }
  ~open_wait() {
    if (scheduler_ != nullptr) scheduler_->end_open_wait();
  }
  open_wait(const open_wait&) = delete;
  open_wait& operator=(const open_wait&) = delete;

 private:
  sched::scheduler* scheduler_;
};

}  // namespace weft::detail
