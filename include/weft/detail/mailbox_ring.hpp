// What a mailbox is apart from its values: a ring of cells, and a line of those who wait at each of its two ends.
//
// A cell's word says in which turn of the ring it is, whether it holds a value, and whether somebody wants to know when it
// changes. Each end has a position: who moves it on by a compare-and-swap owns the cell there until it changes the cell's word,
// by one exchange. After D. Vyukov, "Bounded MPMC queue", 1024cores.net, 2010.
//
// Waiting. Whoever finds the cell at its position not ready sits down in its line and marks that cell, both under the line's
// lock. The exchange that changes the cell takes the mark off and tells so who made it: that one attends to the line. So two
// operations on a mailbox where nobody waits are four atomic instructions, and they touch nothing of it after the last one:
// whoever has received a value may destroy the mailbox, though its sender has not returned yet.
//
// Invariant: while somebody sits in a line, the cell at that end's position carries the line's mark, or somebody is on the way to
// attend to the line. On the way are: who took a mark off; who was chosen, until it has tried again; and who closes.
//
// Attending is, under the lock: if the cell at the position is ready, choose the first in line, who attends in its turn when it
// has tried; otherwise mark the cell. So one value wakes one thread, and a thread that was woken and finds many values lets the
// next one be woken, which is a chain, not a herd.
//
// Memory orders. A cell's exchange is a release and the look at it an acquire: the value, or that it is gone, is seen with it.
// The mark is put on by a compare-and-swap of the same word, so either the exchange takes the mark off, or the compare-and-swap
// fails and the cell is looked at again. `closed` is a bit of the senders' position: no place is given out after it. Who sits
// down looks for it under the lock, and who closes attends under the lock after setting it: one of the two sees the other.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "weft/detail/waiting_room.hpp"

namespace weft::detail {

class mailbox_ring {
 public:
  struct cell {
    std::atomic<std::uint64_t> word{0};
  };

 protected:
  // ---- positions: closed | index | turn, from the lowest bit ----

  static constexpr std::uint64_t closed_bit = 1;

  // ---- words: marks | turn and whether there is a value ----

  static constexpr std::uint64_t hollow = 1;          // the value could not be made: there is none
  static constexpr std::uint64_t receivers_wait = 2;  // marks of the two lines
  static constexpr std::uint64_t senders_wait = 4;
  static constexpr unsigned phase_shift = 3;
  static constexpr std::uint64_t marks = receivers_wait | senders_wait;
  [[nodiscard]] static std::uint64_t phase_of(std::uint64_t word) noexcept { return word >> phase_shift; }

  // One of the two ends. `mark` is that of its line.
  struct alignas(64) end {
    explicit end(std::uint64_t of) noexcept : mark(of) {}
    std::atomic<std::uint64_t> position{0};
    const std::uint64_t mark;
    alignas(64) waiting_room line;          // away from what every operation writes
    std::atomic<std::uint32_t> waiting{0};  // calls that wait
    std::atomic<std::uint32_t> visits{0};   // marks put on and not attended to yet, and chosen ones that have not tried yet
    std::atomic<std::uint32_t> spins{first_spins};  // looks at the cell before a kernel thread sleeps
  };

  // Somebody who was chosen attends to the line when it has tried again.
  class errand {
   public:
    errand(mailbox_ring& ring, end& of) noexcept : ring_(ring), of_(of) {}
    ~errand() { settle(); }
    errand(const errand&) = delete;
    errand& operator=(const errand&) = delete;
    void settle() noexcept {
      if (owed) ring_.attend(of_, true);
      owed = false;
    }
    bool owed = false;

   private:
    mailbox_ring& ring_;
    end& of_;
  };

  /// `cells` have words of 0 and lie `stride` bytes apart; their owner frees them. @throws std::system_error(invalid_argument)
  mailbox_ring(std::size_t capacity, std::size_t stride);
  ~mailbox_ring() = default;
  mailbox_ring(const mailbox_ring&) = delete;
  mailbox_ring& operator=(const mailbox_ring&) = delete;

