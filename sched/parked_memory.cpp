#include "sched/parked_memory.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace weft::sched {

namespace {

constexpr std::chrono::seconds window{10};  // a thread that has waited so long is likely to wait on

// One bit of a round. An event that arrives meanwhile waits for its end.
constexpr std::size_t most_records = 1024;               // 10 to 20 ns each
constexpr std::size_t most_stacks = 64;                  // 1 µs each when there is nothing to give back
constexpr std::size_t most_addresses = 4 * 1024 * 1024;  // 0.1 to 0.2 µs a page when all of it is

// Rounds take a thousandth of the processor at most: with a million threads they are twenty seconds apart.
constexpr std::chrono::microseconds pause_per_record{20};

// A deadline costs a sleep 0.15 µs. Who has slept so often since the last round will be here again without one.
constexpr unsigned many_visits = 1000;
constexpr unsigned visits_per_look = 64;

// What `next` of a waiting thread points to once it was looked at; only their addresses matter.
thread_record waiting;
thread_record shrunk;

// A pinned thread waits on its stack, deeper than its record says.
bool is_saved(const thread_record& t) noexcept {
  return (t.state == thread_state::parked || t.state == thread_state::in_kernel) && !t.has(flag_pinned);
}

}  // namespace

time_point parked_memory::trim(record_pool& records, stack_pool& stacks, const upcall::source& clock, unsigned turn) noexcept {
  time_point again = never;
  if (!due(clock, turn, again)) return again;
  under_way_ = look(records, stacks);
  if (under_way_) return time_point{};
  visits_ = 0;
  if (!marked_some_ && !some_ran_) {
    next_round_ = {};
    return never;
  }
  next_round_ = clock.now() + std::max<duration>(window, looked_at_ * pause_per_record);
  return next_round_;
}

// True when there is something to do now; otherwise `again` says when there may be.
bool parked_memory::due(const upcall::source& clock, unsigned turn, time_point& again) noexcept {
  some_ran_ |= turn != std::exchange(last_turn_, turn) + 1;
  if (under_way_) return true;
  if (!some_ran_ && next_round_ == time_point{}) return false;
  if (++visits_ > many_visits && visits_ % visits_per_look != 0) return false;
  const time_point now = clock.now();
  if (next_round_ == time_point{}) next_round_ = now + window;
  if (now < next_round_) {
    if (visits_ <= many_visits) again = next_round_;
    return false;
  }
  place_ = {};
  looked_at_ = 0;
  some_ran_ = marked_some_ = false;
  return true;
}

// Looks at the next threads. @returns whether there are more.
bool parked_memory::look(record_pool& records, stack_pool& stacks) noexcept {
  std::array<parked_stack, most_stacks> deep;
  std::size_t count = 0;
  std::size_t addresses = 0;
  const bool more = records.for_some(place_, most_records, [&](thread_record& t) {
    ++looked_at_;
    if (!is_saved(t) || t.next == &shrunk) return true;
    if (t.next != &waiting) {
      t.next = &waiting;
      return marked_some_ = true;
    }
    t.next = &shrunk;
    const stack_slot* const slot = t.extension->slot;
    deep[count++] = {slot, t.context};
    addresses += slot->usable_size();
    return count < most_stacks && addresses < most_addresses;
  });
  stacks.shrink(std::span(deep).first(count));
  return more;
}

}  // namespace weft::sched
