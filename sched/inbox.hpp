// The inbox: the one way into a scheduler from other kernel threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <utility>

#include "weft/upcall.hpp"

namespace weft::sched {

/// A lock-free stack of functions that other kernel threads push and the scheduler takes all at once.
///
/// Invariant: a push on the empty inbox wakes the source, so whatever is in it is seen before or at the end of the next wait.
/// Once closed it stays closed, and `close` returns only when no poster is still inside `push`: the source may die then.
class inbox {
 public:
  explicit inbox(upcall::source& wakes) : source_(&wakes) {}
  ~inbox();
  inbox(const inbox&) = delete;
  inbox& operator=(const inbox&) = delete;

  /// From any kernel thread. @returns false when the scheduler has ended. @throws std::bad_alloc
  bool push(std::function<void()> fn);

  /// True when there is something to take. One relaxed load.
  [[nodiscard]] bool has_posts() const noexcept {
    return first_.load(std::memory_order_relaxed) != nullptr || backlog_ != nullptr;
  }

  /// Calls `use(const std::function<void()>&)` for all there is, oldest first. If it throws, this one and those behind it
  /// stay for the next call. Only the scheduler.
  template <class Use>
  void take_all(Use use) {
    post** end = &backlog_;
    while (*end != nullptr) end = &(*end)->next;
    // acquire: pairs with the release in push, so the function is seen whole.
    *end = in_order(first_.exchange(nullptr, std::memory_order_acquire));
    while (backlog_ != nullptr) {
      use(std::as_const(backlog_->fn));
      delete std::exchange(backlog_, backlog_->next);
    }
  }

  /// Refuses all posts from here on and throws away what is there.
  void close() noexcept;

  /// Posters alive: while there are any, an idle scheduler is not deadlocked.
  [[nodiscard]] std::size_t posters() const noexcept { return posters_.load(std::memory_order_acquire); }
  void add_poster() noexcept { posters_.fetch_add(1, std::memory_order_relaxed); }
  /// The last one wakes the scheduler, which may find itself deadlocked now.
  void remove_poster() noexcept;

 private:
  struct post {
    post* next;
    std::function<void()> fn;
  };
  static post* in_order(post* newest_first) noexcept;
  static void discard(post* list) noexcept;

  upcall::source* source_;
  post* backlog_ = nullptr;  // taken, not yet used; the scheduler's
  std::atomic<post*> first_{nullptr};
  std::atomic<std::size_t> posters_{0};
  std::atomic<std::size_t> inside_{0};  // kernel threads between the two ends of wake() or push()
  std::atomic<bool> closed_{false};
};

}  // namespace weft::sched
