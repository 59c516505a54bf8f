// Threads whose own code upcalls may interrupt at any instruction.
//
// Ordinarily a thread gives the processor away only where it calls weft. Such a thread is always *inside* the scheduler: its
// calls touch the scheduler's data directly. A thread that upcalls may interrupt (`options::activations` is `all`, or it asked
// for time slices) is *outside* while it runs its own code, and comes inside for every call of weft: the kernel thread's face
// (abi.hpp) then says that no thread is current, so that each call goes through with_processor(), as in a region. So nothing is
// added to the calls of other threads, and an upcall that finds a thread outside finds the scheduler's data whole, inline code
// included.
//
// Outside, the grip on the processor is `open`, or `kept` where only ticks interrupt. Two things may happen.
//
// A tick (time_slice). The signal handler makes the thread call `preempted` before its next instruction (context_interrupt.hpp):
// it comes inside, joins the end of the ready queue (upcall `preempted`), and goes out again when its turn comes. Only in the
// program's own machine code, because nobody knows which locks a library holds.
//
// Its kernel thread waits (activations = all). An activation that stands by takes the processor (`blocked`), if the place where
// the thread waits is a safe one (own_code.hpp). When the wait is over the kernel thread must not run the thread's code, because
// another thread runs now: it is stopped by a trap before its first instruction (upcall/return_trap.hpp), leaves the thread's
// stack for its own, and hands the thread over to the list of those that come back (`unblocked`).
//
// Identity. An interrupted thread may have the address of errno or of a thread_local in a register and go on elsewhere, so it
// must be the same address there: identity goes with the processor (context_identity.hpp). Marked regions, which may run in
// parallel with the holder, are therefore always carried to another kernel thread, which has an identity of its own.
//
// Invariants.
//   1. The grip is open or kept exactly while the running thread is outside; who closes it (close, take) alone goes on.
//   2. carrier::outside names the thread in whose own code its kernel thread is. Only that kernel thread writes it. Where it is
//      set and the processor is another's, the kernel thread executes no instruction of the thread's.
//   3. A kernel thread has the processor's identity exactly while it holds the processor, or stands stopped in a thread's code.
#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <cstdlib>
#include <new>
#include <string>

#include "sched/context_interrupt.hpp"
#include "sched/own_code.hpp"
#include "sched/program_text.hpp"
#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "sched/stall.hpp"
#include "weft/thread.hpp"

namespace weft::detail {
void set_this_scheduler(scheduler_face* face) noexcept;  // park.cpp
}

