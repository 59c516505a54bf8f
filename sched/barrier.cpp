#include "weft/barrier.hpp"

#include "sched/report.hpp"
#include "weft/detail/region.hpp"

namespace weft::detail {

barrier_base::arrival barrier_base::count_down(std::ptrdiff_t update) {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("barrier::arrive", [=, this] { return count_down(update); });
  }
  if (update <= 0) throw_error(std::errc::invalid_argument, "barrier::arrive: the update must be positive");
  if (update > left_) {
    throw_error(std::errc::invalid_argument, "barrier::arrive: more arrivals than the barrier expects in this phase");
  }
  left_ -= update;
  return {phase_, left_ == 0};
}

barrier_base::arrival barrier_base::drop() {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("barrier::arrive_and_drop", [this] { return drop(); });
  }
  const arrival made = count_down(1);
  --expected_;
  return made;
}

void barrier_base::begin_next() {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("barrier::arrive", [this] { begin_next(); });
  }
  ++phase_;
  left_ = expected_;
  while (grant_first(waiters_)) {
  }
}

void barrier_base::await(std::uint64_t phase) const {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("barrier::wait", [=, this] { await(phase); });
  }
  if (phase != phase_) return;
  waiter self;
  self.what = "barrier";
  self.object = this;
  if (park(waiters_, self) == wake_reason::cancelled) throw_cancelled();
}

void barrier_base::foreign_token() {
  throw_error(std::errc::invalid_argument, "barrier::wait: the token is of another barrier, or was moved from");
}

void barrier_base::negative() {
  throw_error(std::errc::invalid_argument, "barrier: the number of expected arrivals must not be negative");
}

void barrier_base::destroyed_in_use() noexcept {
  sched::fatal("weft: a barrier was destroyed while threads wait on it; let them all arrive and join them first");
}

}  // namespace weft::detail
