#include "sched/timer_queue.hpp"

#include <algorithm>

namespace weft::sched {

namespace {
constexpr std::size_t arity = 4;
}

void timer_queue::arm(detail::waiter& who, time_point when) {
  heap_.push_back({when, &who});
  rise(heap_.size() - 1, {when, &who});
}

void timer_queue::disarm(detail::waiter& who) noexcept {
  if (who.timer == 0) return;
  const std::size_t at = who.timer - 1;
  who.timer = 0;
  const entry last = heap_.back();
  heap_.pop_back();
  if (at == heap_.size()) return;
  // The last entry fills the hole; it may belong above or below it.
  if (at > 0 && last.when < heap_[(at - 1) / arity].when) {
    rise(at, last);
  } else {
    sink(at, last);
  }
}

detail::waiter* timer_queue::expire(time_point now) noexcept {
  if (heap_.empty() || heap_.front().when > now) return nullptr;
  detail::waiter* const who = heap_.front().who;
  disarm(*who);
  return who;
}

void timer_queue::rise(std::size_t at, entry e) noexcept {
  while (at > 0) {
    const std::size_t parent = (at - 1) / arity;
    if (heap_[parent].when <= e.when) break;
    place(at, heap_[parent]);
    at = parent;
  }
  place(at, e);
}

void timer_queue::sink(std::size_t at, entry e) noexcept {
  for (;;) {
    const std::size_t first = at * arity + 1;
    if (first >= heap_.size()) break;
    const std::size_t end = std::min(first + arity, heap_.size());
    std::size_t least = first;
    for (std::size_t child = first + 1; child < end; ++child) {
      if (heap_[child].when < heap_[least].when) least = child;
    }
    if (e.when <= heap_[least].when) break;
    place(at, heap_[least]);
    at = least;
  }
  place(at, e);
}

}  // namespace weft::sched
