// The scheduler: many threads, one processor. Read the essay at the top of scheduler.cpp first.
#pragma once

#include <cxxabi.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "sched/carrier.hpp"
#include "sched/context.hpp"
#include "sched/identity_lender.hpp"
#include "sched/inbox.hpp"
#include "sched/parked_memory.hpp"
#include "sched/ready_queue.hpp"
#include "sched/record_pool.hpp"
#include "sched/stack.hpp"
#include "sched/thread_record.hpp"
#include "sched/timer_queue.hpp"
#include "sched/watched_count.hpp"
#include "weft/policy.hpp"
#include "weft/runtime.hpp"
#include "weft/trace.hpp"
#include "weft/upcall.hpp"

namespace weft::sched {

class order;
class stall_watch;
class program_text;
class own_code;
struct interrupted_place;

/// One scheduler. All members are for the activation that holds its processor unless they say otherwise.
class scheduler final : public detail::scheduler_face, public upcall::handler {
 public:
  /// `what_happens` must outlive the scheduler.
  scheduler(const options& how, upcall::source& what_happens);
  ~scheduler();

  /// Runs `main` as the first thread and returns when no thread is left. Called once, on the kernel thread that is to carry
  /// the processor. @throws weft::deadlock
  void run(detail::start_block* main);

  // ---- threads (thread.cpp) ----

  /// Makes a thread of `start`, which it owns from here on. @throws std::system_error when a limit is reached
  thread_record& spawn(const attributes& how, detail::start_block* start);
  /// The handle is gone: a finished thread's record is free again, a living one's will be.
  void detach(thread_record& t) noexcept;
  void request_cancel(thread_record& t) noexcept;
  /// Asks the thread "main" to end, if it has not.
  void end_main() noexcept;
  /// Names the running thread.
  void rename(std::string_view name) noexcept;
  /// True when a wait in `mode` must end at once because the running thread was asked to end. A thread that unwinds is left
  /// alone: its destructors may block.
  [[nodiscard]] bool must_cancel(detail::cancellation mode) const noexcept {
    return current->has(flag_cancel) && mode == detail::cancellation::allowed && !unwinding();
  }
  [[nodiscard]] bool unwinding() const noexcept { return exceptions_->uncaught != 0; }

  // ---- giving the processor away (scheduler.cpp) ----

  void yield();
  /// Runs the new thread `child` at once; the running thread comes next when the child waits or ends.
  void run_first(thread_record& child);
  /// Gives it away until the waiter, which the caller has linked, is granted. `state` is parked or in_kernel.
  void park(waiter& w, thread_state state);
  /// Links the waiter, parks, and leaves in `w.reason` how the wait ended. @throws std::bad_alloc for want of a timer
  void wait_with_care(detail::wait_queue& queue, waiter& w, time_point deadline, detail::cancellation mode);
  /// The same for a waiter that was granted in vain: it comes before all others of the queue.
  void wait_again(detail::wait_queue& queue, waiter& w, time_point deadline, detail::cancellation mode);
  void end_wait(waiter& w, detail::wake_reason why) noexcept;
  /// Between the two calls other kernel threads may end a wait of the running thread, by inbox::push_wake: meanwhile an idle
  /// scheduler is not deadlocked.
  void begin_open_wait() noexcept { ++open_waits_; }
  void end_open_wait() noexcept { --open_waits_; }

  // The same as yield, wait_with_care and end_wait, inlined into the few functions of dispatch.cpp that must be fast.
  void let_others_run();
  void wait_in(detail::wait_queue& queue, waiter& w, time_point deadline, detail::cancellation mode);
  void end_wait_here(waiter& w, detail::wake_reason why) noexcept;
  /// Of one that stands for many: none of the others is waited for any more (select.cpp).
  void end_select(waiter& w, detail::wake_reason why) noexcept;

