#include "weft/call_once.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft {

namespace {

std::uintptr_t word(const detail::thread_record* t) noexcept { return reinterpret_cast<std::uintptr_t>(t); }

}  // namespace

// True when the caller is to make the call, false when another thread's has returned.
bool once_flag::begin() {
  detail::thread_record* const self = detail::current_thread();
  if (self == nullptr) return detail::with_processor("call_once", [this] { return begin(); });
  std::uintptr_t found = 0;
  if (caller_.compare_exchange_strong(found, word(self), std::memory_order_acquire)) return true;
  if (found == done) return false;
  const auto* const caller = reinterpret_cast<const detail::thread_record*>(found);
  if (caller == self) {
    detail::throw_error(std::errc::resource_deadlock_would_occur,
                        "call_once: called with the same flag by the function that the flag is waiting for");
  }
  if (caller->home != self->home) [[unlikely]] sched::used_by_two_schedulers("once_flag");
  detail::waiter w;
  w.what = "once_flag";
  w.object = this;
  if (detail::park(waiters_, w) == detail::wake_reason::cancelled) detail::throw_cancelled();
  return !is_done();
}

void once_flag::succeed() {
  if (detail::current_thread() == nullptr) return detail::with_processor("call_once", [this] { succeed(); });
  caller_.store(done, std::memory_order_release);
  while (detail::grant_first(waiters_)) {
  }
}

// The call threw: it is the longest waiter's turn.
void once_flag::fail() {
  if (detail::current_thread() == nullptr) return detail::with_processor("call_once", [this] { fail(); });
  detail::waiter* const next = waiters_.pop_front();
  caller_.store(next == nullptr ? 0 : word(next->thread), std::memory_order_release);
  if (next != nullptr) detail::grant(*next);
}

void once_flag::destroyed_in_use() noexcept {
  sched::fatal("weft: a once_flag was destroyed while a call with it is under way; let it outlive those who use it");
}

}  // namespace weft
