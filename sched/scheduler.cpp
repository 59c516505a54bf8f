// The scheduler.
//
// Concepts. A *thread* is a record, and while it lives a stack. The *processor* is the right to run threads of this scheduler;
// exactly one kernel thread has it, its *activation*. The activation has a stack of its own, the kernel thread's, on which it
// runs `loop`: take upcalls, run threads, and sleep when there is nothing to do. A record stands for that stack, so that one
// switch serves all. While no thread is in a region of `blocking`, the activation is the kernel thread that called run();
// how the processor goes to another one is told in region.cpp.
//
// Life of a thread. `spawn` makes a record in the ready queue. It gets a stack when it first runs (`start_thread`), so a
// hundred thousand threads that run one after the other use one warm stack. A thread that waits links a waiter, and `park`
// switches to the next ready thread directly, without a trip through the activation. Whoever ends the wait puts it back into
// the ready queue. At its end `exit_current` wakes who joins it and goes to the next thread; its stack is `retired_` until
// another thread exits, because it is still running on it.
//
// When upcalls are taken. On the activation's stack only: when no thread is ready, and every `switches_per_poll` switches
// (`budget_`). Then every thread that could run is taken into account before the kernel is asked again, so neither I/O nor
// threads starve. A thread whose stack must first be mapped is also started from there: mapping touches more stack than a
// parked thread should own.
//
// What a kernel thread keeps for the running program belongs to the thread: errno and the C++ exception state are exchanged
// at every switch. Nothing that belongs to the kernel thread is kept in a local across a switch.
//
// Invariants.
//   1. Only the activation that holds the processor touches anything here. Other kernel threads reach `inbox` alone; other
//      activations the processor's word, the list of threads that come back, and under its lock that of threads to carry.
//   2. A thread is in exactly one state; set_state checks every transition. In the ready queue or the policy, or in one of the
//      two queues of those that need something first (a stack, the processor on their own kernel thread), are exactly those
//      created or ready. `current` is the one running, null while the loop itself runs.
//   3. A waiter is linked (queue, timer, operation) exactly while its thread is parked or in_kernel.
//   4. An operation's thread leaves in_kernel only by the operation's completion, whatever its deadline or a cancellation
//      say: until then the kernel may write to its memory.
//
// Rejected. A scheduler stack between every two threads: doubles the cost of a switch. A run queue as an array: copying when it
// grows, and eight bytes per thread for good. Polling at every switch: a system call costs 50 switches. Waking a thread by
// switching to it at once: unfair, and the waker's locks are still held.
#include "sched/scheduler.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "sched/built_in_order.hpp"
#include "sched/order.hpp"
#include "sched/own_code.hpp"
#include "sched/program_text.hpp"
#include "sched/report.hpp"
#include "sched/stall.hpp"

