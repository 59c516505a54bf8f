// Marked regions: how a thread blocks in the kernel, in code that is not weft's, without blocking the others.
//
// In place. The thread stays where it is and lends the processor: one exchange of the processor's word. If its kernel thread
// does not wait, it tightens the grip again at the end, by one compare-and-swap, and nothing else has happened. If it waits, a
// switch record of the kernel or the watchdog wakes an activation that stands by, and that takes the processor: the thread
// becomes `away` (blocked). At the end of its region it finds the processor gone. If the holder sleeps for want of ready
// threads, it takes the processor back and goes on, with no switch at all. Otherwise it leaves its stack, saved, for the
// activation's own, from where it is put into the list of those that come back (unblocked), and the activation stands by.
//
// Carried. Operations in flight in the kernel thread's ring are collected by that kernel thread only. So while there are any,
// it must not block: the thread leaves its stack first, and an activation that stands by resumes it on its own kernel thread.
// Processor and ring stay where they are.
//
// Weft operations inside a region need the processor, and the region must not change its kernel thread. So it is the processor
// that comes: the thread asks for it like one that comes back, the holder gives it to this kernel thread, and the thread is
// `pinned`: when it must wait, its kernel thread waits with it, and the processor is offered to whoever stands by.
//
// Invariants.
//   1. Between lend() and the successful tighten() or take() nothing of the scheduler is touched here.
//   2. A region is entered in place only while an activation is free, and none but the holder reduces that number to zero: so
//      whenever the processor is lent or offered, there is somebody to take it.
//   3. A thread is published after its context was saved, from another stack; or it is pinned and its stack stays in use.
//   4. The processor leaves a kernel thread only while nothing is in flight that this kernel thread alone can collect: a region
//      is entered in place only then, a holder with operations in flight keeps its grip while it sleeps, and a pinned thread
//      waits for the processor until there are none. Meanwhile file operations are `portable`, so that it comes to that.
#include "weft/detail/region.hpp"

#include <algorithm>
#include <cerrno>
#include <exception>

#include "sched/context_interrupt.hpp"
#include "sched/scheduler.hpp"
#include "weft/blocking.hpp"
#include "weft/thread.hpp"

namespace weft::detail {
void set_this_scheduler(scheduler_face* face) noexcept;  // park.cpp
}

