// How the processor goes from thread to thread: switch, start, yield, park, exit. See the essay in scheduler.cpp.
#include <bit>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "sched/order.hpp"
#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"
#include "weft/thread.hpp"

namespace weft::sched {

// Gives the processor from `self` to `next`; returns when `self` is given it back. The only place where two contexts that
// both go on are exchanged.
//
// It may return on another kernel thread: nothing read before the switch that belongs to the kernel thread is used after it.
[[gnu::always_inline]] inline void scheduler::switch_to(thread_record& self, thread_record& next) {
  if (self.has(flags_of_care)) [[unlikely]] return switch_with_care(self, next);
  exchange(self, next);
  if (next.state == thread_state::created) [[unlikely]] {
    return start_thread(&self.context, &self.extension->notes, next);
  }
  take_processor(next);
  switch_context(&self.context, next.context, &self.extension->notes, next.extension->notes);
}

// A thread that asked for FP control words of its own puts them by when it leaves, leaves those that all others share, and
// takes its own again when it is back. So no other switch has to look. A pinned thread does not leave its kernel thread.
void scheduler::switch_with_care(thread_record& self, thread_record& next) {
  if (self.has(flag_pinned)) return stay_here(self, next);
  exchange(self, next);
  save(self.extension->fp);
  load(common_fp_);
  if (next.state == thread_state::created) {
    start_thread(&self.context, &self.extension->notes, next);
  } else {
    take_processor(next);
    switch_context(&self.context, next.context, &self.extension->notes, next.extension->notes);
  }
  save(this_scheduler().common_fp_);
  load(self.extension->fp);
}

// True when `next`, the first of the ready queue, is an ordinary thread and nothing else asks for attention: then the switch is
// a handful of loads and stores without a call in between, and the compiler keeps all of it in scratch registers.
[[gnu::always_inline]] inline bool scheduler::plain_switch(const thread_record& self, const thread_record* next) const noexcept {
  return next != nullptr && next->state == thread_state::ready && budget_ > 1 && plain_ &&
         ((self.flags | next->flags) & flags_of_care) == 0;
}

// Gives the processor to `next` when plain_switch() holds; the caller has given `self` its new state.
[[gnu::always_inline]] inline void scheduler::switch_plainly(thread_record& self, thread_record& next) {
  --budget_;
  exchange(self, next);
  current = &next;
  next.state = thread_state::running;  // from ready: plain_switch() has looked
  switch_context(&self.context, next.context, &self.extension->notes, next.extension->notes);
}

// `next`, a thread that has run before or the activation, is the one that runs now.
[[gnu::always_inline]] inline void scheduler::take_processor(thread_record& next) noexcept {
  current = &next;
  if (&next == &carrier_->record) return;
  next.set_state(thread_state::running);
  record(trace::kind::run, next);
}

// Saves the running context and runs `next` for the first time, on the stack it was given.
void scheduler::start_thread(void** save_here, context_notes* from, thread_record& next) {
  detail::start_block* const start = next.start;
  stack_slot* const slot = static_cast<stack_slot*>(start->stack);
  constexpr std::size_t room = (sizeof(thread_extension) + 63) / 64 * 64;
  std::byte* const top = static_cast<std::byte*>(slot->usable_top()) - room;
  auto* const extension = ::new (static_cast<void*>(top)) thread_extension;
  extension->slot = slot;
  extension->start = start;
  extension->runs = reinterpret_cast<std::uintptr_t>(start->run);
  std::memcpy(extension->name, start->name, sizeof extension->name);
  if (start->floating_point) {
    save(common_fp_);
    next.flags |= flag_floating_point;
    extension->own_words = true;
  }
  context_attach(extension->notes, slot->lowest(), slot->usable_size());
  next.set_state(thread_state::running);
  next.extension = extension;
  current = &next;
  if (trace != nullptr) [[unlikely]] {
    if (extension->name[0] != '\0') trace->name_thread(next.number, extension->name);
    record(trace::kind::run, next);
  }
  const auto size = static_cast<std::size_t>(top - static_cast<std::byte*>(slot->lowest()));
  enter_context(save_here, top, size, &scheduler::thread_main, from, extension->notes);
}

// The first frame of every thread. Catches nothing but weft::cancelled: any other exception finds no handler up to the end
// of the stack, so std::terminate is called with the stack, and the culprit on it, still there.
void scheduler::thread_main() {
  thread_record& self = *detail::current_thread();
  context_entered(self.extension->notes);
  try {
    detail::start_block* const start = self.extension->start;
    self.extension->start = nullptr;
    if (self.has(flag_outside)) [[unlikely]]
      this_scheduler().step_outside();
    start->run(*start);
  } catch (const cancelled&) {  // it was asked to end, and has
  }
  if (self.extension->exit_calls != nullptr || self.extension->locals != nullptr) [[unlikely]]
    detail::run_exit_calls(self);
  if (self.has(flag_outside)) [[unlikely]] {
    if (scheduler* const s = scheduler_outside()) s->step_inside();
  }
  if (detail::current_thread() == nullptr) [[unlikely]] {  // crash.cpp: the scheduler is the parent's
    print_report(
        "weft: a child made by fork() came to the end of the thread it was forked on; let it exec or _exit, or start programs "
        "with weft::process::spawn\n");
    std::abort();
  }
  this_scheduler().exit_current();
}

// From the activation's loop. A thread that has no stack yet gets one here, even if one must be mapped first.
void scheduler::dispatch(thread_record& next) {
  if (next.state == thread_state::created && next.start->stack == nullptr) {
    try {
      next.start->stack = make_stack(std::bit_cast<stack_class>(next.start->stack_class));
      stackless_tries_ = 0;
    } catch (const std::exception& error) {
      return wait_for_stack(next, error.what());
    }
  }
  switch_to(carrier_->record, next);
}

// The retired stack is left alone as long as another can be made: with two stacks in turn, threads that run one after the other
// need not come by here.
stack_slot* scheduler::make_stack(const stack_class& wanted) {
  try {
    return stacks_.take(wanted);
  } catch (const std::system_error&) {
    if (retired_ == nullptr) throw;
    free_retired();  // nothing runs on it now
    return stacks_.take(wanted);
  }
}

// No stack is to be had: the thread waits until another one gives its stack back, and is tried again when the processor idles.
void scheduler::wait_for_stack(thread_record& t, const char* why) noexcept {
  stackless_.put(t);
  try {
    stackless_why_ = why;
  } catch (const std::bad_alloc&) {
    stackless_why_.clear();
  }
}

// Who runs after the running thread: the next ready one, or the activation when there is none, when upcalls are due, when the
// next one needs a stack that must first be mapped, or when it wants the processor on a kernel thread of its own.
[[gnu::always_inline]] inline thread_record& scheduler::next_runnable() {
  if (--budget_ == 0) [[unlikely]] return carrier_->record;
  thread_record* next = ready_.take();
  if (next == nullptr) [[unlikely]] {
    if (order_ != nullptr) next = order_->take();
    if (next == nullptr) return carrier_->record;
  }
  const bool lacks_stack = next->state == thread_state::created && next->start->stack == nullptr && !find_stack(*next);
  if (lacks_stack || next->has(flag_pinned)) [[unlikely]] {
    ready_.put_first(*next);
    return carrier_->record;
  }
  return *next;
}

// Gives a new thread a free stack if there is one; the retired one counts unless its thread is just ending.
inline bool scheduler::find_stack(thread_record& t) noexcept {
  const auto wanted = std::bit_cast<stack_class>(t.start->stack_class);
  stack_slot* slot = stacks_.try_take(wanted);
  if (slot == nullptr && retired_ != nullptr && current->state != thread_state::finished) {
    free_retired();
    slot = stacks_.try_take(wanted);
  }
  t.start->stack = slot;
  return slot != nullptr;
}

[[gnu::always_inline]] inline void scheduler::let_others_run() {
  thread_record& self = *current;
  thread_record* const next = ready_.front();
  if (!plain_switch(self, next)) [[unlikely]] return yield();
  ready_.drop_front();
  self.state = thread_state::ready;  // from running: it is current
  ready_.put(self);
  switch_plainly(self, *next);
}

void scheduler::yield() {
  if (budget_ > 1 && nothing_ready()) {  // nobody else: no switch, but it counts as one
    --budget_;
    return;
  }
  if (order_ != nullptr) return yield_in_order();
  thread_record& self = *current;
  thread_record& next = next_runnable();
  self.set_state(thread_state::ready);
  record(trace::kind::yield, self);
  ready_.put(self);
  switch_to(self, next);
}

// Here the one who yields is a candidate like all others: it may be the most urgent.
void scheduler::yield_in_order() {
  thread_record& self = *current;
  self.set_state(thread_state::ready);
  record(trace::kind::yield, self);
  order_->put(self, policy::came::yielded);
  thread_record& next = next_runnable();
  if (&next != &self) return switch_to(self, next);
  self.set_state(thread_state::running);
  record(trace::kind::run, self);
}

// Child first, depth first: the parent goes on as soon as the child waits or ends, so a tree of threads has as many live stacks
// as it is deep. Now and then the parent goes to the end of the queue, or a loop that makes threads would starve all others.
// That is a matter of time, not of switches: each such turn leaves one more branch of the tree half grown.
void scheduler::run_first(thread_record& child) {
  constexpr std::chrono::milliseconds turn{1};
  thread_record& self = *current;
  self.set_state(thread_state::ready);
  record(trace::kind::yield, self);
  bool others_turn = false;
  if (turn_due_) {
    turn_due_ = false;
    const time_point now = source->now();
    others_turn = now - last_turn_ >= turn;
    if (others_turn) last_turn_ = now;
  }
  if (others_turn) {
    queue(self, policy::came::yielded);
  } else if (order_ != nullptr) {
    order_->put(self, policy::came::displaced);
  } else {
    ready_.put_first(self);
  }
  ready_.put_first(child);
  switch_to(self, next_runnable());
}

void scheduler::yield_to_activation() {
  thread_record& self = *current;
  self.set_state(thread_state::ready);
  record(trace::kind::yield, self);
  queue(self, policy::came::yielded);
  switch_to(self, carrier_->record);
}

// False when those who wait in `queue` are another scheduler's threads.
[[gnu::always_inline]] inline bool among_own(const detail::wait_queue& queue, const thread_record& self) noexcept {
  const waiter* const first = queue.front();
  return first == nullptr || first->thread->home == self.home;
}

[[gnu::always_inline]] inline void scheduler::wait_in(detail::wait_queue& queue, waiter& w, time_point deadline,
                                                      detail::cancellation mode) {
  thread_record& self = *current;
  thread_record* const next = ready_.front();
  if (!plain_switch(self, next) || deadline != never || self.has(flag_cancel) || !among_own(queue, self)) [[unlikely]] {
    return wait_with_care(queue, w, deadline, mode);
  }
  w.thread = &self;
  w.reason = detail::wake_reason::granted;
  w.shielded = mode == detail::cancellation::shielded || unwinding();
  queue.push_back(w);
  self.state = thread_state::parked;  // from running: it is current
  self.waits_on = &w;
  ready_.drop_front();
  switch_plainly(self, *next);
}

void scheduler::wait_with_care(detail::wait_queue& queue, waiter& w, time_point deadline, detail::cancellation mode) {
  if (!among_own(queue, *current)) [[unlikely]] used_by_two_schedulers(w.what);
  w.reason = detail::wake_reason::cancelled;
  if (refuses_wait(mode)) return;
  w.reason = detail::wake_reason::granted;
  w.thread = current;
  w.shielded = mode == detail::cancellation::shielded || unwinding();
  set_deadline(w, deadline);  // may throw: nothing is linked yet
  queue.push_back(w);
  park(w, thread_state::parked);
}

void scheduler::wait_again(detail::wait_queue& queue, waiter& w, time_point deadline, detail::cancellation mode) {
  w.reason = detail::wake_reason::cancelled;
  if (refuses_wait(mode)) return;
  w.reason = detail::wake_reason::granted;
  w.shielded = mode == detail::cancellation::shielded || unwinding();
  set_deadline(w, deadline);  // may throw: nothing is linked yet
  queue.push_front(w);
  park(w, thread_state::parked);
}

void scheduler::park(waiter& w, thread_state state) {
  thread_record& self = *current;
  self.set_state(state);
  self.waits_on = &w;
  if (trace != nullptr && state == thread_state::parked) [[unlikely]] {
    append_trace(trace::kind::park, self, reinterpret_cast<std::intptr_t>(w.object),
                 static_cast<std::uint8_t>(trace::waits_for_named(w.what)));
  }
  switch_to(self, next_runnable());
}

[[gnu::always_inline]] inline void scheduler::make_ready(thread_record& t) noexcept {
  t.set_state(thread_state::ready);
  if (!plain_) [[unlikely]] return make_ready_with_care(t);
  ready_.put(t);
}

void scheduler::make_ready_with_care(thread_record& t) noexcept {
  record(trace::kind::ready, t);
  queue(t, policy::came::woken);
}

// A policy that is built in costs a plain switch nothing: `plain_` stands for the absence of a trace as well, and the ready queue
// is empty wherever there is another policy, but for threads that must run before all others.
void scheduler::queue(thread_record& t, policy::came how) noexcept {
  if (order_ == nullptr) return ready_.put(t);
  order_->put(t, how);
}

bool scheduler::nothing_ready() const noexcept { return ready_.empty() && (order_ == nullptr || order_->empty()); }

thread_record* scheduler::take_ready() noexcept {
  thread_record* const first = ready_.take();
  return first != nullptr || order_ == nullptr ? first : order_->take();
}

void scheduler::make_ready_again(thread_record& t) noexcept { make_ready(t); }

[[gnu::always_inline]] inline void scheduler::end_wait_here(waiter& w, detail::wake_reason why) noexcept {
  if (w.one_of_many) [[unlikely]] return end_select(w, why);
  w.reason = why;
  w.thread->waits_on = nullptr;
  clear_deadline(w);
  make_ready(*w.thread);
}

void scheduler::end_wait(waiter& w, detail::wake_reason why) noexcept { end_wait_here(w, why); }

void scheduler::wake_joiners(thread_record& self) noexcept {
  while (waiter* const w = self.joiners.pop_front()) end_wait_here(*w, detail::wake_reason::granted);
}

// The running thread ends. Its stack may be given away only when nothing runs on it any more, so it waits for the next end.
void scheduler::retire_stack(thread_record& self) noexcept {
  free_retired();
  stacks_.unpromise(stack_pool::class_of(*self.extension->slot));
  retired_ = self.extension->slot;
  retired_notes_ = self.extension->notes;
}

void scheduler::free_retired() noexcept {
  if (retired_ == nullptr) return;
  context_detach(retired_notes_, retired_->lowest(), retired_->usable_size());
  stacks_.give(retired_);
  retired_ = nullptr;
}

// The end of the running thread, on its own stack to the last instruction.
void scheduler::exit_current() {
  thread_record& self = *current;
  record(trace::kind::exit, self);
  if (self.has(flag_floating_point)) [[unlikely]] load(common_fp_);
  retire_stack(self);
  self.set_state(thread_state::finished);
  wake_joiners(self);
  --alive_;
  if (&self == main_) {
    loop_.main_ended = true;
    budget_ = 1;  // the loop is to know at once
  }
  if (!stackless_.empty()) [[unlikely]] {
    queue(*stackless_.take(), policy::came::woken);
    stackless_tries_ = 0;
  }

  thread_record& next = next_runnable();
  if (self.has(flag_detached)) records_.give(self);
  exchange(ended_, next);
  if (next.state == thread_state::created) {
    start_thread(&ended_.context, nullptr, next);
  } else {
    take_processor(next);
    switch_context(&ended_.context, next.context, nullptr, next.extension->notes);
  }
  __builtin_unreachable();
}

}  // namespace weft::sched