namespace weft::sched {

namespace {
constexpr std::chrono::milliseconds retry{10};  // what found no memory is tried again so often,
constexpr unsigned most_tries = 100;            // and so many times when nothing else could happen
}

scheduler::scheduler(const options& how, upcall::source& what_happens)
    : budget_(std::max(1U, how.switches_per_poll)),
      options_(how),
      stacks_(stack_limits{}),
      default_class_(stacks_.classify({how.stack, how.guard, false})),
      inbox_(std::make_shared<inbox>(what_happens)),
      first_(*this, 1) {
  source = &what_happens;
  options_.switches_per_poll = budget_;
  adopt_policy();
  first_.begin();
  outside_.outside_of = this;
  shared_ = first_.own;
  settle_on(first_, shared_);
  prepare_time_slices();
  source->attach(*this);
}

// Before the first record is made: records of a scheduler with a policy are larger.
void scheduler::adopt_policy() {
  if (!options_.policy) return;
  std::unique_ptr<policy> by = options_.policy();
  if (by == nullptr) {
    detail::throw_error(std::errc::invalid_argument, "weft::run: options::policy made no policy (a null pointer)");
  }
  if (const auto* const built_in = dynamic_cast<const built_in_order*>(by.get())) {
    child_first_ = built_in->child_first;
    return;
  }
  order_ = std::make_unique<order>(std::move(by));
  records_.make_room_for_nodes();
  plain_ = false;
}

scheduler::~scheduler() {
  inbox_->refuse();
  free_retired();
}

// ---- the loop of the activation ----

void scheduler::run(detail::start_block* main) {
  rest(false);
  note_added(first_, upcall::cause::start);
  if (options_.activations == activations::all) {
    try {
      begin_all_code();
    } catch (...) {
      main->discard(*main);
      throw;
    }
  }
  main_ = &spawn({.name = "main"}, main);
  detach(*main_);
  loop(first_);
  if (pool_ != nullptr) {
    cease_to_hold(first_);
    pool_->stand_by(first_.number);  // until the last thread has ended, wherever that is
    rest(true);
    pool_->join();
    become_holder(first_);
  }
  first_.ticks.reset();
  deliver();
  if (loop_.deadlocked) throw deadlock(loop_.report);
}

// Runs threads for as long as `me`, the activation on whose stack this is, holds the processor.
void scheduler::loop(carrier& me) {
  for (;; ++turns_) {
    if (loop_.ending && alive_ == 0) inbox_->refuse();  // what was accepted before is still done
    if (mail_due()) take_mail();
    if (has_returned()) [[unlikely]] take_returned();
    poll_if_due();
    if (observed_) deliver();
    if (loop_.main_ended && !loop_.ending) cancel_all();
    if (budget_ == 0) {  // not when we are here for a stack only
      budget_ = options_.switches_per_poll;
      turn_due_ = true;
    }
    if (all_code_ && pool_->free.load(std::memory_order_relaxed) < 1) [[unlikely]] keep_one_free();
    if (!wants_processor_.empty() && !source->bound_here()) [[unlikely]] return give_processor_to(*wants_processor_.take());
    if (thread_record* const next = take_ready(); next != nullptr) {
      if (next->has(flag_pinned)) [[unlikely]] {
        wants_processor_.put(*next);
        continue;
      }
      dispatch(*next);
      // Perhaps another activation holds the processor by now: then nothing here may be touched.
      if (me.why != carrier::departure::none && !see_off(me)) [[unlikely]] return;
      current = nullptr;  // this stack is no thread's: weft calls from an observer are refused
    } else if (alive_ == 0 && !inbox_->has_posts()) {
      if (pool_ != nullptr) pool_->end();
      return;
    } else if (!idle()) {
      return;
    }
  }
}

// Takes timers and upcalls: always when no thread is ready, otherwise when the interval has passed, because a question to the
// kernel costs as much as fifty switches.
void scheduler::poll_if_due() {
  const bool ask_kernel = source->wants_poll();
  if (!ask_kernel && timers_.empty()) return;
  const bool busy = !nothing_ready();
  const time_point now = source->now();
  if (busy && now - last_poll_ < options_.poll_interval) return;
  last_poll_ = now;
  if (ask_kernel) source->poll();
  if (!timers_.empty()) expire_timers();
}

// Nothing is ready: sleeps until something happens. @returns false when the processor was taken meanwhile.
bool scheduler::idle() {
  const bool hopeless = source->pending() == 0 && timers_.empty() && inbox_->posters() == 0 && !inbox_->has_posts() &&
                        open_waits_ == 0 && away_ == 0 && wants_processor_.empty();
  if (hopeless && (stackless_.empty() || stackless_tries_ >= most_tries)) {
    on_deadlock();
    return true;
  }
  if (options_.idle_spin.count() > 0) {
    for (const time_point end = clock::now() + options_.idle_spin; clock::now() < end;) {
      if (mail_due() || has_returned()) return true;
    }
  }
  time_point until = std::min(timers_.earliest(), trim_spare_stacks());
  if (stackless_.empty()) until = std::min(until, parked_memory_.trim(records_, stacks_, *source, turns_));
  if (!stackless_.empty() || inbox_->has_posts()) until = std::min(until, source->now() + retry);  // no memory for them
  if (mail_due() || has_returned()) until = time_point{};
  record(trace::kind::idle, carrier_->record);
  rest(true);
  if (pool_ != nullptr && !doze(until)) return false;  // whoever took the processor has ended the rest
  if (pool_ == nullptr) source->wait(until);
  rest(false);
  record(trace::kind::busy, carrier_->record);
  if (thread_record* const t = stackless_.take(); t != nullptr) {  // perhaps there is memory by now
    queue(*t, policy::came::woken);
    ++stackless_tries_;
  }
  if (!timers_.empty()) expire_timers();
  return true;
}

// Tells those who look from outside whether there is anything to see.
void scheduler::rest(bool now) noexcept {
  // seq_cst: either the watch sees that the rest is over, or we see it asleep (stall.cpp).
  resting_.store(now, std::memory_order_seq_cst);
  if (!now && watch_ != nullptr) watch_->rest_is_over();
}

std::uint64_t scheduler::progress() const noexcept {
  constexpr std::uint64_t scatter = 0x9E3779B97F4A7C15u;
  const detail::processor::word word = processor_.look();
  const bool held = detail::processor::grip_of(word) == detail::processor::grip::held || detail::processor::outside(word);
  if (!held || resting_.load(std::memory_order_seq_cst)) return 0;
  return ((std::uint64_t{turns_} << 32 | budget_) * 2 + word * scatter) | 1;
}

int scheduler::kernel_thread() const noexcept {
  const std::uint64_t settled = settled_.load(std::memory_order_relaxed);
  return detail::processor::holder(processor_.look()) == settled >> 32 ? static_cast<int>(settled & 0xffff'ffff) : 0;
}

// Gives back the memory of stacks that nobody needed for a while: all but the most that were in use at once in the last window.
// Returns when to look again. Costs a comparison while there are few free stacks.
time_point scheduler::trim_spare_stacks() {
  constexpr std::chrono::seconds window{10};
  const std::size_t spare = stacks_.free_stacks();
  if (spare <= options_.spare_stacks) {
    spare_since_ = {};
    return never;
  }
  const time_point now = source->now();
  if (spare_since_ == time_point{}) {
    spare_since_ = now;
    fewest_spare_ = spare;
  }
  fewest_spare_ = std::min(fewest_spare_, spare);
  if (now - spare_since_ >= window) {
    if (fewest_spare_ > options_.spare_stacks) stacks_.trim(std::max(options_.spare_stacks, spare - fewest_spare_));
    spare_since_ = now;
    fewest_spare_ = stacks_.free_stacks();
    if (fewest_spare_ <= options_.spare_stacks) return never;
  }
  return spare_since_ + window;
}

void scheduler::expire_timers() {
  const time_point now = source->now();
  while (waiter* const w = timers_.expire(now)) {
    if (w->ends_stretch) {
      end_stretch(*w);
      continue;
    }
    if (w->operation != nullptr) {
      w->reason = detail::wake_reason::timed_out;  // its thread stays in_kernel until the kernel has let go
      source->cancel(*w->operation);
      continue;
    }
    if (w->queue != nullptr) {
      w->queue->remove(*w);
    } else {
      note(about(upcall::kind::unblocked, upcall::cause::timer, *w->thread));
    }
    end_wait(*w, detail::wake_reason::timed_out);
  }
}

// Posts are taken a handful at a time, and the next ones when all threads of the last handful have begun: every thread that was
// ready has run in between, so a flood of posts starves nobody and piles up outside. When the scheduler is ending they must wait
// until nobody else is ready, for else it would never end; a destructor that waits for a post gets it.
bool scheduler::posts_due() const noexcept {
  if (!inbox_->has_posts()) [[likely]] return false;
  if (loop_.ending && !nothing_ready()) return false;
  if (posts_.newest != nullptr && posts_.newest->number == posts_.number && posts_.newest->state == thread_state::created) {
    return false;
  }
  return posts_.again == time_point{} || source->now() >= posts_.again;
}

namespace {

// What runs in the thread of a post. It owns the post from its first run on, so that a post whose thread could not be made
// stays what it was.
struct run_post {
  inbox::post* what;
  void operator()() const { std::unique_ptr<inbox::post>(what)->fn(); }
};

}  // namespace

bool scheduler::mail_due() const noexcept { return inbox_->has_wakes() || posts_due(); }

// Waits are ended at once, whatever holds posts up.
void scheduler::take_mail() {
  inbox_->take_wakes([this](inbox::post& wake) { end_wait_by(wake); });
  if (posts_due()) take_posts();
}

// A post becomes a thread. When there is no memory for one, it stays in the inbox and is tried again.
void scheduler::take_posts() {
  constexpr std::size_t handful = 64;
  posts_.again = {};
  try {
    inbox_->take(handful, [this](inbox::post& oldest) {
      thread_record& made = spawn({.name = "post"}, detail::make_start(run_post{&oldest}));
      posts_.newest = &made;
      posts_.number = made.number;
      note(about(upcall::kind::unblocked, upcall::cause::post, made));
      detach(made);
    });
  } catch (...) {
    posts_.again = source->now() + retry;
  }
}

// What a thread waits for has happened elsewhere. Perhaps its time came first, or it was asked to end: then it runs anyway, and
// sees that the post has arrived.
void scheduler::end_wait_by(inbox::post& wake) noexcept {
  waiter& w = *wake.wakes;
  wake.arrived = true;
  if (w.queue == nullptr) return;
  w.queue->remove(w);
  note(about(upcall::kind::unblocked, upcall::cause::post, *w.thread));
  end_wait(w, detail::wake_reason::granted);
}

void scheduler::end_main() noexcept {
  if (!loop_.main_ended) request_cancel(*main_);
}

// Asks every thread to end, and those still to come.
void scheduler::cancel_all() noexcept {
  loop_.ending = true;
  records_.for_each([this](thread_record& t) { request_cancel(t); });
}

// Everything waits, and nothing is left that could end a wait. Said once; then all threads are asked to end, so that their
// destructors run. If even that wakes nobody, there is no way on.
void scheduler::on_deadlock() {
  const std::string report = deadlock_report(*this);
  print_report(report);
  if (loop_.deadlocked) std::abort();
  loop_.deadlocked = true;
  loop_.report = report;
  cancel_all();
  if (nothing_ready()) {
    print_report("weft: none of these threads can be ended; the program cannot go on.\n");
    std::abort();
  }
}

// ---- upcalls ----

void scheduler::handle(std::span<const upcall::event> batch) {
  for (upcall::event e : batch) {
    if (e.record != nullptr) {
      e.thread = e.record->number;
      e.activation = carrier_->number;
      end_wait(*e.record->waits_on, e.record->waits_on->reason);
    }
    note(e);
  }
}

// Counts an upcall, and keeps it for the trace and for those who observe.
void scheduler::note(const upcall::event& e) noexcept {
  ++tally_.by[static_cast<std::size_t>(e.what)][static_cast<std::size_t>(e.why)];
  if (trace != nullptr) [[unlikely]] {
    trace->append({.ticks = trace::ticks(),
                   .thread = e.thread,
                   .activation = e.activation,
                   .what = trace::kind::upcall,
                   .detail = static_cast<std::uint8_t>(e.what),
                   .cause = static_cast<std::uint8_t>(e.why),
                   .value = e.result});
  }
  if (observed_) [[unlikely]] {
    try {
      noted_.push_back(e);
      noted_.back().when = source->now();
    } catch (const std::bad_alloc&) {  // the observer misses one; the scheduler must not
    }
  }
}

void scheduler::observe(const std::shared_ptr<observer>& who) {
  observers_.push_back({who, noted_.size()});
  observed_ = true;
}

// Hands the batch to the observers. On the activation's stack, so that they have room; in the order in which it happened,
// `blocked` upcalls included, which is why those are kept until here.
void scheduler::deliver() noexcept {
  if (noted_.empty()) return;
  std::vector<upcall::event> batch;
  batch.swap(noted_);
  for (std::size_t i = 0; i < observers_.size(); ++i) {
    const std::size_t from = std::exchange(observers_[i].from, 0);
    const std::shared_ptr<observer> who = observers_[i].who.lock();
    if (who != nullptr && from < batch.size()) (*who)(std::span(batch).subspan(from));
  }
  std::erase_if(observers_, [](const listener& l) { return l.who.expired(); });
  observed_ = !observers_.empty();
  if (!observed_) noted_.clear();
}

void scheduler::append_trace(trace::kind what, const thread_record& t, std::int64_t value, std::uint8_t detail) noexcept {
  trace->append({.ticks = trace::ticks(),
                 .thread = t.number,
                 .activation = carrier_->number,
                 .what = what,
                 .detail = detail,
                 .value = value});
}

}  // namespace weft::sched