namespace weft::sched {

using grip = detail::processor::grip;

// ---- entering ----

[[gnu::always_inline]] inline bool scheduler::ready_to_lend() const noexcept {
  return pool_ != nullptr && pool_->free.load(std::memory_order_relaxed) > 0 &&
         pool_->watched.load(std::memory_order_relaxed) == carrier_->number && !source->bound_here() && !moves_identity_;
}

void scheduler::enter_region() {
  if (refuses_wait(detail::cancellation::allowed)) [[unlikely]] detail::throw_cancelled();
  if (!ready_to_lend() && !prepare_region()) [[unlikely]] return;
  lend(*carrier_);
}

// The calls of the pool are made before: after the exchange the scheduler may be another's.
[[gnu::always_inline]] inline void scheduler::lend(carrier& me) noexcept {
  upcall::activation_pool& pool = *pool_;
  me.off.away = current;
  detail::set_this_scheduler(&me.off);
  processor_.loosen(grip::lent);
  // seq_cst, as the exchange: see processor::loosen.
  if (pool.watchdog_asleep.load(std::memory_order_seq_cst)) [[unlikely]] pool.wake_watchdog();
  if (pool.steps) [[unlikely]] pool.step("lent");
}

bool scheduler::enter_region_from_outside() {
  step_inside();
  try {
    enter_region();
  } catch (...) {
    step_outside();
    throw;
  }
  return true;
}

// What the way into a region lacks. @returns whether the processor is to be lent here; otherwise the region has begun already:
// on another kernel thread, or with the processor where there is nobody who could take it.
bool scheduler::prepare_region() {
  if (!make_pool()) {
    carrier_->off.away = current;
    detail::set_this_scheduler(&carrier_->off);
    return false;
  }
  while (!provide_activation()) {
    waiter self;
    self.what = "activation";
    self.object = pool_.get();
    wait_with_care(wants_activation_, self, never, detail::cancellation::allowed);
    if (self.reason == detail::wake_reason::cancelled) detail::throw_cancelled();
  }
  if (source->bound_here() || moves_identity_) {
    be_carried();
    return false;
  }
  if (pool_->watched.load(std::memory_order_relaxed) != carrier_->number) pool_->watch(carrier_->number);
  return true;
}

// The downcall "add a processor", where none is free.
bool scheduler::provide_activation() {
  const bool more = pool_->free.load(std::memory_order_relaxed) < 1;
  const bool there = pool_->provide();
  if (more && there) record(trace::kind::add_processor, carrier_->record, 1);
  return there;
}

bool scheduler::make_pool() {
  if (asked_for_pool_) return pool_ != nullptr;
  const std::uint32_t limit = std::min<std::uint32_t>(options_.max_activations, 0xffff);
  if (limit > 1) {
    others_.resize(limit - 1);
    const bool all = options_.activations == activations::all && upcall::waits_can_be_left();
    pool_ = source->make_activations(processor_, limit, all);
  }
  if (pool_ != nullptr && !pool_->steps && (pool_->all_code || options_.time_slice.count() != 0)) move_identity();
  asked_for_pool_ = true;
  return pool_ != nullptr;
}

// Where threads are interrupted in their own code the processor has an identity: that of the kernel thread that called run(),
// which gets a lent one for when it stands by.
void scheduler::move_identity() {
  if (lender_ == nullptr) lender_ = std::make_unique<identity_lender>();
  first_.own = lender_->lent();
  first_.has_shared = true;
  moves_identity_ = true;
}

// The running thread goes to another kernel thread for its region. It returns there, from carry().
void scheduler::be_carried() {
  thread_record& self = *current;
  carrier& me = *carrier_;
  self.set_state(thread_state::away);
  self.extension->away_on.store(0, std::memory_order_relaxed);
  ++away_;
  pool_->free.fetch_sub(1, std::memory_order_relaxed);
  let_next_enter();
  self.extension->away_for = upcall::cause::region;
  note(about(upcall::kind::blocked, upcall::cause::region, self, -1));
  me.why = carrier::departure::to_carry;
  me.leaving = &self;
  exchange(self, me.record);
  const bool own_words = self.extension->own_words;
  if (own_words) {
    save(self.extension->fp);
    load(common_fp_);
  }
  current = &me.record;
  switch_context(&self.context, me.record.context, &self.extension->notes, me.extension.notes);
  if (own_words) load(self.extension->fp);
}

// ---- leaving ----

void scheduler::leave_region(carrier& me) noexcept {
  scheduler& s = *me.home;
  thread_record& self = *me.off.away;
  s.step("leave");
  if (s.processor_.tighten(me.number)) [[likely]] {
    if (s.moves_identity_) [[unlikely]]
      return s.come_in(me, self);
    me.off.away = nullptr;
    detail::set_this_scheduler(&s);
    if (!s.wants_activation_.empty()) [[unlikely]] s.let_next_enter();
    s.completed_at_once();
    return;
  }
  if (!s.take_back(me, self)) s.hand_back(me, self);
}

// The holder sleeps and nobody is ready: the thread goes on here, as the holder.
bool scheduler::take_back(carrier& me, thread_record& self) noexcept {
  if (moves_identity_) return false;  // it is to go on under another identity: from a stack that has none
  const detail::processor::word now = processor_.look();
  if (detail::processor::grip_of(now) != grip::idle || !processor_.take(now, me.number)) return false;
  pool_->rouse(carrier_of(detail::processor::holder(now)).place.load(std::memory_order_relaxed));
  settle_on(me, me.own);
  rest(false);
  record(trace::kind::busy, me.record);
  note_added(me);
  pool_->free.fetch_add(1, std::memory_order_relaxed);  // the sleeper will find itself standing by
  --away_;
  note(about(upcall::kind::unblocked, upcall::cause::region, self));
  self.set_state(thread_state::ready);
  self.set_state(thread_state::running);
  record(trace::kind::run, self);
  current = &self;
  me.off.away = nullptr;
  detail::set_this_scheduler(this);
  let_next_enter();
  return true;
}

// Somebody else holds the processor: the thread leaves for the list of those that come back. Until it is resumed from there
// nothing of the scheduler is touched but what belongs to this kernel thread and this thread.
void scheduler::hand_back(carrier& me, thread_record& self) noexcept {
  leave_region_for(carrier::departure::comes_back, me, self);
}

// The region ends on the kernel thread that has the processor: it came there for a weft operation, and nobody has taken it.
void scheduler::come_in(carrier& me, thread_record& self) noexcept { leave_region_for(carrier::departure::comes_in, me, self); }

void scheduler::leave_region_for(carrier::departure why, carrier& me, thread_record& self) noexcept {
  me.off.away = nullptr;
  me.why = why;
  me.leaving = &self;
  exchange_state(*me.own.exceptions, *me.own.error, self, me.record);
  const bool own_words = self.extension->own_words;
  if (own_words) {
    save(self.extension->fp);
    load(me.fp);
  }
  switch_context(&self.context, me.record.context, &self.extension->notes, me.extension.notes);
  if (own_words) {
    save(this_scheduler().common_fp_);
    load(self.extension->fp);
  }
}

// ---- weft operations inside a region ----

void scheduler::pause_region(carrier& me) {
  scheduler& s = *me.home;
  thread_record& self = *me.off.away;
  if (!s.processor_.tighten(me.number) && !s.take_back(me, self)) {
    self.extension->pinned_to = &me;
    s.step("ask");
    s.publish(self);
    s.await_processor(me, self);
  }
  me.off.away = nullptr;
  if (s.pool_ != nullptr) self.flags |= flag_pinned;  // otherwise there is but this kernel thread to come back on
  detail::set_this_scheduler(&s);
}

void scheduler::resume_region(carrier& me) noexcept {
  scheduler& s = *me.home;
  thread_record& self = *s.current;
  self.flags = static_cast<std::uint8_t>(self.flags & ~flag_pinned);
  self.extension->pinned_to = nullptr;
  if (s.pool_ == nullptr) {
    me.off.away = &self;
    return detail::set_this_scheduler(&me.off);
  }
  if (s.pool_->watched.load(std::memory_order_relaxed) != me.number) s.pool_->watch(me.number);
  s.lend(me);
}

// A pinned thread, in its new state and queue already, waits where it is; whoever stands by carries the processor on.
void scheduler::stay_here(thread_record& self, thread_record& next) {
  carrier& me = *carrier_;
  upcall::activation_pool* const pool = pool_.get();
  if (&next != &me.record) ready_.put_first(next);
  self.extension->pinned_to = &me;
  current = nullptr;
  detail::set_this_scheduler(&me.off);
  processor_.loosen(grip::offered);
  if (pool->steps) pool->step("offered");
  pool->call();
  await_processor(me, self);
  detail::set_this_scheduler(this);
}

void scheduler::await_processor(carrier& me, thread_record& self) noexcept {
  const int error = errno;  // the region's: it has not left its kernel thread
  pool_->await(me.summons);
  errno = error;
  settle_on(me, me.own);
  note_added(me);
  current = &self;
  self.set_state(thread_state::running);
  record(trace::kind::run, self);
}

namespace {

// The activation of the calling kernel thread, on which a region runs; null when none does.
carrier* carrier_of_region() noexcept {
  detail::scheduler_face& face = detail::this_scheduler_face();
  return face.away == nullptr ? nullptr : static_cast<carrier_face&>(face).of;
}

}  // namespace
}  // namespace weft::sched

