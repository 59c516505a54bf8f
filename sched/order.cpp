#include "sched/order.hpp"

#include <string>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft {

std::uint32_t ready_thread::number() const noexcept { return static_cast<const sched::policy_node*>(this)->record().number; }
std::string_view ready_thread::name() const noexcept { return static_cast<const sched::policy_node*>(this)->record().name(); }
bool policy::more_urgent(const ready_thread&, const ready_thread&) const noexcept { return false; }

namespace sched {

void policy_node::begin(int priority, time_point deadline) noexcept {
  next = previous = nullptr;
  data = nullptr;
  key = 0;
  set_own(priority, deadline);
  be_itself();
}

void order::put(thread_record& t, policy::came how) noexcept {
  policy_node& n = policy_node::of(t);
  n.ready = true;
  t.next = nullptr;  // as in the ready queue: parked_memory's mark goes
  ++count_;
  by_->put(n, how);
}

thread_record* order::take() noexcept {
  if (count_ == 0) return nullptr;
  ready_thread* const taken = by_->take();
  if (taken == nullptr) [[unlikely]] fatal("weft: the policy's take() returned null while threads are ready; it must name one");
  policy_node& n = policy_node::of(*taken);
  if (!n.ready) [[unlikely]] fatal("weft: the policy's take() returned a thread that it was not given, or a second time");
  n.ready = false;
  --count_;
  return &n.record();
}

namespace {

void check_priority(int priority, const char* where) {
  if (priority >= least_priority && priority <= most_priority) return;
  const std::string text = std::string(where) + " is " + std::to_string(priority) + "; give one from " +
                           std::to_string(least_priority) + " to " + std::to_string(most_priority);
  detail::throw_error(std::errc::invalid_argument, text.c_str());
}

}  // namespace

void order::check(const attributes& how) { check_priority(how.priority, "thread: attributes::priority"); }

void order::begin(thread_record& t, const attributes& how) noexcept {
  policy_node& n = policy_node::of(t);
  mutexes.forget(n);
  n.begin(how.priority, how.deadline);
}

void order::set_own(thread_record& t, int priority, time_point deadline) noexcept {
  policy_node& n = policy_node::of(t);
  n.set_own(priority, deadline);
  mutexes.changed(n);
}

bool order::be_like(policy_node& n, const policy_node* lender) noexcept {
  const int old_priority = n.priority();
  const time_point old_deadline = n.deadline();
  n.be_itself();
  const ready_thread& like = lender != nullptr && by_->more_urgent(*lender, n) ? static_cast<const ready_thread&>(*lender) : n;
  const int priority = like.priority();
  const time_point deadline = like.deadline();
  n.be_as(old_priority, old_deadline);
  if (priority == old_priority && deadline == old_deadline) return false;
  if (n.ready) by_->remove(n);
  n.be_as(priority, deadline);
  if (n.ready) by_->put(n, policy::came::changed);
  return true;
}

}  // namespace sched

// ---- what threads say of themselves ----

namespace {

// Calls `fn(order, record)` for a thread, if there is a policy that could care. From anywhere on a weft thread.
template <class Fn>
void with_order(const char* call, detail::thread_record* of, Fn fn) {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor(call, [&] { with_order(call, of, fn); });
  }
  sched::scheduler& s = sched::scheduler_of_caller(call);
  if (of == nullptr) of = s.current;
  if (of->home != s.current->home) [[unlikely]] sched::used_by_two_schedulers("thread");
  sched::order* const by = s.ordered();
  if (by != nullptr && of->state != sched::thread_state::finished) fn(*by, *of);
}

void change_priority(const char* call, detail::thread_record* of, int priority) {
  sched::check_priority(priority, call);
  with_order(call, of, [=](sched::order& by, detail::thread_record& t) {
    by.set_own(t, priority, sched::policy_node::of(t).own_deadline());
  });
}

void change_deadline(const char* call, detail::thread_record* of, time_point when) {
  with_order(call, of, [=](sched::order& by, detail::thread_record& t) {
    by.set_own(t, sched::policy_node::of(t).own_priority(), when);
  });
}

}  // namespace

void thread::set_priority(int priority) {
  if (record_ == nullptr) detail::throw_error(std::errc::invalid_argument, "thread::set_priority: there is no thread");
  change_priority("thread::set_priority", record_, priority);
}

void thread::set_deadline(time_point when) {
  if (record_ == nullptr) detail::throw_error(std::errc::invalid_argument, "thread::set_deadline: there is no thread");
  change_deadline("thread::set_deadline", record_, when);
}

void this_thread::set_priority(int priority) { change_priority("this_thread::set_priority", nullptr, priority); }

int this_thread::priority() {
  int found = 0;
  with_order("this_thread::priority", nullptr,
             [&](sched::order&, detail::thread_record& t) { found = sched::policy_node::of(t).own_priority(); });
  return found;
}

void this_thread::set_deadline(time_point when) { change_deadline("this_thread::set_deadline", nullptr, when); }

time_point this_thread::deadline() {
  time_point found = never;
  with_order("this_thread::deadline", nullptr,
             [&](sched::order&, detail::thread_record& t) { found = sched::policy_node::of(t).own_deadline(); });
  return found;
}

}  // namespace weft