  void set_deadline(waiter& w, time_point deadline) {
    if (deadline != never) timers_.arm(w, deadline);
  }
  void clear_deadline(waiter& w) noexcept {
    if (w.timer != 0) timers_.disarm(w);
  }
  /// An operation completed without a wait: counts like a switch, so that a thread that never waits starves nobody.
  void completed_at_once() {
    if (--budget_ == 0) [[unlikely]] yield_to_activation();
  }
  /// One of the numbers below `n`, by lot.
  [[nodiscard]] std::uint32_t draw(std::uint32_t n) noexcept {
    lots_ = lots_ * 1664525 + 1013904223;  // W. H. Press et al., Numerical Recipes
    return static_cast<std::uint32_t>(std::uint64_t{lots_} * n >> 32);
  }
  /// True when a wait in `mode` is refused because of a cancellation. That counts as well: the thread may try for ever.
  [[nodiscard]] bool refuses_wait(detail::cancellation mode) {
    if (!must_cancel(mode)) [[likely]] return false;
    completed_at_once();
    return true;
  }

  // ---- upcalls ----

  void handle(std::span<const upcall::event> batch) override;
  [[nodiscard]] bool others_ready() const noexcept override { return !nothing_ready(); }
  /// The running thread is about to wait for the kernel.
  void note_blocked(upcall::cause why) { note(about(upcall::kind::blocked, why, *current)); }
  [[nodiscard]] const upcall::tally& tally() const noexcept { return tally_; }

  using observer = std::function<void(std::span<const upcall::event>)>;
  /// Owned by subscriptions; expired ones are dropped at the next delivery.
  void observe(const std::shared_ptr<observer>& who);

  // ---- being asked to end (cancel.cpp) ----

  /// The running thread enters a scope or a shield. @throws std::bad_alloc for want of a timer
  void enter(detail::cancel_frame& f, time_point deadline);
  void leave(detail::cancel_frame& f) noexcept;
  void cancel(detail::cancel_frame& f) noexcept;
  void hand_out(detail::cancel_frame& f, detail::stop_outlet& to) noexcept;

  // ---- regions and activations (region.cpp, activation.cpp) ----

  /// The running thread begins a region of blocking(). It may come back on another kernel thread.
  void enter_region();
  /// The same for a thread in its own code. Always true.
  bool enter_region_from_outside();
  /// The thread whose region runs on `me` ends it. Returns with the processor, perhaps on another kernel thread.
  static void leave_region(carrier& me) noexcept;
  /// The same thread takes the processor for one operation, and gives it back, on this kernel thread.
  static void pause_region(carrier& me);
  static void resume_region(carrier& me) noexcept;

  void prepare_activation(std::uint32_t number) override;
  void begin_activation(std::uint32_t number) override;
  bool take(std::uint32_t number, detail::processor::word seen) override;
  void took(std::uint32_t number, detail::processor::word seen) override;
  void serve(std::uint32_t number) override;
  void end_activation(std::uint32_t number) override;

  // ---- threads in their own code, open to upcalls (outside.cpp) ----

  /// The running thread goes on to its own code; comes back for a call of weft. See flag_outside.
  void step_outside() noexcept;
  void step_inside() noexcept;
  /// Gives time slices to a thread, or takes them from it. From its next step outside on.
  void slice(thread_record& t, bool on);
  /// In the signal handler of a tick, on the kernel thread of `me`.
  static void on_tick(carrier& me, void* context) noexcept;

  bool may_displace(std::uint32_t by, std::uint32_t where, const upcall::whereabouts& at) override;
  void returns(std::uint32_t number, void* context, std::uintptr_t waited_at) noexcept override;
  void come_back(std::uint32_t number) noexcept override;

  /// True when what the running thread starts must not bind the processor to its kernel thread: it is to go elsewhere.
  [[nodiscard]] bool processor_is_to_move() const noexcept {
    return current->has(flag_pinned) || all_code_ || !wants_processor_.empty();
  }
  /// The activation that holds the processor.
  [[nodiscard]] carrier& holder() noexcept { return *carrier_; }

  // ---- seen from other kernel threads (stall.cpp) ----

  /// Another number after every switch and every upcall that was taken; 0 while no thread holds the processor.
  [[nodiscard]] std::uint64_t progress() const noexcept;
  /// Kernel id of the kernel thread that holds the processor; 0 while it is on its way from one to another.
  [[nodiscard]] int kernel_thread() const noexcept;
  /// Who watches for stalls from here on; null: nobody.
  void set_watch(stall_watch* by) noexcept { watch_ = by; }
  [[nodiscard]] stall_watch* watch() const noexcept { return watch_; }

