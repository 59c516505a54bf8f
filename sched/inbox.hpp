// The inbox: the one way into a scheduler from other kernel threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "weft/detail/park.hpp"
#include "weft/upcall.hpp"

namespace weft::sched {

/// Two lock-free stacks of what other kernel threads push: functions to run, which the scheduler takes whole and uses bit by bit,
/// and waits to end. They are apart because a function's turn may be long in coming, where there is a policy, and the thread whose
/// wait is to end may be the most urgent.
///
/// Invariant: a push on an empty stack wakes the source, so whatever is in it is seen before or at the end of the next wait.
/// Once it refuses it refuses for good, and `refuse` returns only when no poster is still inside `push`: the source may die then.
class inbox {
 public:
  struct post {
    post* next = nullptr;
    std::function<void()> fn;
    detail::waiter* wakes = nullptr;  // instead of `fn`: whose wait it ends. It is then the waiting thread's own
    bool arrived = false;             // set by the scheduler: from here on nobody but the waiting thread knows of it
  };

  explicit inbox(upcall::source& wakes) : source_(&wakes) {}
  ~inbox();
  inbox(const inbox&) = delete;
  inbox& operator=(const inbox&) = delete;

  /// From any kernel thread. @returns false when the scheduler has ended. @throws std::bad_alloc
  bool push(std::function<void()> fn) { return push(std::make_unique<post>(post{nullptr, std::move(fn)})); }
  /// The same for one that was made in advance.
  bool push(std::unique_ptr<post> node) noexcept;
  /// Ends the wait of `node.wakes`. The thread that waits keeps `node` alive until it has arrived, which is why the scheduler
  /// cannot have ended.
  void push_wake(post& node) noexcept { static_cast<void>(link(wakes_, node)); }

  /// True when there are waits to end. One relaxed load.
  [[nodiscard]] bool has_wakes() const noexcept { return wakes_.load(std::memory_order_relaxed) != nullptr; }
  /// Gives all of them to `use(post&)`, the oldest first. Only the scheduler.
  template <class Use>
  void take_wakes(Use use) {
    // acquire: pairs with the release in link, so that what was brought is seen.
    for (post* next = in_order(wakes_.exchange(nullptr, std::memory_order_acquire)); next != nullptr;) {
      post& wake = *next;
      next = wake.next;
      use(wake);
    }
  }

  /// True when there are functions to run. One relaxed load.
  [[nodiscard]] bool has_posts() const noexcept {
    return first_.load(std::memory_order_relaxed) != nullptr || backlog_ != nullptr;
  }

  /// Gives the oldest posts, `most` at most, to `use(post&)`, which owns them from here on. If it throws, this one and those
  /// behind it stay for the next call. Only the scheduler.
  template <class Use>
  void take(std::size_t most, Use use) {
    for (; most > 0; --most) {
      // acquire: pairs with the release in link, so the function is seen whole.
      if (backlog_ == nullptr) backlog_ = in_order(first_.exchange(nullptr, std::memory_order_acquire));
      if (backlog_ == nullptr) return;
      post* const rest = backlog_->next;
      use(*backlog_);
      backlog_ = rest;
    }
  }

  /// Refuses all posts from here on. What is there can still be taken.
  void refuse() noexcept;

  /// Posters alive: while there are any, an idle scheduler is not deadlocked.
  [[nodiscard]] std::size_t posters() const noexcept { return posters_.load(std::memory_order_acquire); }
  void add_poster() noexcept { posters_.fetch_add(1, std::memory_order_relaxed); }
  /// The last one wakes the scheduler, which may find itself deadlocked now.
  void remove_poster() noexcept;
  /// The same for a thread of the scheduler, which is awake.
  void remove_own_poster() noexcept { posters_.fetch_sub(1, std::memory_order_acq_rel); }

 private:
  bool link(std::atomic<post*>& stack, post& node) noexcept;
  static post* in_order(post* newest_first) noexcept;
  static void discard(post* list) noexcept;

  upcall::source* source_;
  post* backlog_ = nullptr;  // taken, not yet used, oldest first; the scheduler's
  std::atomic<post*> first_{nullptr};
  std::atomic<post*> wakes_{nullptr};
  std::atomic<std::size_t> posters_{0};
  std::atomic<std::size_t> inside_{0};  // kernel threads between the two ends of wake() or push()
  std::atomic<bool> closed_{false};
};

}  // namespace weft::sched