namespace weft {
namespace detail {

bool enter_region() {
  scheduler_face& face = this_scheduler_face();
  if (face.current == nullptr) [[unlikely]] {
    if (sched::scheduler* const s = sched::scheduler_outside()) return s->enter_region_from_outside();
    if (face.away != nullptr) return false;
    throw_off_weft("blocking");
  }
  auto& s = static_cast<sched::scheduler&>(face);
  if (face.current->has(sched::flag_pinned)) return false;  // called by what a region's weft operation calls
  s.enter_region();
  return true;
}

void leave_region() noexcept {
  // In a child made by fork() there is no activation any more, and nothing to leave.
  sched::carrier* const me = sched::carrier_of_region();
  if (me == nullptr) return;
  sched::scheduler::leave_region(*me);
  if (current_thread()->has(sched::flag_outside)) [[unlikely]]
    sched::this_scheduler().step_outside();
}

void end_if_cancelled() {
  if (!this_thread::cancel_requested() || std::uncaught_exceptions() != 0 || cancellation_shield::covers_caller()) return;
  throw_cancelled();
}

region_pause::region_pause(const char* call) : in_region_(sched::scheduler_outside() == nullptr) {
  if (!in_region_) {
    sched::scheduler_outside()->step_inside();
    return;
  }
  sched::carrier* const me = sched::carrier_of_region();
  if (me == nullptr) throw_off_weft(call);
  sched::scheduler::pause_region(*me);
}

region_pause::~region_pause() {
  // In a child made by fork() meanwhile nobody is current.
  thread_record* const self = current_thread();
  if (self == nullptr) return;
  sched::scheduler& s = sched::this_scheduler();
  if (in_region_) {
    sched::scheduler::resume_region(s.holder());
  } else if (self->has(sched::flag_outside)) {
    s.step_outside();
  }
}

}  // namespace detail

bool in_blocking_region() noexcept {
  return detail::this_scheduler_face().away != nullptr && sched::scheduler_outside() == nullptr;
}

}  // namespace weft
