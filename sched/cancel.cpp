// What applies to a thread, of all that asks it to end.
//
// flag_cancel is what the waits look at. It is recomputed whenever something changes: flag_asked (the thread itself was asked),
// the stretches that the thread is in, from the innermost out, and shields, which hide whatever lies further out.
//
// A stretch that has handed out stop tokens requests the stop when it is to end itself, whether or not shields further in keep
// the thread from it. The callbacks are the program's own code, which needs a thread: a post that was made in advance becomes
// one.
#include "weft/cancel.hpp"

#include <atomic>
#include <stdexcept>

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"
#include "weft/thread.hpp"

namespace weft {

class detail::stop_outlet {
 public:
  stop_outlet() : post_(std::make_unique<sched::inbox::post>(sched::inbox::post{nullptr, [to = source] { request(to); }})) {}

  // As jthread::request_stop.
  static void request(std::stop_source at) noexcept {
    const no_preemption whole;
    static_cast<void>(at.request_stop());
  }
  // With the processor; once.
  void tell(sched::inbox& home) noexcept {
    if (post_ != nullptr && !source.stop_requested()) static_cast<void>(home.push(std::move(post_)));
  }
  // Somebody else makes the request. With the processor.
  void leave_it() noexcept { post_.reset(); }

  std::stop_source source;

 private:
  std::unique_ptr<sched::inbox::post> post_;
};

namespace sched {

namespace {

bool has_stretches(const thread_record& t) noexcept {
  return t.state != thread_state::created && t.state != thread_state::finished;
}

}  // namespace

// As it is in `f`, a stretch of the thread's or null.
bool scheduler::is_to_end_in(const detail::cancel_frame* f, const thread_record& t) noexcept {
  for (; f != nullptr; f = f->outer_) {
    if (f->cancelled_) return true;
    if (f->kind_ == detail::cancel_frame::kind::shield) return false;
  }
  return t.has(flag_asked);
}

bool scheduler::is_to_end(const thread_record& t) noexcept {
  return is_to_end_in(has_stretches(t) ? t.extension->stretch : nullptr, t);
}

// Something has asked: those that have handed out stop tokens pass it on.
void scheduler::tell_stretches(thread_record& t) noexcept {
  if (!has_stretches(t)) return;
  for (const detail::cancel_frame* f = t.extension->stretch; f != nullptr; f = f->outer_) {
    if (f->outlet_ != nullptr && is_to_end_in(f, t)) f->outlet_->tell(*inbox_);
  }
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
  tell_stretches(*f.thread_);
}

void scheduler::hand_out(detail::cancel_frame& f, detail::stop_outlet& to) noexcept {
  f.outlet_ = &to;
  if (is_to_end_in(&f, *f.thread_)) to.tell(*inbox_);
}

void scheduler::end_stretch(waiter& alarm) noexcept {
  detail::cancel_frame& f = *static_cast<detail::cancel_frame::alarm&>(alarm).of;
  f.cancelled_ = f.expired_ = true;
  reconsider_end(*f.thread_);
  tell_stretches(*f.thread_);
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

void cancel_frame::hand_out(stop_outlet& to) noexcept {
  with_scheduler("cancel_scope::stop_token", [&](sched::scheduler& s) { s.hand_out(*this, to); });
}

stop_of_frame::stop_of_frame(cancel_frame& frame, const std::stop_token& token)
    : frame_(frame), watch_("cancel_scope::run", token, this) {
  if (token.stop_requested()) frame_.cancel();  // in a region word comes later than that
}

stop_of_frame::~stop_of_frame() {
  if (!on_weft_thread()) [[unlikely]]
    return;
  with_scheduler("cancel_scope", [this](sched::scheduler&) { watch_.tell(nullptr); });
}

}  // namespace detail

std::stop_token cancel_scope::stop_token() {
  const bool used_up = outlet_ != nullptr && !requested_ && frame_ == nullptr && outlet_->source.stop_requested();
  if (outlet_ == nullptr || used_up) {
    outlet_ = std::make_shared<detail::stop_outlet>();
    if (requested_) detail::stop_outlet::request(outlet_->source);
    if (frame_ != nullptr) frame_->hand_out(*outlet_);
  }
  return outlet_->source.get_token();
}

// The scope may be gone before this returns: what is needed of it is taken first.
void cancel_scope::cancel_and_stop() noexcept {
  const std::shared_ptr<detail::stop_outlet> outlet = outlet_;
  if (detail::cancel_frame* const frame = frame_; frame != nullptr) {
    if (!detail::on_weft_thread()) [[unlikely]]
      detail::end_off_weft("cancel_scope::request_cancel");
    detail::with_scheduler("cancel_scope::request_cancel", [&](sched::scheduler& s) {
      outlet->leave_it();
      s.cancel(*frame);
    });
  }
  detail::stop_outlet::request(outlet->source);
}

void cancel_scope::in_use() { throw std::logic_error("weft: cancel_scope::run was called while the scope is running"); }

}  // namespace weft
