// How one thread waits in several lines at once.
//
// It has a waiter in each line, and one more, `whole_`, that stands for all of them: that one has the deadline, is found by a
// cancellation, and is in a line of its own. Whoever ends the wait of any of them ends it for all: the others leave their lines
// before anybody else can look there (scheduler::end_select).
//
// Results are not the scheduler's: whoever gives one holds its lock, perhaps on another kernel thread. So the waiters of these
// cases are seats in the results' lists, and one more waiter, in the line of our own, is what giving any of them ends
// (room_wake.hpp). The seats are left by the thread itself when it runs again. Nobody takes a result away, so which one is
// chosen is decided then.
//
// Invariant: while the thread is parked every case but times and those never ready is in its line; when it is not, none is. A
// seat is in its result's list at most from before the park until after it.
//
// Before and behind the switch there is as little as can be: a case is looked at in one pass, its waiter is made only for a wait,
// and the wait is park_waiter's, so that the thread resumes in the code that called select and not through returns.
#include "weft/select.hpp"

#include <new>
#include <string>

#include "sched/report.hpp"
#include "sched/room_wake.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_text.hpp"
#include "weft/detail/future_state.hpp"

namespace weft {

namespace detail {

namespace {

wait_queue* no_line(select_case&) noexcept { return nullptr; }
void nothing_to_do(select_case&) {}

}  // namespace

// What it must see of a case of a result.
struct select_result {
  static future_state& of(const select_case& c) noexcept { return *static_cast<future_state*>(c.object_); }
  static bool is_there(const select_case& c) noexcept { return of(c).ready() || of(c).deferred(); }
};

// A time that has passed is found by the wait, which lets others run once: a loop around it starves nobody.
const case_kind at_a_time{"time", nullptr, nullptr, nullptr, no_line, nullptr};
const case_kind at_once{"otherwise", nullptr, nullptr, nullptr, no_line, nullptr};
const case_kind at_a_result{"future", nullptr, select_result::is_there, nothing_to_do, no_line, nullptr};

// Ends in the switch when it must wait (dispatch.cpp): nothing may be left to do here behind it.
void selection::run() {
  if (current_thread() == nullptr) [[unlikely]] return run_in_region();
  look(false);
  if (chosen_ != nullptr) {
    chosen_->kind_->carry_out(*chosen_);
  } else if (otherwise_ == nullptr) {
    return wait();
  } else {
    chosen_ = otherwise_;
  }
  sched::this_scheduler().completed_at_once();
}

void selection::run_in_region() {
  with_processor("select", [this] {
    run();
    static_cast<void>(result());
  });
}

// Draws one of those that are ready, each with the same chance, and notes what else decides.
void selection::look(bool prepared) {
  sched::scheduler& s = sched::this_scheduler();
  select_case* chosen = nullptr;
  std::uint32_t ready = 0;
  select_case* const end = cases_.data() + cases_.size();
  for (select_case* c = cases_.data(); c != end; ++c) {
    const case_kind* const kind = c->kind_;
    if (kind == nullptr) continue;
    if (kind->prepare != nullptr && !prepared) [[unlikely]] {
      prepare();
      return look(true);  // nothing that was seen so far need be true any more
    } else if (kind->ready == nullptr) {
      note(*c);
    } else if (kind->ready(*c) && (++ready == 1 || s.draw(ready) == 0)) {
      chosen = c;
    }
  }
  chosen_ = chosen;
}

// A case that is never ready but tells what happens when no other is.
void selection::note(select_case& c) noexcept {
  select_case*& of_its_kind = c.kind_ == &at_once ? otherwise_ : next_time_;
  if (of_its_kind == nullptr || c.when_ < of_its_kind->when_) of_its_kind = &c;
}

void selection::prepare() {
  for (select_case& c : cases_) {
    if (c.kind_ != nullptr && c.kind_->prepare != nullptr) c.kind_->prepare(c);
  }
}

void selection::wait() {
  sched::scheduler& s = sched::this_scheduler();
  whole_.of = this;
  whole_.one_of_many = true;
  whole_.what = "select";
  whole_.reason = wake_reason::cancelled;
  if (s.refuses_wait(cancellation::allowed)) [[unlikely]] return;
  if (next_time_ != nullptr) s.set_deadline(whole_, next_time_->when_);  // may throw: nothing is linked yet
  if (join_lines()) [[unlikely]] return wait_for_results_too();
  park_waiter(own_line_, whole_, never, cancellation::allowed);
}

// @returns whether there are results among the cases: their lists are for wait_for_results_too().
bool selection::join_lines() {
  thread_record& self = *current_thread();
  bool results = false;
  for (select_case& c : cases_) {
    wait_queue* const line = c.kind_ == nullptr ? nullptr : c.kind_->line(c);
    c.in_line_ = line != nullptr;
    if (line == nullptr) {
      results |= c.kind_ == &at_a_result;
      continue;
    }
    if (!line->empty() && line->front()->thread->home != self.home) [[unlikely]] sched::used_by_two_schedulers(c.kind_->what);
    select_waiter& w = *::new (static_cast<void*>(&c.waiter_)) select_waiter;
    w.of = this;
    w.stands_for = &c;
    w.one_of_many = true;
    w.what = c.kind_->what;
    w.thread = &self;
    w.object = c.object_;
    w.slot = c.place_;
    line->push_back(w);
  }
  return results;
}

void selection::wait_for_results_too() {
  sched::scheduler& s = sched::this_scheduler();
  select_waiter any_result;  // stands for all of them
  any_result.of = this;
  any_result.one_of_many = true;
  any_result.what = at_a_result.what;
  any_result.thread = s.current;
  room_wake wake(s, any_result);
  own_line_.push_back(any_result);
  any_result_ = &any_result;
  bool from_elsewhere = false;
  chosen_ = sit_down(wake, from_elsewhere);
  const open_wait open(from_elsewhere ? &s : nullptr);  // also while the post is awaited: it may not be in the inbox yet
  if (chosen_ == nullptr) {
    s.wait_with_care(own_line_, whole_, never, cancellation::allowed);
  } else {  // a result has come while nobody looked
    static_cast<void>(decide(any_result));
    s.clear_deadline(whole_);
  }
  for (select_case& c : cases_) {
    if (c.kind_ == &at_a_result) select_result::of(c).stand_up(c.waiter_);
  }
  any_result_ = nullptr;
  any_result.one_of_many = false;  // from here on it waits for the post alone
  wake.await_post(own_line_);
  if (chosen_ != nullptr) return s.completed_at_once();
  if (ended_ == nullptr && whole_.reason == wake_reason::granted) chosen_ = draw_result();
}

// Takes a seat in the list of each result. @returns a case whose result is there, or null.
select_case* selection::sit_down(room_wake& wake, bool& from_elsewhere) noexcept {
  for (select_case& c : cases_) {
    if (c.kind_ == &at_a_result) ::new (static_cast<void*>(&c.waiter_)) select_waiter;
  }
  for (select_case& c : cases_) {
    if (c.kind_ != &at_a_result) continue;
    future_state& of = select_result::of(c);
    from_elsewhere |= of.may_come_from_elsewhere(wake.home);
    c.waiter_.slot = &wake;
    if (!of.sit_down(c.waiter_)) return &c;
  }
  return nullptr;
}

// One of the results that are there, each with the same chance.
select_case* selection::draw_result() noexcept {
  select_case* chosen = nullptr;
  std::uint32_t ready = 0;
  for (select_case& c : cases_) {
    if (c.kind_ != &at_a_result || !select_result::is_there(c)) continue;
    if (++ready == 1 || sched::this_scheduler().draw(ready) == 0) chosen = &c;
  }
  return chosen;
}

waiter& selection::decide(waiter& ended) noexcept {
  ended_ = static_cast<select_waiter&>(ended).stands_for;
  if (whole_.queue != nullptr) whole_.queue->remove(whole_);
  if (any_result_ != nullptr && any_result_->queue != nullptr) own_line_.remove(*any_result_);
  for (select_case& c : cases_) {
    if (c.in_line_ && c.waiter_.queue != nullptr) c.waiter_.queue->remove(c.waiter_);
  }
  return whole_;
}

// After the wait.
void selection::settle() {
  if (whole_.reason == wake_reason::cancelled) throw_cancelled();
  if (whole_.reason == wake_reason::timed_out) {
    chosen_ = next_time_;
  } else {
    chosen_ = ended_;
    if (chosen_->kind_->settle != nullptr) chosen_->kind_->settle(*chosen_);
  }
}

std::string selection::text() const {
  std::string made = "select of";
  for (const select_case& c : cases_) {
    if (c.kind_ == nullptr) continue;
    made += (&c == cases_.data() ? " " : ", ") + std::string(c.kind_->what);
    if (c.object_ != nullptr) made += " " + sched::address_text(c.object_);
  }
  return cases_.empty() ? made + " nothing" : made;
}

}  // namespace detail

void sched::scheduler::end_select(waiter& w, detail::wake_reason why) noexcept {
  waiter& whole = static_cast<detail::select_waiter&>(w).of->decide(w);
  whole.reason = why;
  whole.thread->waits_on = nullptr;
  clear_deadline(whole);
  make_ready_again(*whole.thread);
}

std::string sched::text_of_select(const waiter& whole) { return static_cast<const detail::select_waiter&>(whole).of->text(); }

}  // namespace weft
