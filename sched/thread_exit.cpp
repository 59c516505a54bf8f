#include "weft/detail/thread_exit.hpp"

#include <utility>

#include "sched/scheduler.hpp"
#include "weft/cancel.hpp"
#include "weft/detail/local_value.hpp"

namespace weft::detail {

// The list is the thread's own, so it takes no processor to change it.
void at_thread_exit(thread_exit_call& call) {
  const scheduler_face& face = this_scheduler_face();
  thread_record* const self = face.current != nullptr ? face.current : face.away;
  if (self == nullptr) throw_off_weft("at_thread_exit");
  call.next = std::exchange(self->extension->exit_calls, &call);
}

// A child made by fork() has no scheduler to wake anybody in: thread_main says what is to be said.
void run_exit_calls(thread_record& self) noexcept {
  if (!on_weft_thread()) return;
  const shield until_the_end;
  for (;;) {
    destroy_local_values(self);  // those, too, that the last call has made
    if (self.extension->exit_calls == nullptr) return;
    thread_exit_call& call = *self.extension->exit_calls;
    self.extension->exit_calls = call.next;
    call.run(call);
  }
}

}  // namespace weft::detail
