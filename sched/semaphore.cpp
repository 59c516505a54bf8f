#include "weft/semaphore.hpp"

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft::detail {

void semaphore_base::release_some(std::ptrdiff_t update, std::ptrdiff_t maximum) {
  if (current_thread() == nullptr) [[unlikely]] {
    return with_processor("semaphore::release", [&] { release_some(update, maximum); });
  }
  if (update < 0) throw_error(std::errc::invalid_argument, "counting_semaphore::release: the update must not be negative");
  if (update > maximum - count_) {
    throw_error(std::errc::value_too_large, "counting_semaphore::release: the count would exceed max()");
  }
  for (; update > 0 && grant_first(waiters_); --update) {
  }
  count_ += update;
}

void semaphore_base::out_of_range() {
  throw_error(std::errc::invalid_argument, "counting_semaphore: the first count must lie between 0 and max()");
}

void semaphore_base::destroyed_in_use() noexcept {
  sched::fatal("weft: a semaphore was destroyed while threads wait on it; release it and join them first");
}

}  // namespace weft::detail