  [[nodiscard]] std::size_t index(std::uint64_t position) const noexcept {
    return static_cast<std::size_t>((position >> 1) & ((std::uint64_t{1} << index_bits_) - 1));
  }
  [[nodiscard]] std::uint64_t turn(std::uint64_t position) const noexcept { return position >> (1 + index_bits_); }
  [[nodiscard]] std::uint64_t following(std::uint64_t position) const noexcept {
    return index(position) + 1 < capacity_ ? position + 2 : (turn(position) + 1) << (1 + index_bits_);
  }
  [[nodiscard]] cell& at(std::uint64_t position) const noexcept {
    return *reinterpret_cast<cell*>(cells_ + index(position) * stride_);
  }
  // The phase in which a cell is ready for the end's next one. It never goes back.
  [[nodiscard]] std::uint64_t wanted(const end& of, std::uint64_t position) const noexcept {
    return 2 * turn(position) + (&of == &receivers_ ? 1 : 0);
  }

  /// Takes the cell at the end's position, which the caller then owns. @returns null when it is not ready, or, for a sender,
  /// when the mailbox is closed: `position` then has the bit.
  [[nodiscard, gnu::always_inline]] inline cell* take_cell(end& of, std::uint64_t& position) noexcept {
    position = of.position.load(std::memory_order_relaxed);
    for (;;) {
      if ((position & closed_bit) != 0) [[unlikely]]
        return nullptr;
      cell& c = at(position);
      const std::uint64_t phase = phase_of(c.word.load(std::memory_order_acquire));
      const std::uint64_t want = wanted(of, position);
      if (phase == want) {
        if (of.position.compare_exchange_weak(position, following(position), std::memory_order_relaxed)) return &c;
      } else if (phase < want) {
        return nullptr;
      } else {
        position = of.position.load(std::memory_order_relaxed);
      }
    }
  }
  /// The cell's owner hands it on to the other end. Nothing of the mailbox is touched after that, unless somebody waits.
  [[gnu::always_inline]] inline void hand_on(cell& c, std::uint64_t phase, std::uint64_t as = 0) noexcept {
    const std::uint64_t before = c.word.exchange((phase + 1) << phase_shift | as, std::memory_order_acq_rel);
    if ((before & marks) != 0) [[unlikely]]
      attend_to(before);
  }

  [[nodiscard]] bool closed_already() const noexcept {
    return (senders_.position.load(std::memory_order_acquire) & closed_bit) != 0;
  }
  // Closed, and every value has its receiver.
  [[nodiscard]] bool drained() const noexcept {
    const std::uint64_t first = receivers_.position.load(std::memory_order_acquire);
    return senders_.position.load(std::memory_order_acquire) == (first | closed_bit);
  }
  /// Waits in the line until it may be worth trying again. @returns granted or timed_out @throws weft::cancelled; as waiting_room
  wake_reason wait(end& of, time_point deadline, bool again, errand& mine);
  void attend(end& of, bool owed) noexcept;
  void close() noexcept;
  /// Before the cells are destroyed: ends the program when somebody waits, and lets those who attend finish.
  void await_visitors() noexcept;
  [[nodiscard]] std::size_t count() const noexcept;

  end senders_{senders_wait};
  end receivers_{receivers_wait};
  std::byte* cells_ = nullptr;
  const std::size_t capacity_;
  const std::size_t stride_;
  const unsigned index_bits_;

 private:
  static constexpr std::uint32_t first_spins = 64;

  void attend_to(std::uint64_t taken_off) noexcept;
  [[nodiscard]] bool ready(const end& of) const noexcept;
  [[nodiscard]] bool ready_or_marked(end& of) noexcept;
  [[nodiscard]] bool spin(end& of) noexcept;
  [[nodiscard]] std::uint32_t marked_cells(std::uint64_t mark) const noexcept;
};

/// For a weft thread that has the processor: counts like a switch, so that a thread which always finds something starves nobody.
void count_step();

/// Begins an operation. @returns whether the caller may carry it out where it is: a weft thread that has the processor may, and
/// so may whoever is no weft thread at all.
[[nodiscard, gnu::always_inline]] inline bool begin_mailbox_call() {
  const scheduler_face& face = this_scheduler_face();
  if (face.current == nullptr) return face.away == nullptr;
  count_step();
  return true;
}

}  // namespace weft::detail
