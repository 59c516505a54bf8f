// The processor: the right to run the threads of one scheduler, as one word that says which activation has it.
//
// Invariant: exactly one activation holds the processor, and only the holder touches the scheduler. It may loosen its grip
// without letting go: then any other activation may take the processor by one compare-and-swap, and the holder finds out by
// one of its own. Every change of the word counts its sequence up, so a word that was looked at names one moment: whoever
// swaps it knows that nothing happened in between. So taking is safe at any moment at which the grip is loose; that the kernel
// thread of the holder really waits is a matter of using two cores well, never of correctness.
//
// After T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992, section 3.1.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft::detail {

class processor {
 public:
  using word = std::uint64_t;

  enum class grip : std::uint8_t {
    held,     // nobody may take it
    lent,     // its holder's thread is in a marked region: it may be taken once the kernel thread waits
    idle,     // its holder sleeps for want of ready threads: one whose thread comes back may take it
    offered,  // its holder wants to be rid of it: it is to be taken at once
    open,     // its holder's thread is in its own code, which upcalls may interrupt: it may be taken only while the kernel thread
              // waits, and will be stopped before it goes on
    kept,     // the same, but nobody may take it: only ticks interrupt its thread
  };

  explicit constexpr processor(std::uint32_t first) noexcept : word_(make(0, first, grip::held)) {}

  [[nodiscard]] static constexpr std::uint32_t holder(word w) noexcept { return static_cast<std::uint32_t>(w & 0xffff); }
  [[nodiscard]] static constexpr grip grip_of(word w) noexcept { return static_cast<grip>((w >> 16) & 7); }

  // acquire: who sees a loose grip sees what the holder did before, as far as it may be looked at without taking.
  [[nodiscard]] word look() const noexcept { return word_.load(std::memory_order_acquire); }

  /// Only the holder: loosens its grip.
  /// seq_cst, as the watchdog's look before it falls asleep: either it sees this word, or we see it asleep (watchdog.hpp).
  void loosen(grip how) noexcept {
    const word now = word_.load(std::memory_order_relaxed);
    word_.exchange(make(now, holder(now), how), std::memory_order_seq_cst);
  }

  /// Only the one that held it last on this kernel thread: tightens a loosened grip again. @returns false when the processor was
  /// taken meanwhile.
  [[nodiscard]] bool tighten(std::uint32_t me) noexcept {
    word seen = word_.load(std::memory_order_relaxed);
    if (holder(seen) != me) return false;
    if (grip_of(seen) == grip::held) return true;
    return word_.compare_exchange_strong(seen, make(seen, me, grip::held), std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  /// True while the holder's thread is in its own code, where upcalls may interrupt it.
  [[nodiscard]] static constexpr bool outside(word w) noexcept { return grip_of(w) == grip::open || grip_of(w) == grip::kept; }

  /// Only a thread in its own code, on whichever kernel thread it is by now: tightens the grip of its holder. A thread that is
  /// taken off its kernel thread between look and swap finds the word changed, and looks again.
  void close() noexcept {
    word seen = look();
    while (outside(seen) && !word_.compare_exchange_weak(seen, make(seen, holder(seen), grip::held), std::memory_order_acq_rel,
                                                         std::memory_order_acquire)) {
    }
  }

  /// On the kernel thread of activation `me`, which waited while its thread was in its own code: true when it still has the
  /// processor, and then nobody who looked before can take it. Async-signal-safe.
  [[nodiscard]] bool still_open(std::uint32_t me) noexcept {
    word seen = look();
    while (holder(seen) == me && grip_of(seen) == grip::open) {
      if (word_.compare_exchange_weak(seen, make(seen, me, grip::open), std::memory_order_acq_rel, std::memory_order_acquire))
        return true;
    }
    return holder(seen) == me;
  }

  /// Any activation: takes the processor if its word is still `seen` and its grip loose.
  [[nodiscard]] bool take(word seen, std::uint32_t me) noexcept {
    return grip_of(seen) != grip::held && grip_of(seen) != grip::kept &&
           word_.compare_exchange_strong(seen, make(seen, me, grip::held), std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  /// Only the holder: gives the processor to activation `to`, which waits for it.
  void give(std::uint32_t to) noexcept {
    word_.store(make(word_.load(std::memory_order_relaxed), to, grip::held), std::memory_order_release);
  }

 private:
  [[nodiscard]] static constexpr word make(word before, std::uint32_t who, grip how) noexcept {
    return (((before >> 19) + 1) << 19) | (static_cast<word>(how) << 16) | who;
  }

  std::atomic<word> word_;
};

}  // namespace weft::detail
