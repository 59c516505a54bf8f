#include "upcall/watchdog.hpp"

#include <sys/prctl.h>
#include <time.h>

#include <algorithm>

namespace weft::upcall::engine {

namespace {

using detail::processor;

constexpr std::chrono::microseconds longest_look{10'000};
constexpr int looks_before_backing_off = 50;
constexpr int looks_before_sleeping = 100;  // of the longest: a second

bool is_lent(processor::word w) noexcept {
  return processor::grip_of(w) == processor::grip::lent || processor::grip_of(w) == processor::grip::open;
}

void pause_for(std::chrono::microseconds time) noexcept {
  const timespec t{static_cast<time_t>(time.count() / 1'000'000), static_cast<long>(time.count() % 1'000'000) * 1000};
  ::nanosleep(&t, nullptr);
}

}  // namespace

watchdog::watchdog(const processor& word, std::atomic<bool>& asleep, std::chrono::microseconds first_look,
                   std::function<void(processor::word)> overdue)
    : word_(&word), asleep_(&asleep), first_look_(first_look), overdue_(std::move(overdue)) {
  thread_ = detail::kernel_thread("weft::blocking", "weft-watchdog", detail::signals::blocked, [this] { run(); });
}

watchdog::~watchdog() {
  stopping_.store(true, std::memory_order_seq_cst);
  wake();
  thread_.join();
}

void watchdog::wake() noexcept {
  rings_.fetch_add(1, std::memory_order_seq_cst);
  rings_.notify_one();
}

// seq_cst, all three: either the one who lends sees us asleep and rings, or we see the word lent, or the ring.
void watchdog::sleep_until_woken() noexcept {
  const std::uint32_t before = rings_.load(std::memory_order_seq_cst);
  asleep_->store(true, std::memory_order_seq_cst);
  if (!is_lent(word_->look()) && !stopping_.load(std::memory_order_seq_cst)) rings_.wait(before, std::memory_order_seq_cst);
  asleep_->store(false, std::memory_order_seq_cst);
}

void watchdog::run() {
  ::prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
  processor::word before = word_->look();
  std::chrono::microseconds interval = first_look_.load(std::memory_order_relaxed);
  int quiet = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    pause_for(interval);
    const processor::word now = word_->look();
    if (now == before && is_lent(now)) overdue_(now);
    quiet = now == before && !is_lent(now) ? quiet + 1 : 0;
    before = now;
    if (quiet == 0) {
      interval = first_look_.load(std::memory_order_relaxed);
    } else if (quiet >= looks_before_backing_off && interval < longest_look) {
      interval = std::min(interval * 2, longest_look);
    } else if (quiet >= looks_before_backing_off + looks_before_sleeping) {
      sleep_until_woken();
      quiet = 0;
      interval = first_look_.load(std::memory_order_relaxed);
    }
  }
}

}  // namespace weft::upcall::engine
