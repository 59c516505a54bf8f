// Waiting: for another thread, for a time, for the kernel.
#include "weft/detail/park.hpp"

#include <algorithm>
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

wake_reason sleep(time_point deadline) {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("this_thread::sleep_until", [&] { return sleep(deadline); });
  }
  scheduler& s = sched::scheduler_of_caller("this_thread::sleep_until");
  if (s.refuses_wait(cancellation::allowed)) [[unlikely]] return wake_reason::cancelled;
  waiter self;
  self.what = "sleep";
  self.thread = s.current;
  self.shielded = s.unwinding();
  s.set_deadline(self, std::min(deadline, never - duration(1)));
  s.note_blocked(upcall::cause::timer);
  s.park(self, thread_state::parked);
  return self.reason;
}

namespace {

// Which operations a cancellation must not stop from beginning: whoever closes a descriptor wants it closed.
bool begins_although_cancelled(upcall::opcode code) noexcept { return code == upcall::opcode::close; }

}  // namespace

std::int32_t perform_unless_cancelled(upcall::operation& request, time_point deadline) {
  const upcall::cause why = upcall::cause_of(request.code);
  const char* const what = upcall::name(why).data();
  if (current_thread() == nullptr) [[unlikely]]
    return with_processor(what, [&] { return perform_unless_cancelled(request, deadline); });
  scheduler& s = sched::scheduler_of_caller(what);
  const cancellation mode = begins_although_cancelled(request.code) ? cancellation::shielded : cancellation::allowed;
  if (s.refuses_wait(mode)) [[unlikely]] return was_cancelled;
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
  self.shielded = mode == cancellation::shielded || s.unwinding();
  s.note_blocked(why);
  s.park(self, thread_state::in_kernel);
  if (request.result == -ECANCELED) [[unlikely]] {
    if (self.reason == wake_reason::timed_out) return -ETIMEDOUT;
    if (self.reason == wake_reason::cancelled) return was_cancelled;
  }
  return request.result;
}

// The clock is the source's; inside a region, where the source may be in use, it is asked with the processor.
time_point now(const char* call) {
  if (current_thread() == nullptr) [[unlikely]]
    return with_processor(call, [=] { return now(call); });
  return sched::this_scheduler().source->now();
}

time_point start_of_wait() { return on_weft_thread() ? now() : clock::now(); }

}  // namespace weft::detail
