// What applies to a thread, of all that asks it to end.
//
// flag_cancel is what the waits look at. It is recomputed whenever something changes: flag_asked (the thread itself was asked),
// the stretches that the thread is in, from the innermost out, and shields, which hide whatever lies further out.
#include "weft/cancel.hpp"

#include <atomic>
#include <stdexcept>

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft {

namespace sched {

bool scheduler::is_to_end(const thread_record& t) noexcept {
  if (t.state != thread_state::created && t.state != thread_state::finished) {
    for (const detail::cancel_frame* f = t.extension->stretch; f != nullptr; f = f->outer_) {
      if (f->cancelled_) return true;
      if (f->kind_ == detail::cancel_frame::kind::shield) return false;
    }
  }
  return t.has(flag_asked);
}

// Only the holder writes flags; a thread in a region may read its own meanwhile (cancel_requested).
void scheduler::reconsider_end(thread_record& t) noexcept {
  const bool ends = is_to_end(t);
  const auto wanted = static_cast<std::uint8_t>(ends ? t.flags | flag_cancel : t.flags & ~flag_cancel);
  std::atomic_ref(t.flags).store(wanted, std::memory_order_relaxed);
  if (ends) end_wait_of(t);
}

void scheduler::enter(detail::cancel_frame& f, time_point deadline) {
  f.alarm_.of = &f;
  f.alarm_.ends_stretch = true;
  f.thread_ = current;
  f.outer_ = current->extension->stretch;
  set_deadline(f.alarm_, deadline);  // may throw: nothing else has happened
  current->extension->stretch = &f;
  reconsider_end(*current);
}

void scheduler::leave(detail::cancel_frame& f) noexcept {
  clear_deadline(f.alarm_);
  current->extension->stretch = f.outer_;
  reconsider_end(*current);
}

void scheduler::cancel(detail::cancel_frame& f) noexcept {
  if (f.thread_->home != current->home) [[unlikely]] used_by_two_schedulers("cancel_scope");
  f.cancelled_ = true;
  reconsider_end(*f.thread_);
}

void scheduler::end_stretch(waiter& alarm) noexcept {
  detail::cancel_frame& f = *static_cast<detail::cancel_frame::alarm&>(alarm).of;
  f.cancelled_ = true;
  reconsider_end(*f.thread_);
}

}  // namespace sched

namespace detail {

namespace {

template <class Operation> void with_scheduler(const char* call, Operation operation) {
  const auto there = [&] { operation(sched::this_scheduler()); };
  if (current_thread() == nullptr) [[unlikely]] return with_processor(call, there);
  there();
}

}  // namespace

cancel_frame::cancel_frame(kind what, time_point deadline) : kind_(what) {
  with_scheduler(what == kind::shield ? "shield" : "cancel_scope::run", [&](sched::scheduler& s) { s.enter(*this, deadline); });
}

// In a child made by fork() nobody is current, and nothing is to be left.
cancel_frame::~cancel_frame() {
  if (!on_weft_thread()) [[unlikely]] return;
  with_scheduler("cancel_scope", [this](sched::scheduler& s) { s.leave(*this); });
}

void cancel_frame::cancel() noexcept {
  if (!on_weft_thread()) [[unlikely]] end_off_weft("cancel_scope::request_cancel");
  with_scheduler("cancel_scope::request_cancel", [this](sched::scheduler& s) { s.cancel(*this); });
}

}  // namespace detail

void cancel_scope::in_use() { throw std::logic_error("weft: cancel_scope::run was called while the scope is running"); }

}  // namespace weft
