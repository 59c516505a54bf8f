// The slow ways of mailboxes: waiting, attending to those who wait, closing, destroying. Their protocol: detail/mailbox_ring.hpp.
#include "weft/mailbox.hpp"

#include <sched.h>

#include <algorithm>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft::detail {

namespace {

// Whether somebody else can bring something while this kernel thread looks.
bool second_core() noexcept {
  static const bool there = [] {
    cpu_set_t cores;
    return ::sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) > 1;
  }();
  return there;
}

}  // namespace

void count_step() { sched::this_scheduler().completed_at_once(); }

mailbox_ring::mailbox_ring(std::size_t capacity, std::size_t stride)
    : capacity_(capacity),
      stride_(stride),
      index_bits_(static_cast<unsigned>(std::bit_width(std::max<std::size_t>(capacity, 1) - 1))) {
  if (capacity != 0) return;
  throw_error(std::errc::invalid_argument,
              "weft::mailbox: a capacity of 0 was asked for; it needs room for one value at least (a weft::channel hands over "
              "from thread to thread, within one scheduler)");
}

// ---- waiting ----

bool mailbox_ring::ready(const end& of) const noexcept {
  const std::uint64_t position = of.position.load(std::memory_order_relaxed);
  if ((position & closed_bit) != 0) return true;
  return phase_of(at(position).word.load(std::memory_order_relaxed)) >= wanted(of, position) || (&of == &receivers_ && drained());
}

// Under the line's lock. @returns true when there is something to try for; otherwise the cell carries the mark.
bool mailbox_ring::ready_or_marked(end& of) noexcept {
  for (;;) {
    const std::uint64_t position = of.position.load(std::memory_order_acquire);
    if ((position & closed_bit) != 0 || (&of == &receivers_ && drained())) return true;
    cell& c = at(position);
    std::uint64_t word = c.word.load(std::memory_order_acquire);
    const std::uint64_t want = wanted(of, position);
    if (phase_of(word) == want) return true;
    if (phase_of(word) > want) continue;  // others have moved on meanwhile
    if ((word & of.mark) != 0) return false;
    // A success means that the cell was not handed on, so that the position is still what it was.
    if (c.word.compare_exchange_strong(word, word | of.mark, std::memory_order_acq_rel)) {
      of.visits.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  }
}

// A wake-up costs two switches of kernel threads: a short look first is cheaper when the other one is at work. It grows with
// success and shrinks without.
bool mailbox_ring::spin(end& of) noexcept {
  constexpr std::uint32_t least = 8;
  constexpr std::uint32_t most = 512;
  if (!second_core()) return false;
  const std::uint32_t looks = of.spins.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < looks; ++i) {
    if (ready(of)) {
      of.spins.store(std::min(most, looks * 2), std::memory_order_relaxed);
      return true;
    }
    pause_core();
  }
  of.spins.store(std::max(least, looks / 2), std::memory_order_relaxed);
  return false;
}

wake_reason mailbox_ring::wait(end& of, time_point deadline, bool again, errand& mine) {
  const bool sends = &of == &senders_;
  mine.settle();
  if (!on_weft_thread() && deadline == never && spin(of)) return wake_reason::granted;
  struct asked {
    mailbox_ring* ring;
    end* of;
  } about{this, &of};
  const auto over = [](void* what) noexcept {
    const asked& a = *static_cast<asked*>(what);
    return a.ring->ready_or_marked(*a.of);
  };
  waiting_room::verdict how;
  struct leaving {  // also by an exception
    end& from;
    const waiting_room::verdict& how;
    errand& mine;
    ~leaving() {
      mine.owed = how.chosen;
      if (how.chosen) from.visits.fetch_add(1, std::memory_order_relaxed);
      from.waiting.fetch_sub(1, std::memory_order_release);  // pairs with the acquire in await_visitors: it sees the visit
    }
  };
  of.waiting.fetch_add(1, std::memory_order_relaxed);
  {
    const leaving at_the_end{of, how, mine};
    of.line.wait({.call = sends ? "mailbox::send" : "mailbox::receive",
                  .what = sends ? "mailbox send" : "mailbox receive",
                  .object = this,
                  .over = over,
                  .of = &about,
                  .deadline = deadline,
                  .first = again},
                 how);
  }
  if (how.reason == wake_reason::cancelled) throw_cancelled();
  return how.reason;
}

// ---- attending ----

void mailbox_ring::attend(end& of, bool owed) noexcept {
  if (in_interruptible_code()) return with_processor("mailbox", [&] { attend(of, owed); });
  waiting_room::chosen next;
  {
    const std::lock_guard hold(of.line);
    if (owed) of.visits.fetch_sub(1, std::memory_order_relaxed);
    if (!of.line.empty() && ready_or_marked(of)) {
      if (closed_already() && (&of == &senders_ || drained())) {
        of.line.choose_all(next);
      } else {
        of.line.choose_first(next);
      }
    }
  }
  waiting_room::wake(next);
}

[[gnu::noinline]] void mailbox_ring::attend_to(std::uint64_t taken_off) noexcept {
  const bool senders = (taken_off & senders_wait) != 0;
  if ((taken_off & receivers_wait) != 0) attend(receivers_, true);
  if (senders) attend(senders_, true);
}

// ---- the end ----

// Its visits are announced first: who sees that it is closed may destroy it, and waits for them.
void mailbox_ring::close() noexcept {
  if (in_interruptible_code()) return with_processor("mailbox::close", [this] { close(); });
  if (closed_already()) return;
  receivers_.visits.fetch_add(1, std::memory_order_relaxed);
  senders_.visits.fetch_add(1, std::memory_order_relaxed);
  // release: who finds it closed sees what was done before; pairs with the acquire in drained() and ready_or_marked().
  senders_.position.fetch_or(closed_bit, std::memory_order_acq_rel);
  attend(receivers_, true);
  attend(senders_, true);
}

std::uint32_t mailbox_ring::marked_cells(std::uint64_t mark) const noexcept {
  std::uint32_t found = 0;
  for (std::size_t i = 0; i < capacity_; ++i) {
    if ((reinterpret_cast<const cell*>(cells_ + i * stride_)->word.load(std::memory_order_acquire) & mark) != 0) ++found;
  }
  return found;
}

// A visit is a mark that is still there, which nobody attends to any more, or somebody between an exchange and the lock: a few
// instructions.
void mailbox_ring::await_visitors() noexcept {
  if (in_interruptible_code()) return with_processor("mailbox", [this] { await_visitors(); });
  for (end* const of : {&senders_, &receivers_}) {
    if (of->waiting.load(std::memory_order_acquire) != 0) {
      sched::fatal("weft: a mailbox was destroyed while threads wait on it; close it and join them first");
    }
    for (;;) {
      {
        const std::lock_guard hold(of->line);
        if (of->visits.load(std::memory_order_relaxed) == marked_cells(of->mark)) break;
      }
      ::sched_yield();
    }
  }
}

std::size_t mailbox_ring::count() const noexcept {
  const std::uint64_t first = receivers_.position.load(std::memory_order_acquire);
  const std::uint64_t last = senders_.position.load(std::memory_order_acquire);
  const std::uint64_t turns = turn(last) - turn(first);
  return std::min(capacity_, static_cast<std::size_t>(turns * capacity_ + index(last) - index(first)));
}

}  // namespace weft::detail
