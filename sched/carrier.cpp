// What activations do on their own kernel threads and stacks: take the processor, carry a thread's region, stand by.
#include "sched/carrier.hpp"

#include <cerrno>
#include <cstdio>
#include <utility>

#include "sched/context_interrupt.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/preemption.hpp"

namespace weft::detail {
void set_this_scheduler(scheduler_face* face) noexcept;  // park.cpp
}

namespace weft::sched {

using grip = detail::processor::grip;

carrier::carrier(scheduler& of, std::uint32_t n) : number(n), home(&of) {
  record.extension = &extension;
  record.state = thread_state::running;
  off.of = this;
  std::snprintf(extension.name, sizeof extension.name, n == 1 ? "activation" : "activation %u", n);
}

void carrier::begin() {
  own = own_identity();
  kernel_thread = upcall::this_kernel_thread();
  save(fp);
  context_adopt_kernel_thread(extension.notes);
  own_signal_stack.emplace();
}

carrier::~carrier() { context_release_kernel_thread(extension.notes); }

// ---- the life of an activation ----

// All that may fail for want of memory is done here, where the thread that enters a region can be told.
void scheduler::prepare_activation(std::uint32_t number) {
  others_[number - 2] = std::make_unique<carrier>(*this, number);
  source->enters(number);
}

void scheduler::begin_activation(std::uint32_t number) {
  carrier& me = carrier_of(number);
  me.begin();
  load(first_.fp);  // the kernel thread was made by one whose thread may have had words of its own
  save(me.fp);
  detail::set_this_scheduler(&me.off);
}

void scheduler::end_activation(std::uint32_t number) {
  detail::set_this_scheduler(nullptr);
  carrier& me = carrier_of(number);
  me.ticks.reset();
  settle_tools(me);
  if (moves_identity_) context_forget(me.extension.notes, me.own_notes);
  source->leaves(number);
  others_[number - 2].reset();
}

// What belongs to the kernel thread of the holder, and to whom it is taken for, read on every switch.
void scheduler::settle_on(carrier& by, const identity& as) noexcept {
  carrier_ = &by;
  exceptions_ = as.exceptions;
  errno_ = as.error;
  settled_.store(std::uint64_t{by.number} << 32 | static_cast<std::uint32_t>(by.kernel_thread), std::memory_order_relaxed);
  if (pool_ != nullptr) pool_->watched.store(0, std::memory_order_relaxed);
  if (source != nullptr) source->moved_to(by.number);
}

// After it was displaced: see leave_own_code.
void scheduler::settle_tools(carrier& me) noexcept {
  if (!std::exchange(me.was_displaced, false)) return;
  context_leave(&me.extension.notes, me.extension.notes);
  context_arrive(me.own_notes);
}

void scheduler::take_identity(carrier& me) noexcept {
  settle_tools(me);
  assume(shared_);
  context_take_up(std::exchange(shared_notes_, nullptr), me.extension.notes);
  me.has_shared = true;
}

void scheduler::give_identity_up(carrier& me) noexcept {
  if (!std::exchange(me.has_shared, false)) return;
  context_leave(&me.extension.notes, me.extension.notes);
  assume(me.own);
}

// On its own stack `me` has become the holder.
void scheduler::become_holder(carrier& me) noexcept {
  if (moves_identity_) take_identity(me);
  settle_on(me, moves_identity_ ? shared_ : me.own);
  if (tick_signal_ != 0) bring_ticks(me, tick_signal_);
}

// On its own stack `me` has lost the processor, or is about to.
void scheduler::cease_to_hold(carrier& me) noexcept {
  give_identity_up(me);
  detail::set_this_scheduler(&me.off);
}

// The processor was taken from an activation whose thread is in a region, or waits in its own code.
void scheduler::note_taken(carrier& me, detail::processor::word seen) noexcept {
  thread_record& left = *current;
  const bool own_code = detail::processor::grip_of(seen) == grip::open;
  const std::uint32_t where = detail::processor::holder(seen);
  upcall::cause why = upcall::cause::region;
  int call = -1;
  if (own_code) {
    why = me.found.call < 0 ? upcall::cause::page_fault : upcall::cause::call;
    call = me.found.call;
    if (moves_identity_) exchange_state(*exceptions_, *errno_, left, me.record);
  } else if (observes()) {
    call = pool_->system_call_of(where);
  }
  left.extension->away_on.store(where, std::memory_order_relaxed);
  left.extension->away_for = why;
  left.set_state(thread_state::away);
  ++away_;
  note(about(upcall::kind::blocked, why, left, call));
}

bool scheduler::someone_to_carry() noexcept {
  const std::lock_guard guard(carry_lock_);
  return !to_carry_.empty();
}

bool scheduler::take(std::uint32_t number, detail::processor::word seen) {
  step("take");
  if (!processor_.take(seen, number)) return false;
  took(number, seen);
  return true;
}

// The call that led here may stand for two, and who holds the processor does not come back to look for the other soon.
void scheduler::took(std::uint32_t number, detail::processor::word seen) {
  carrier& me = carrier_of(number);
  if (someone_to_carry()) pool_->call();
  const grip how = detail::processor::grip_of(seen);
  if (moves_identity_ && how == grip::open) shared_notes_ = &current->extension->notes;
  become_holder(me);
  pool_->free.fetch_sub(1, std::memory_order_relaxed);
  if (how == grip::lent || how == grip::open) note_taken(me, seen);
  current = nullptr;
  note_added(me);
  detail::set_this_scheduler(this);
  let_next_enter();
  loop(me);
  cease_to_hold(me);
}

void scheduler::serve(std::uint32_t number) {
  carrier& me = carrier_of(number);
  step("serve");
  thread_record* t = nullptr;
  bool more = false;
  {
    const std::lock_guard guard(carry_lock_);
    t = to_carry_.take();
    more = !to_carry_.empty();
  }
  const detail::processor::word now = processor_.look();
  const bool offered = detail::processor::grip_of(now) == grip::offered;
  if (more || (t != nullptr && offered)) pool_->call();  // two calls may have woken one
  if (t != nullptr) return carry(me, *t);
  if (offered) static_cast<void>(take(number, now));
}

// Runs the region of `t` on this kernel thread; the processor is elsewhere.
void scheduler::carry(carrier& me, thread_record& t) {
  t.extension->away_on.store(me.number, std::memory_order_relaxed);
  me.off.away = &t;
  exchange_state(*me.own.exceptions, *me.own.error, me.record, t);
  settle_tools(me);
  context_leave(&me.own_notes, t.extension->notes);
  exchange_stacks(&me.record.context, t.context);
  context_arrive(me.own_notes);
  if (me.why != carrier::departure::none && !see_off(me)) return cease_to_hold(me);
  // The processor came here for a weft operation of the region, and the region ended before anybody took it: `me` is its holder.
  if (moves_identity_) become_holder(me);
  current = nullptr;
  detail::set_this_scheduler(this);
  let_next_enter();
  loop(me);
  cease_to_hold(me);
}

// On the activation's own stack again, because a thread left for it. @returns whether it still holds the processor.
bool scheduler::see_off(carrier& me) noexcept {
  thread_record& t = *std::exchange(me.leaving, nullptr);
  if (std::exchange(me.signals_held, false)) set_signal_mask(me.signals_before);
  const carrier::departure why = std::exchange(me.why, carrier::departure::none);
  if (why == carrier::departure::comes_in) {
    make_ready_again(t);
    return true;
  }
  if (why == carrier::departure::comes_back) {
    step("publish");
    publish(t);
    step("published");
    return false;
  }
  {
    const std::lock_guard guard(carry_lock_);
    to_carry_.put(t);
  }
  pool_->call();
  return true;
}

// ---- giving and taking the processor ----

// Gives the processor to a thread that waits for it on a kernel thread of its own; this one stands by.
void scheduler::give_processor_to(thread_record& pinned) noexcept {
  carrier& to = *pinned.extension->pinned_to;
  upcall::activation_pool& pool = *pool_;
  current = nullptr;
  cease_to_hold(*carrier_);
  pool.free.fetch_add(1, std::memory_order_relaxed);
  step("give");
  processor_.give(to.number);
  pool.alert(to.summons);
}

// Sleeps with the grip loosened, so that a thread that leaves its region finds the processor and goes on where it is.
bool scheduler::doze(time_point until) {
  carrier& me = *carrier_;
  pool_->rest(me.number);
  const bool may_doze = away_ != 0 && until != time_point{} && source->prepare_doze(until);
  const int place = may_doze ? pool_->sleeping_place() : -1;
  if (place < 0) {
    source->wait(until);
    return true;
  }
  me.place.store(place, std::memory_order_relaxed);  // seen by whoever takes the processor: it is loosened after
  cease_to_hold(me);
  processor_.loosen(grip::idle);
  step("doze");
  source->doze(until, place);
  step("wake");
  const bool still_ours = processor_.tighten(me.number);
  pool_->vacate(place);
  if (!still_ours) return false;
  if (moves_identity_) take_identity(me);
  detail::set_this_scheduler(this);
  source->wait(time_point{});  // takes what ended the sleep
  return true;
}

// ---- threads that come back ----

// From any activation: `t` wants to run again. Its context is saved, or it is pinned and waits.
void scheduler::publish(thread_record& t) noexcept {
  thread_record* newest = returned_.load(std::memory_order_relaxed);
  do {
    t.next = newest;
    // release: who takes it sees all that the thread did.
  } while (!returned_.compare_exchange_weak(newest, &t, std::memory_order_release, std::memory_order_relaxed));
  if (newest == nullptr) source->wake();
}

void scheduler::take_returned() noexcept {
  thread_record* newest = returned_.exchange(nullptr, std::memory_order_acquire);
  thread_record* oldest = nullptr;
  while (newest != nullptr) {
    thread_record* const older = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = older;
  }
  while (oldest != nullptr) {
    thread_record& t = *oldest;
    oldest = t.next;
    --away_;
    if (t.extension->pinned_to != nullptr) {
      t.flags |= flag_pinned;
    } else {
      pool_->free.fetch_add(1, std::memory_order_relaxed);
    }
    note(about(upcall::kind::unblocked, t.extension->away_for, t));
    make_ready_again(t);
  }
  let_next_enter();
}

// Those who would enter a region are let in one at a time: each lets the next one in when it finds that it may.
void scheduler::let_next_enter() noexcept {
  if (wants_activation_.empty() || pool_->free.load(std::memory_order_relaxed) < 1) return;
  end_wait(*wants_activation_.pop_front(), detail::wake_reason::granted);
}

}  // namespace weft::sched