namespace weft::sched {

using grip = detail::processor::grip;

namespace {
constinit std::atomic<bool> ticks_are_over{false};  // the program is ending: its destructors are not made for company
}

// ---- beginning ----

// Before the first thread.
void scheduler::begin_all_code() {
  all_code_ = make_pool() && pool_->all_code;
  if (!all_code_) {
    return print_report(
        "weft: options::activations is all, which this kernel or this build refuses (weft::probe() says why); only regions of "
        "weft::blocking are taken over\n");
  }
  own_code_ = std::make_unique<own_code>(beginning_of_function(reinterpret_cast<std::uintptr_t>(&scheduler::thread_main)));
  static_cast<void>(provide_activation());
}

// In the loop, because whatever uses up one who stood by ends there: somebody is to be there who can take over from the holder.
void scheduler::keep_one_free() noexcept {
  try {
    static_cast<void>(provide_activation());
  } catch (const std::exception&) {  // no kernel thread: until one comes back, who waits keeps the processor
  }
}

// ---- in and out ----

// From the moment the grip is open it may go on elsewhere: behind that stands only what does not mind.
// seq_cst, as the exchange: see processor::loosen.
void scheduler::step_outside() noexcept {
  if (carrier_->tick_due.load(std::memory_order_relaxed) == current) [[unlikely]]
    give_way_late();
  carrier& me = *carrier_;
  if (all_code_ && pool_->watched.load(std::memory_order_relaxed) != me.number) pool_->watch(me.number);
  outside_.away = current;
  me.outside.store(current, std::memory_order_relaxed);
  detail::set_this_scheduler(&outside_);
  step("outside");
  upcall::activation_pool* const pool = all_code_ ? pool_.get() : nullptr;
  processor_.loosen(pool != nullptr ? grip::open : grip::kept);
  if (pool != nullptr && pool->watchdog_asleep.load(std::memory_order_seq_cst)) [[unlikely]] pool->wake_watchdog();
}

// It may be interrupted up to the end of close(), and go on elsewhere: nothing is read before that.
void scheduler::step_inside() noexcept {
  processor_.close();
  carrier_->outside.store(nullptr, std::memory_order_relaxed);
  detail::set_this_scheduler(this);
  step("inside");
}

scheduler* scheduler_outside() noexcept {
  detail::scheduler_face& face = detail::this_scheduler_face();
  return face.current != nullptr || face.away == nullptr ? nullptr : static_cast<carrier_face&>(face).outside_of;
}

// ---- ticks ----

namespace {

volatile unsigned* own_no_preempt() noexcept {
  const detail::scheduler_face& face = detail::this_scheduler_face();
  const thread_record* const self = face.current != nullptr ? face.current : face.away;
  return self == nullptr ? nullptr : &self->extension->no_preempt;
}

}  // namespace

void hold_ticks(bool on) noexcept {
  if (volatile unsigned* const counter = own_no_preempt(); counter != nullptr) *counter = on ? *counter + 1 : *counter - 1;
}

// On the activation's stack upcalls are taken, so that those who compute starve neither I/O nor timers.
void scheduler::be_preempted() noexcept {
  note(about(upcall::kind::preempted, upcall::cause::time_slice, *current));
  yield_to_activation();
}

// A tick found the thread where it could not be interrupted.
void scheduler::give_way_late() noexcept {
  if (current->extension->no_preempt != 0) return;
  carrier_->tick_due.store(nullptr, std::memory_order_relaxed);
  be_preempted();
}

// Called by the interrupted thread itself, wherever in its own code it was.
void scheduler::preempted(void* of) noexcept {
  const int error = errno;
  auto& s = *static_cast<scheduler*>(of);
  s.step_inside();
  s.be_preempted();
  errno = error;
  s.step_outside();
}

// One that runs in a region, or for the scheduler, has no time slice to use up.
void scheduler::on_tick(carrier& me, void* context) noexcept {
  const scheduler& s = *me.home;
  const detail::processor::word now = s.processor_.look();
  if (detail::processor::holder(now) != me.number || ticks_are_over.load(std::memory_order_relaxed)) return;
  const bool outside = detail::processor::outside(now);
  thread_record* const t = outside ? me.outside.load(std::memory_order_relaxed) : s.current;
  if (t == nullptr || !t->has(flag_sliced)) return;
  if (!outside || t->extension->no_preempt != 0 || !s.may_interrupt(*t, place_of(context))) {
    me.tick_due.store(t, std::memory_order_relaxed);
    return;
  }
  interrupt(context, &scheduler::preempted, me.home);
}

bool scheduler::may_interrupt(const thread_record& t, const interrupted_place& at) const noexcept {
  const auto lowest = reinterpret_cast<std::uintptr_t>(t.extension->slot->lowest());
  const auto top = reinterpret_cast<std::uintptr_t>(t.extension->slot->usable_top());
  return at.stack_pointer < top && at.stack_pointer > lowest + interruption_room() && program_->contains(at.instruction);
}

void scheduler::prepare_time_slices() {
  constexpr std::chrono::microseconds shortest{100};
  if (options_.time_slice.count() == 0) return;
  if (options_.time_slice < shortest) {
    detail::throw_error(std::errc::invalid_argument,
                        "weft::run: options::time_slice is shorter than 100 µs; 1 ms suits most programs");
  }
  program_ = std::make_unique<program_text>();
  const char* refused = nullptr;
  if (!contexts_interruptible || !identities_move) refused = "works on x86-64, without ThreadSanitizer and valgrind";
  if (program_->holds_allocator()) refused = "cannot tell the program from the malloc that is linked into it";
  if (refused == nullptr) return;
  print_report(std::string("weft: options::time_slice ") + refused + "; no thread is preempted\n");
  options_.time_slice = {};
}

namespace {

// From exit on; and in fork(), or whoever ran meanwhile might fork too, and find taken what the handlers of forks lock, our own
// (crash.cpp, upcall/owned_descriptors.cpp) and the C library's. Those that are registered last, as these are, run first before
// the fork, and last after it.
void hold_ticks_where_they_harm() {
  static const int error = [] {
    if (std::atexit([] { ticks_are_over.store(true, std::memory_order_relaxed); }) != 0) return ENOMEM;
    return ::pthread_atfork([] { hold_ticks(true); }, [] { hold_ticks(false); }, nullptr);
  }();
  if (error != 0) detail::throw_errno(error, "weft: the C library refuses another handler of exit or fork");
}

}  // namespace

// The first thread that wants ticks brings them to this activation; those that get the processor later get ticks with it. From
// here on this is no program of one kernel thread for the C++ library: it would leave out what makes its reference counts whole.
void scheduler::begin_ticks() {
  if (tick_signal_ != 0 || options_.time_slice.count() == 0) return;
  hold_ticks_where_they_harm();
  const int signal = upcall::take_signal(options_.preemption_signal, on_interruption);
  if (lender_ == nullptr) lender_ = std::make_unique<identity_lender>();
  bring_ticks(*carrier_, signal);
  if (carrier_->ticks == nullptr) {
    detail::throw_error(std::errc::not_supported, "weft: this kernel has no clock for time slices (weft::probe() says why)");
  }
  tick_signal_ = signal;
}

void scheduler::bring_ticks(carrier& to, int signal) noexcept {
  if (to.ticks != nullptr) return;
  to.ticks.reset(new (std::nothrow) upcall::ticker(options_.time_slice, signal, &to));
  if (to.ticks != nullptr && to.ticks->source() == upcall::ticker::clock::none) to.ticks.reset();
}

// ---- waiting in its own code ----

// The other may be gone before this is over, its kernel thread too: then the word has changed, and whatever was read is not used.
bool scheduler::may_displace(std::uint32_t by, std::uint32_t where, const upcall::whereabouts& at) {
  static_assert(sizeof(std::unique_ptr<carrier>) == sizeof(carrier*) && sizeof first_.outside == sizeof(thread_record*));
  carrier_of(by).found = at;
  const carrier* there = &first_;
  if (where != 1 && !upcall::peek(reinterpret_cast<carrier* const*>(&others_[where - 2]), const_cast<carrier*&>(there)))
    return false;
  const thread_record* t = nullptr;
  return upcall::peek(reinterpret_cast<thread_record* const*>(&there->outside), const_cast<thread_record*&>(t)) && t != nullptr &&
         own_code_->is_safe(t, at);
}

void scheduler::returns(std::uint32_t number, void* context, std::uintptr_t waited_at) noexcept {
  carrier& me = carrier_of(number);
  if (me.outside.load(std::memory_order_relaxed) == nullptr || processor_.still_open(number)) return;
  if (place_of(context).stack_pointer != waited_at) return wait_where_it_is(me);
  // A handler of the program's must not run here now: it would have the holder's identity.
  me.signals_before = exchange_signal_mask(context, all_signals);
  me.signals_held = true;
  interrupt(context, &scheduler::displaced, &me);
}

void scheduler::displaced(void* where) noexcept {
  carrier& me = *static_cast<carrier*>(where);
  assume(me.own);
  me.has_shared = false;
  me.home->leave_own_code(me);
}

// A signal of the program's came together with the trap: its handler is about to run above the thread, and must return on this
// kernel thread. (The instruction that met the trap goes on without minding it when the handler has returned.) So the kernel
// thread waits here, in our own handler, until the thread is given the processor.
void scheduler::wait_where_it_is(carrier& me) noexcept {
  thread_record& self = *me.outside.load(std::memory_order_relaxed);
  assume(me.own);
  me.has_shared = false;
  self.extension->pinned_to = &me;
  publish(self);
  await_processor(me, self);
  take_identity(me);
  settle_on(me, shared_);
  exchange_state(*exceptions_, *errno_, me.record, self);
  self.flags = static_cast<std::uint8_t>(self.flags & ~flag_pinned);
  self.extension->pinned_to = nullptr;
  me.tick_due.store(nullptr, std::memory_order_relaxed);
  step_outside();
}

void scheduler::come_back(std::uint32_t number) noexcept {
  carrier& me = carrier_of(number);
  step("return");
  if (me.outside.load(std::memory_order_relaxed) == nullptr || processor_.still_open(number)) return;
  leave_own_code(me);
}

// The processor is another's. Until the thread is resumed nothing of the scheduler is touched but what belongs to this kernel
// thread and this thread. Where identity moves, errno and the exception state were put by when the processor was taken.
void scheduler::leave_own_code(carrier& me) noexcept {
  thread_record& self = *me.outside.exchange(nullptr, std::memory_order_relaxed);
  me.why = carrier::departure::comes_back;
  me.leaving = &self;
  if (!moves_identity_) exchange_state(*me.own.exceptions, *me.own.error, self, me.record);
  const bool own_words = self.extension->own_words;
  if (own_words) {
    save(self.extension->fp);
    load(me.fp);
  }
  me.was_displaced = me.home->moves_identity_;
  context_leave(me.was_displaced ? &me.own_notes : &self.extension->notes, me.extension.notes);
  exchange_stacks(&self.context, me.record.context);
  context_arrive(self.extension->notes);
  scheduler& s = *static_cast<scheduler*>(&detail::this_scheduler_face());
  if (own_words) {
    save(s.common_fp_);
    load(self.extension->fp);
  }
  s.step_outside();
}

}  // namespace weft::sched

namespace weft {

bool upcall::threads_interruptible() noexcept { return sched::contexts_interruptible && sched::identities_move; }
bool upcall::waits_can_be_left() noexcept {
  return threads_interruptible() && sched::library_calls_are_plain && !sched::program_text().holds_allocator();
}

void this_thread::set_time_slice(bool on) {
  const auto change = [on] { sched::this_scheduler().slice(*detail::current_thread(), on); };
  if (detail::current_thread() == nullptr) return detail::with_processor("this_thread::set_time_slice", change);
  change();
  if (detail::current_thread()->has(sched::flag_outside)) sched::this_scheduler().step_outside();
}

no_preemption::no_preemption() noexcept : counter_(sched::own_no_preempt()) {
  if (counter_ != nullptr) *counter_ = *counter_ + 1;
}

}  // namespace weft