  // ---- the rest ----

  /// What serves the policy; null where that is built in (dispatch.cpp).
  [[nodiscard]] order* ordered() const noexcept { return order_.get(); }
  /// Records what happens in `where` from here on; null: no more.
  void trace_to(trace::ring* where) noexcept {
    trace = where;
    plain_ = trace == nullptr && order_ == nullptr;
  }
  [[nodiscard]] const std::shared_ptr<inbox>& mail() const noexcept { return inbox_; }
  [[nodiscard]] start_pool& starts() noexcept { return starts_; }
  [[nodiscard]] record_pool& records() noexcept { return records_; }
  [[nodiscard]] const options& settings() const noexcept { return options_; }
  void free_record(thread_record& t) noexcept { records_.give(t); }

  void record(trace::kind what, const thread_record& t, std::int64_t value = 0, std::uint8_t detail = 0) noexcept {
    if (trace != nullptr) [[unlikely]] append_trace(what, t, value, detail);
  }

 private:
  struct loop_state {
    bool main_ended = false;  // the others are to be asked to end
    bool ending = false;      // they were; new ones are at once
    bool deadlocked = false;  // everything waited for nothing: all were asked to end; `report` says how it was
    std::string report;
  };
  struct post_state {
    const thread_record* newest = nullptr;  // the thread that the latest post became,
    std::uint32_t number = 0;               // as it was then: records are used again
    time_point again{};                     // there was no memory for another one: when to try again
  };

  void adopt_policy();
  void loop(carrier& me);
  [[nodiscard]] bool idle();
  [[nodiscard]] bool doze(time_point until);
  void rest(bool now) noexcept;
  void poll_if_due();
  time_point trim_spare_stacks();
  void expire_timers();
  static bool is_to_end(const thread_record& t) noexcept;
  static bool is_to_end_in(const detail::cancel_frame* f, const thread_record& t) noexcept;
  void tell_stretches(thread_record& t) noexcept;
  void reconsider_end(thread_record& t) noexcept;
  void end_wait_of(thread_record& t) noexcept;
  void end_stretch(waiter& alarm) noexcept;
  [[nodiscard]] bool mail_due() const noexcept;
  void take_mail();
  [[nodiscard]] bool posts_due() const noexcept;
  void take_posts();
  void end_wait_by(inbox::post& wake) noexcept;
  void cancel_all() noexcept;
  void on_deadlock();

  void dispatch(thread_record& next);
  void wait_for_stack(thread_record& t, const char* why) noexcept;
  void switch_to(thread_record& self, thread_record& next);
  [[gnu::always_inline]] inline void exchange(thread_record& from, const thread_record& to) noexcept {
    exchange_state(*exceptions_, *errno_, from, to);
  }
  static void exchange_state(exception_state& exceptions, int& error, thread_record& from, const thread_record& to) noexcept;
  void take_processor(thread_record& next) noexcept;
  [[nodiscard]] bool plain_switch(const thread_record& self, const thread_record* next) const noexcept;
  void switch_plainly(thread_record& self, thread_record& next);
  bool find_stack(thread_record& t) noexcept;
  stack_slot* make_stack(const stack_class& wanted);
  void switch_with_care(thread_record& self, thread_record& next);
  void stay_here(thread_record& self, thread_record& next);
  void start_thread(void** save_here, context_notes* from, thread_record& next);
  thread_record& next_runnable();
  void yield_to_activation();
  [[noreturn]] void exit_current();
  void retire_stack(thread_record& self) noexcept;
  void free_retired() noexcept;
  void make_ready(thread_record& t) noexcept;
  void make_ready_with_care(thread_record& t) noexcept;
  void queue(thread_record& t, policy::came how) noexcept;
  [[nodiscard]] bool nothing_ready() const noexcept;
  [[nodiscard]] thread_record* take_ready() noexcept;
  void yield_in_order();
  void note_spawned(thread_record& made, const attributes& how) noexcept;
  void wake_joiners(thread_record& self) noexcept;
  static void thread_main();

