#include "weft/latch.hpp"

#include "sched/report.hpp"
#include "weft/detail/region.hpp"

namespace weft {

void latch::count_down(std::ptrdiff_t update) {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("latch::count_down", [=, this] { count_down(update); });
  }
  if (update < 0) detail::throw_error(std::errc::invalid_argument, "latch::count_down: the update must not be negative");
  if (update > count_) {
    detail::throw_error(std::errc::invalid_argument, "latch::count_down: more arrivals than the latch was made for");
  }
  count_ -= update;
  if (count_ != 0) return;
  while (detail::grant_first(waiters_)) {
  }
}

bool latch::try_wait() const {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("latch::try_wait", [this] { return try_wait(); });
  }
  return count_ == 0;
}

void latch::wait() const {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("latch::wait", [this] { wait(); });
  }
  if (count_ == 0) return;
  detail::waiter self;
  self.what = "latch";
  self.object = this;
  if (detail::park(waiters_, self) == detail::wake_reason::cancelled) detail::throw_cancelled();
}

void latch::arrive_and_wait(std::ptrdiff_t update) {
  if (!detail::on_weft_thread()) detail::throw_off_weft("latch::arrive_and_wait");
  count_down(update);
  wait();
}

void latch::negative() { detail::throw_error(std::errc::invalid_argument, "latch: the first count must not be negative"); }

void latch::destroyed_in_use() noexcept {
  sched::fatal("weft: a latch was destroyed while threads wait on it; count it down and join them first");
}

}  // namespace weft
