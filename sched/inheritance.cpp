#include "sched/inheritance.hpp"

#include "sched/order.hpp"
#include "sched/scheduler.hpp"
#include "weft/mutex.hpp"

namespace weft::sched {

bool inheritance::lock(mutex& m, detail::cancellation mode, time_point deadline) {
  detail::waiter w;
  w.what = "mutex";
  w.object = &m;
  for (bool was_chosen = false;; was_chosen = true) {
    wait_once(m, w, was_chosen, deadline, mode);
    if (w.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
    if (w.reason == detail::wake_reason::timed_out) return m.take_free();  // it may have become free since the time came
    policy_node& self = policy_node::of(*detail::current_thread());
    end_promise(self);
    if (m.holder_ == mutex::promised) break;
    // A try_lock came first. No promise meanwhile, so that the next unlock makes one; who lent to this thread lends to that one.
    m.holder_ &= ~mutex::promised;
    if (end_loan_for(m, self)) reckon(self);
    if (policy_node* const has = lend_anew(m)) reckon(*has);
  }
  m.holder_ = mutex::word(detail::current_thread());
  return true;
}

// One wait in the queue. Afterwards the calling thread is not in it, and lends to nobody.
void inheritance::wait_once(mutex& m, detail::waiter& w, bool was_chosen, time_point deadline, detail::cancellation mode) {
  scheduler& s = this_scheduler();
  w.reason = detail::wake_reason::cancelled;
  if (s.refuses_wait(mode)) return;
  w.reason = detail::wake_reason::granted;
  w.thread = s.current;
  w.shielded = mode == detail::cancellation::shielded || s.unwinding();
  s.set_deadline(w, deadline);  // may throw: nothing is linked yet
  policy_node& self = policy_node::of(*s.current);
  self.waits_at = &m;
  insert(m, w, was_chosen);
  if (policy_node* const has = lend_anew(m)) reckon(*has);
  s.park(w, thread_state::parked);
  if (policy_node* const borrower = self.lends_to) {  // its wait ended from the side; perhaps the mutex is another's by now
    end_loan(self);
    reckon(*borrower);
    if (policy_node* const has = lend_anew(m)) reckon(*has);
  }
  self.waits_at = nullptr;
}

void inheritance::unlock(mutex& m) noexcept {
  m.holder_ &= mutex::promised;
  if (m.holder_ == mutex::promised) return;  // the one who was woken for it is on the way still
  policy_node& self = policy_node::of(*detail::current_thread());
  const bool borrowed = end_loan_for(m, self);
  if (detail::waiter* const next = m.waiters_.pop_front()) {
    policy_node& to = policy_node::of(*next->thread);
    m.holder_ = mutex::promised;
    to.promised = &m;
    to.next_promised = promised_;
    promised_ = &to;
    if (policy_node* const has = lend_anew(m)) reckon(*has);
    detail::grant(*next);
  }
  if (borrowed) reckon(self);
}

void inheritance::changed(policy_node& n) noexcept { reckon(n); }

void inheritance::forget(policy_node& n) noexcept {
  end_promise(n);
  while (n.lenders != nullptr) end_loan(*n.lenders);
}

// Invariant 1. Behind its equals, unless it had been chosen before: equals come in constant time.
void inheritance::insert(mutex& m, detail::waiter& w, bool before_equals) noexcept {
  detail::wait_queue& queue = m.waiters_;
  const policy_node& self = policy_node::of(*w.thread);
  const auto comes_before = [&](const detail::waiter& other) {
    const policy_node& them = policy_node::of(*other.thread);
    return before_equals ? !order_.more_urgent(them, self) : order_.more_urgent(self, them);
  };
  if (queue.empty() || !comes_before(*queue.front()->previous)) return queue.push_back(w);
  detail::waiter* at = queue.front()->previous;
  while (at != queue.front() && comes_before(*at->previous)) at = at->previous;
  queue.insert_before(*at, w);
}

// Invariant 2. @returns who has the mutex, whose urgency is to be reckoned anew.
policy_node* inheritance::lend_anew(mutex& m) noexcept {
  policy_node* const has = who_has(m);
  detail::waiter* const first = m.waiters_.front();
  policy_node* const lender = first == nullptr ? nullptr : &policy_node::of(*first->thread);
  if (has == nullptr || (lender != nullptr && lender->lends_to == has)) return has;
  end_loan_for(m, *has);
  if (lender != nullptr) {
    lender->lends_to = has;
    lender->next_lender = has->lenders;
    has->lenders = lender;
  }
  return has;
}

void inheritance::end_loan(policy_node& lender) noexcept {
  policy_node** at = &lender.lends_to->lenders;
  while (*at != &lender) at = &(*at)->next_lender;
  *at = lender.next_lender;
  lender.lends_to = nullptr;
}

// @returns whether somebody lent to `from` because of `m`.
bool inheritance::end_loan_for(mutex& m, policy_node& from) noexcept {
  for (policy_node* n = from.lenders; n != nullptr; n = n->next_lender) {
    if (n->waits_at != &m) continue;
    end_loan(*n);
    return true;
  }
  return false;
}

void inheritance::end_promise(policy_node& to) noexcept {
  if (to.promised == nullptr) return;
  policy_node** at = &promised_;
  while (*at != &to) at = &(*at)->next_promised;
  *at = to.next_promised;
  to.promised = nullptr;
}

policy_node* inheritance::who_has(const mutex& m) const noexcept {
  if ((m.holder_ & mutex::promised) != 0) {
    policy_node* n = promised_;
    while (n != nullptr && n->promised != &m) n = n->next_promised;
    return n;
  }
  auto* const holder = reinterpret_cast<thread_record*>(m.holder_);
  return holder == nullptr ? nullptr : &policy_node::of(*holder);
}

// Invariant 3, for `n` and all to whom that makes a difference. Threads that wait for one another in a circle come to rest: their
// urgency only grows. With a more_urgent() that is no order it might not: hence the limit.
void inheritance::reckon(policy_node& n) noexcept {
  policy_node* at = &n;
  for (unsigned hops = 0; at != nullptr && hops < 100'000; ++hops) {
    const policy_node* best = nullptr;
    for (const policy_node* l = at->lenders; l != nullptr; l = l->next_lender) {
      if (best == nullptr || order_.more_urgent(*l, *best)) best = l;
    }
    if (!order_.be_like(*at, best)) return;
    mutex* const m = at->waits_at;
    detail::waiter* const w = at->record().waits_on;
    if (m == nullptr) return;
    if (w != nullptr && w->queue == &m->waiters_) {
      m->waiters_.remove(*w);
      insert(*m, *w, false);
    }
    at = lend_anew(*m);
  }
}

}  // namespace weft::sched