  [[nodiscard]] upcall::event about(upcall::kind what, upcall::cause why, thread_record& t, std::int32_t result = 0) const {
    return {what, why, carrier_->number, t.number, result, {}, &t};
  }
  void note(const upcall::event& e) noexcept;
  void deliver() noexcept;
  void append_trace(trace::kind what, const thread_record& t, std::int64_t value, std::uint8_t detail) noexcept;

  // region.cpp
  [[nodiscard]] carrier& carrier_of(std::uint32_t number) noexcept { return number == 1 ? first_ : *others_[number - 2]; }
  [[nodiscard]] bool ready_to_lend() const noexcept;
  [[nodiscard]] bool prepare_region();
  [[nodiscard]] bool provide_activation();
  bool make_pool();
  void move_identity();
  void lend(carrier& me) noexcept;
  void be_carried();
  void carry(carrier& me, thread_record& t);
  [[nodiscard]] bool someone_to_carry() noexcept;
  void hand_back(carrier& me, thread_record& self) noexcept;
  void come_in(carrier& me, thread_record& self) noexcept;
  void leave_region_for(carrier::departure why, carrier& me, thread_record& self) noexcept;
  [[nodiscard]] bool take_back(carrier& me, thread_record& self) noexcept;
  [[nodiscard]] bool see_off(carrier& me) noexcept;
  void publish(thread_record& t) noexcept;
  void take_returned() noexcept;
  void make_ready_again(thread_record& t) noexcept;  // dispatch.cpp
  [[nodiscard]] bool observes() const noexcept { return trace != nullptr || observed_; }
  [[nodiscard]] bool has_returned() const noexcept { return returned_.load(std::memory_order_relaxed) != nullptr; }
  void settle_on(carrier& by, const identity& as) noexcept;
  void become_holder(carrier& me) noexcept;
  void take_identity(carrier& me) noexcept;
  void give_identity_up(carrier& me) noexcept;
  static void settle_tools(carrier& me) noexcept;
  void cease_to_hold(carrier& me) noexcept;
  void begin_all_code();
  void keep_one_free() noexcept;
  void be_preempted() noexcept;
  void give_way_late() noexcept;
  static void preempted(void* of) noexcept;
  static void displaced(void* where) noexcept;
  void leave_own_code(carrier& me) noexcept;
  void wait_where_it_is(carrier& me) noexcept;
  void prepare_time_slices();
  void begin_ticks();
  void bring_ticks(carrier& to, int signal) noexcept;
  void note_taken(carrier& me, detail::processor::word seen) noexcept;
  void note_added(const carrier& to, upcall::cause why = upcall::cause::region) noexcept {
    note({upcall::kind::processor_added, why, to.number, 0, 0, {}, nullptr});
  }
  [[nodiscard]] bool may_interrupt(const thread_record& t, const interrupted_place& at) const noexcept;
  void give_processor_to(thread_record& pinned) noexcept;
  void await_processor(carrier& me, thread_record& self) noexcept;
  void let_next_enter() noexcept;
  void step(const char* what) const noexcept {
    if (pool_ != nullptr && pool_->steps) [[unlikely]] pool_->step(what);
  }

  friend class report_writer;

  // What every switch touches comes first, in as few cache lines as possible.
  ready_queue ready_;
  watched_count budget_;             // switches until the next look at upcalls
  bool plain_ = true;                // no trace, and no policy but the one built in: switches need no care
  bool observed_ = false;            // somebody subscribed to upcalls
  bool turn_due_ = false;            // run_first() is to ask whether it is the turn of the others: once per look at upcalls
  exception_state* exceptions_;      // of the kernel thread that holds the processor: settle_on() changes them
  int* errno_;
  carrier* carrier_;                 // the activation that holds the processor
  stack_slot* retired_ = nullptr;    // of the thread that ended last; not reused before another thread ended
  context_notes retired_notes_;
  thread_record ended_;              // where a thread that ends leaves what nobody needs any more

  floating_point_control common_fp_;

