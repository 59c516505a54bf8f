#include "sched/inbox.hpp"

#include <sched.h>

namespace weft::sched {

inbox::~inbox() {
  discard(backlog_);
  discard(first_.load(std::memory_order_relaxed));
}

bool inbox::push(std::unique_ptr<post> node) noexcept {
  const bool open = link(first_, *node);
  if (open) static_cast<void>(node.release());  // perhaps it was used and freed already
  return open;
}

bool inbox::link(std::atomic<post*>& stack, post& node) noexcept {
  // seq_cst on inside_ and closed_, here and in refuse(): either we see closed_, or refuse() sees us inside and waits.
  inside_.fetch_add(1, std::memory_order_seq_cst);
  const bool open = !closed_.load(std::memory_order_seq_cst);
  if (open) {
    post* head = stack.load(std::memory_order_relaxed);
    do {
      node.next = head;
    } while (!stack.compare_exchange_weak(head, &node, std::memory_order_release, std::memory_order_relaxed));
    if (head == nullptr) source_->wake();
  }
  inside_.fetch_sub(1, std::memory_order_release);
  return open;
}

void inbox::remove_poster() noexcept {
  inside_.fetch_add(1, std::memory_order_seq_cst);
  // acq_rel: whatever the poster did is seen by the scheduler that finds none left.
  if (posters_.fetch_sub(1, std::memory_order_acq_rel) == 1 && !closed_.load(std::memory_order_seq_cst)) source_->wake();
  inside_.fetch_sub(1, std::memory_order_release);
}

void inbox::refuse() noexcept {
  closed_.store(true, std::memory_order_seq_cst);
  while (inside_.load(std::memory_order_seq_cst) != 0) sched_yield();  // a few instructions and one wake, never more
}

inbox::post* inbox::in_order(post* newest_first) noexcept {
  post* oldest_first = nullptr;
  while (newest_first != nullptr) {
    post* const next = newest_first->next;
    newest_first->next = oldest_first;
    oldest_first = newest_first;
    newest_first = next;
  }
  return oldest_first;
}

void inbox::discard(post* list) noexcept {
  while (list != nullptr) {
    post* const next = list->next;
    delete list;
    list = next;
  }
}

}  // namespace weft::sched
