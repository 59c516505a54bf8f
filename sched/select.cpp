// How one thread waits in several lines at once.
//
// It has a waiter in each line, and one more, `whole_`, that stands for all of them: that one has the deadline, is found by a
// cancellation, and is in a line of its own. Whoever ends the wait of any of them ends it for all: the others leave their lines
// before anybody else can look there (scheduler::end_select).
//
// Results are not the scheduler's: whoever gives one holds its lock, perhaps on another kernel thread. So the waiters of these
// cases are seats in the results' lists, and one more waiter, in the line of our own, is what giving any of them ends
// (result_wake.hpp). The seats are left by the thread itself when it runs again. Nobody takes a result away, so which one is
// chosen is decided then.
//
// Invariant: while the thread is parked every case but times and those never ready is in its line; when it is not, none is. A
// seat is in its result's list at most from before the park until after it.
#include "weft/select.hpp"

#include <algorithm>
#include <optional>
#include <string>

#include "sched/report.hpp"
#include "sched/result_wake.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_text.hpp"
#include "weft/detail/future_state.hpp"

namespace weft {

namespace detail {

namespace {

bool never_ready(const select_case&) noexcept { return false; }
void nothing_to_do(select_case&) {}
wait_queue* no_line(select_case&) noexcept { return nullptr; }

constexpr std::size_t none = static_cast<std::size_t>(-1);

}  // namespace

// What it must see of a case of a result.
struct select_result {
  static future_state& of(const select_case& c) noexcept { return *static_cast<future_state*>(c.object_); }
  static bool is_there(const select_case& c) noexcept { return of(c).ready() || of(c).deferred(); }
};

// A time that has passed is found by the wait, which lets others run once: a loop around it starves nobody.
const case_kind at_a_time{"time", nullptr, never_ready, nothing_to_do, no_line, nullptr};
const case_kind at_once{"otherwise", nullptr, never_ready, nothing_to_do, no_line, nullptr};
const case_kind at_a_result{"future", nullptr, select_result::is_there, nothing_to_do, no_line, nullptr};

class selection {
 public:
  selection(sched::scheduler& s, std::span<select_case> cases) : s_(s), cases_(cases) {}
  selection(const selection&) = delete;
  selection& operator=(const selection&) = delete;

  std::size_t run() {
    for (select_case& c : cases_) {
      if (c.kind_ != nullptr && c.kind_->prepare != nullptr) c.kind_->prepare(c);
    }
    std::size_t chosen = draw_ready([](const case_kind&) { return true; });
    if (chosen != none) {
      cases_[chosen].kind_->carry_out(cases_[chosen]);
    } else {
      chosen = index_of(at_once);
      if (chosen == none) return wait();
    }
    s_.completed_at_once();
    return chosen;
  }

  // One of its waiters is granted, or its deadline or a cancellation came. @returns the waiter that stands for all.
  waiter& decide(waiter& ended) noexcept {
    ended_ = &ended;
    leave_lines();
    return whole_;
  }

  // "select of channel receive 0x…, time": what it waits for.
  [[nodiscard]] std::string text() const {
    std::string made = "select of";
    for (const select_case& c : cases_) {
      if (c.kind_ == nullptr) continue;
      made += (&c == cases_.data() ? " " : ", ") + std::string(c.kind_->what);
      if (c.object_ != nullptr) made += " " + sched::address_text(c.object_);
    }
    return cases_.empty() ? made + " nothing" : made;
  }

 private:
  // Each of those among them that are ready with the same chance.
  template <class Among> std::size_t draw_ready(Among among) noexcept {
    std::size_t chosen = none;
    std::uint32_t ready = 0;
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      const case_kind* const kind = cases_[i].kind_;
      if (kind == nullptr || !among(*kind) || !kind->ready(cases_[i])) continue;
      if (++ready == 1 || s_.draw(ready) == 0) chosen = i;
    }
    return chosen;
  }

  [[nodiscard]] std::size_t index_of(const case_kind& kind) const noexcept {
    const auto found = std::find_if(cases_.begin(), cases_.end(), [&](const select_case& c) { return c.kind_ == &kind; });
    return found == cases_.end() ? none : static_cast<std::size_t>(found - cases_.begin());
  }

  // The first of those with the earliest time.
  [[nodiscard]] std::size_t earliest() const noexcept {
    std::size_t first = none;
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      if (cases_[i].kind_ == &at_a_time && (first == none || cases_[i].when_ < cases_[first].when_)) first = i;
    }
    return first;
  }

