// Waiting: for another thread, for a time, for the kernel.
#include "weft/detail/park.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

// ---- the current scheduler ----

namespace weft::detail {
namespace {
scheduler_face off_weft;  // current is null, and stays so
}
}  // namespace weft::detail

__thread weft::detail::scheduler_face* weft_this_scheduler = &weft::detail::off_weft;

namespace weft::detail {

void set_this_scheduler(scheduler_face* face) noexcept { weft_this_scheduler = face == nullptr ? &off_weft : face; }
bool runs_a_scheduler() noexcept { return weft_this_scheduler != &off_weft; }

using sched::scheduler;
using sched::thread_state;

cancellation_shield::cancellation_shield() : outermost_(!covers_caller()) {
  if (outermost_) set(true);
}

cancellation_shield::~cancellation_shield() {
  if (outermost_) set(false);
}

void cancellation_shield::set(bool on) {
  thread_record* const self = current_thread();
  if (self == nullptr) return with_processor("a wait that must not be ended", [on] { set(on); });
  const unsigned flags = on ? self->flags | sched::flag_shielded : self->flags & ~unsigned{sched::flag_shielded};
  std::atomic_ref(self->flags).store(static_cast<std::uint8_t>(flags), std::memory_order_relaxed);
}

// atomic: inside a region the one who asks may be on another kernel thread than the one who holds the processor.
bool cancellation_shield::covers_caller() noexcept {
  const scheduler_face& face = this_scheduler_face();
  thread_record* const self = face.current != nullptr ? face.current : face.away;
  return self != nullptr && (std::atomic_ref(self->flags).load(std::memory_order_relaxed) & sched::flag_shielded) != 0;
}

wake_reason sleep(time_point deadline) {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("this_thread::sleep_until", [&] { return sleep(deadline); });
  }
  scheduler& s = sched::scheduler_of_caller("this_thread::sleep_until");
  if (s.refuses_wait(cancellation::allowed)) [[unlikely]] return wake_reason::cancelled;
  waiter self;
  self.what = "sleep";
  self.thread = s.current;
  self.shielded = s.shielded();
  s.set_deadline(self, std::min(deadline, never - duration(1)));
  s.note_blocked(upcall::cause::timer);
  s.park(self, thread_state::parked);
  return self.reason;
}

namespace {

// Which operations a cancellation must not stop from beginning: whoever closes a descriptor wants it closed.
bool begins_although_cancelled(upcall::opcode code) noexcept { return code == upcall::opcode::close; }

}  // namespace

std::int32_t perform(upcall::operation& request, time_point deadline) {
  const upcall::cause why = upcall::cause_of(request.code);
  const char* const what = upcall::name(why).data();
  if (current_thread() == nullptr) [[unlikely]]
    return with_processor(what, [&] { return perform(request, deadline); });
  scheduler& s = sched::scheduler_of_caller(what);
  const cancellation mode = begins_although_cancelled(request.code) ? cancellation::shielded : cancellation::allowed;
  if (s.refuses_wait(mode)) [[unlikely]] throw_cancelled();
  waiter self;
  self.what = what;
  self.object = reinterpret_cast<const void*>(static_cast<std::intptr_t>(request.fd));
  self.operation = &request;
  self.thread = s.current;
  request.thread = s.current;
  request.portable = s.processor_is_to_move();
  s.set_deadline(self, deadline);  // may throw: the kernel knows nothing of the request yet
  if (s.source->start(request)) {
    s.clear_deadline(self);
    s.completed_at_once();
    return request.result;
  }
  self.shielded = mode == cancellation::shielded || s.shielded();
  s.note_blocked(why);
  s.park(self, thread_state::in_kernel);
  if (request.result == -ECANCELED) [[unlikely]] {
    if (self.reason == wake_reason::timed_out) return -ETIMEDOUT;
    if (self.reason == wake_reason::cancelled) throw_cancelled();
  }
  return request.result;
}

// The clock is the source's; inside a region, where the source may be in use, it is asked with the processor.
time_point now() {
  if (current_thread() == nullptr) [[unlikely]]
    return with_processor("a timed wait", [] { return now(); });
  return sched::this_scheduler().source->now();
}

}  // namespace weft::detail