// ---- what everything that waits goes through ----
//
// These end in the switch itself, as a tail call: the thread resumes in the code that called them, through the indirect jump,
// which predicts well, and not through returns that the processor matched with another thread's calls (docs/decisions.md, 1).
// That is why results are left in the waiter. What is not plain goes to a function of its own, also by a tail call.

namespace weft::detail {

void park_waiter(wait_queue& queue, waiter& self, time_point deadline, cancellation mode) {
  sched::scheduler_of_caller(self.what).wait_in(queue, self, deadline, mode);
}

void await_end(thread_record& of, waiter& self, time_point deadline, cancellation mode) {
  sched::scheduler& s = sched::scheduler_of_caller("thread::join");
  if (&of == s.current) {
    throw_error(std::errc::resource_deadlock_would_occur, "thread::join: a thread cannot join itself");
  }
  if (of.home != s.current->home) [[unlikely]] sched::used_by_two_schedulers("thread");
  self.reason = wake_reason::granted;
  self.slot = reinterpret_cast<void*>(static_cast<std::uintptr_t>(of.number));
  if (of.state != sched::thread_state::finished) park_waiter(of.joiners, self, deadline, mode);
}

void grant(waiter& w) noexcept {
  sched::scheduler& s = sched::this_scheduler();
  if (w.thread->home != s.current->home) [[unlikely]] sched::used_by_two_schedulers(w.what);
  s.end_wait_here(w, wake_reason::granted);
}

}  // namespace weft::detail

namespace weft::this_thread {
namespace {

// Apart, because what it keeps on the stack would be made room for in every yield.
[[gnu::noinline, gnu::cold]] void yield_in_region() {
  detail::with_processor("this_thread::yield", [] { yield(); });
}

}  // namespace

void yield() {
  detail::scheduler_face& face = detail::this_scheduler_face();
  if (face.current == nullptr) [[unlikely]] return yield_in_region();
  static_cast<sched::scheduler&>(face).let_others_run();
}

}  // namespace weft::this_thread