  std::size_t wait() {
    if (s_.refuses_wait(cancellation::allowed)) throw_cancelled();
    const std::size_t next_time = earliest();
    begin(whole_, "select");
    s_.set_deadline(whole_, next_time == none ? never : cases_[next_time].when_);  // may throw: nothing is linked yet
    own_line_.push_back(whole_);
    const std::size_t there = join_lines();
    const open_wait open(from_elsewhere_ ? &s_ : nullptr);
    if (there == none) {
      s_.park(whole_, sched::thread_state::parked);
      leave_results();
    } else {
      leave_lines();
      s_.clear_deadline(whole_);
      leave_results();
      s_.completed_at_once();
      return there;
    }
    if (whole_.reason == wake_reason::cancelled) throw_cancelled();
    if (whole_.reason == wake_reason::timed_out) return next_time;
    const std::size_t chosen = ended_case();
    if (cases_[chosen].kind_->settle != nullptr) cases_[chosen].kind_->settle(cases_[chosen]);
    return chosen;
  }

  void begin(select_waiter& w, const char* what) noexcept {
    w.of = this;
    w.one_of_many = true;
    w.what = what;
    w.thread = s_.current;
    w.reason = wake_reason::granted;
    w.shielded = s_.unwinding();
  }

  // @returns the case whose result has come while nobody looked, or none.
  std::size_t join_lines() {
    for (std::size_t i = 0; i < cases_.size(); ++i) {
      select_case& c = cases_[i];
      if (c.kind_ == &at_a_result) {
        if (!join_result(c)) return i;
        continue;
      }
      wait_queue* const line = c.kind_ == nullptr ? nullptr : c.kind_->line(c);
      if (line == nullptr) continue;
      if (!line->empty() && line->front()->thread->home != s_.current->home) sched::used_by_two_schedulers(c.kind_->what);
      begin(c.waiter_, c.kind_->what);
      c.waiter_.object = c.object_;
      c.waiter_.slot = c.place_;
      line->push_back(c.waiter_);
    }
    return none;
  }

  // @returns false when the result is there.
  bool join_result(select_case& c) noexcept {
    if (!results_) {
      begin(any_result_, at_a_result.what);
      results_.emplace(s_, any_result_);
      own_line_.push_back(any_result_);
    }
    future_state& of = select_result::of(c);
    if (of.may_come_from_elsewhere(results_->home)) from_elsewhere_ = true;
    c.waiter_.slot = &*results_;
    return of.sit_down(c.waiter_);
  }

  void leave_lines() noexcept {
    if (whole_.queue != nullptr) own_line_.remove(whole_);
    if (any_result_.queue != nullptr) own_line_.remove(any_result_);
    for (select_case& c : cases_) {
      if (c.kind_ != &at_a_result && c.waiter_.queue != nullptr) c.waiter_.queue->remove(c.waiter_);
    }
  }

  void leave_results() noexcept {
    if (!results_) return;
    for (select_case& c : cases_) {
      if (c.kind_ == &at_a_result) select_result::of(c).stand_up(c.waiter_);
    }
    any_result_.one_of_many = false;  // from here on it waits for the post alone
    results_->await_post(own_line_);
  }

  [[nodiscard]] std::size_t ended_case() noexcept {
    if (ended_ == &any_result_) return draw_ready([](const case_kind& kind) { return &kind == &at_a_result; });
    const auto found = std::find_if(cases_.begin(), cases_.end(), [this](const select_case& c) { return &c.waiter_ == ended_; });
    return static_cast<std::size_t>(found - cases_.begin());
  }

  sched::scheduler& s_;
  std::span<select_case> cases_;
  select_waiter whole_;
  select_waiter any_result_;  // stands for the results
  wait_queue own_line_;       // of these two
  std::optional<result_wake> results_;
  bool from_elsewhere_ = false;  // one of them may come
  const waiter* ended_ = nullptr;
};

}  // namespace detail

void sched::scheduler::end_select(waiter& w, detail::wake_reason why) noexcept {
  waiter& whole = static_cast<detail::select_waiter&>(w).of->decide(w);
  whole.reason = why;
  whole.thread->waits_on = nullptr;
  clear_deadline(whole);
  make_ready_again(*whole.thread);
}

std::string sched::text_of_select(const waiter& whole) { return static_cast<const detail::select_waiter&>(whole).of->text(); }

std::size_t select(std::span<select_case> cases) {
  if (detail::current_thread() == nullptr) return detail::with_processor("select", [=] { return select(cases); });
  return detail::selection(sched::this_scheduler(), cases).run();
}

}  // namespace weft