  options options_;
  std::unique_ptr<order> order_;  // see ordered(). What is in ready_ runs before anything in here
  bool child_first_ = false;      // policies::child_first
  timer_queue timers_;
  std::uint32_t lots_ = 1;  // see draw
  record_pool records_;
  start_pool starts_;
  stack_pool stacks_;
  stack_class default_class_;
  ready_queue stackless_;      // created threads for which no stack could be made; they wait for one to come back
  std::string stackless_why_;  // what the kernel said
  unsigned stackless_tries_ = 0;  // in vain, since a stack could be made
  std::size_t alive_ = 0;
  std::uint32_t last_number_ = 0;
  thread_record* main_ = nullptr;
  loop_state loop_;
  post_state posts_;
  time_point last_poll_{};
  time_point last_turn_{};         // when a loop that spawns child first last let the others run
  time_point spare_since_{};       // when the present window of watching for spare stacks began
  std::size_t fewest_spare_ = 0;   // in this window
  parked_memory parked_memory_;
  std::shared_ptr<inbox> inbox_;
  std::size_t open_waits_ = 0;  // that other kernel threads may end
  upcall::tally tally_;
  std::vector<upcall::event> noted_;  // for observers, until the next delivery
  struct listener {
    std::weak_ptr<observer> who;
    std::size_t from = 0;  // in the batch of the next delivery: what was noted before is not for it
  };
  std::vector<listener> observers_;

  // For those who look from outside.
  watched_count turns_;                  // of the loop
  std::atomic<bool> resting_{true};      // no thread could run
  std::atomic<std::uint64_t> settled_{0};  // number of the activation that found itself the holder, and its kernel id
  stall_watch* watch_ = nullptr;

  // Threads in their own code (outside.cpp).
  bool all_code_ = false;        // all of them are outside, and an activation takes over when one waits
  bool moves_identity_ = false;  // identity goes with the processor
  int tick_signal_ = 0;          // of timers that tick; 0: nobody has asked for time slices
  carrier_face outside_;
  identity shared_;                        // the processor's
  context_notes* shared_notes_ = nullptr;  // of the thread that has just been taken off another kernel thread with that identity
  std::unique_ptr<identity_lender> lender_;
  std::unique_ptr<program_text> program_;
  std::unique_ptr<own_code> own_code_;

  // Activations. `processor_` is anybody's, `returned_` that of threads that come back, `to_carry_` under its lock.
  detail::processor processor_{1};
  std::unique_ptr<upcall::activation_pool> pool_;  // made at the first region
  bool asked_for_pool_ = false;
  std::size_t away_ = 0;                     // threads in state away
  // Ready threads that are pinned: they get the processor as soon as nothing is in flight that binds it to its kernel thread.
  ready_queue wants_processor_;
  detail::wait_queue wants_activation_;      // threads that would enter a region, and as many are there as may be
  std::atomic<thread_record*> returned_{nullptr};  // newest first
  std::mutex carry_lock_;
  ready_queue to_carry_;
  carrier first_;                            // of the kernel thread that called run()
  std::vector<std::unique_ptr<carrier>> others_;  // by number less 2; each slot is its kernel thread's
};

// Exchanges what a kernel thread keeps for the running program: the exception state and errno.
[[gnu::always_inline]] inline void scheduler::exchange_state(exception_state& exceptions, int& error, thread_record& from,
                                                             const thread_record& to) noexcept {
  from.caught = exceptions.caught;
  from.uncaught = exceptions.uncaught;
  from.error = error;
  exceptions.caught = to.caught;
  exceptions.uncaught = to.uncaught;
  error = to.error;
}

/// The scheduler of the calling kernel thread, for the weft thread that runs on it.
/// @throws std::system_error(operation_not_permitted) off a weft thread; `call` names the function in the text.
inline scheduler& scheduler_of_caller(const char* call) {
  detail::scheduler_face& face = detail::this_scheduler_face();
  if (face.current == nullptr) [[unlikely]] detail::throw_off_weft(call);
  return static_cast<scheduler&>(face);
}
/// The scheduler of the calling thread, if that is in its own code, open to upcalls; otherwise null.
[[nodiscard]] scheduler* scheduler_outside() noexcept;
/// The same as a weft::no_preemption that begins or ends here; nothing off a weft thread.
void hold_ticks(bool on) noexcept;
/// The same where the caller is known to be a weft thread.
inline scheduler& this_scheduler() noexcept { return static_cast<scheduler&>(detail::this_scheduler_face()); }

}  // namespace weft::sched
