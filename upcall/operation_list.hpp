// Where an operation is, and the lists that hold operations. The links are in the operation: nothing here allocates.
#pragma once

#include <cstdint>

#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// Who holds an operation. Exactly one holder at a time, from `start` until its event was delivered.
enum class place : std::uint8_t {
  nowhere,    ///< not started, or delivered
  collected,  ///< in the batch that the next flush carries out
  reading,    ///< waits in its descriptor's list until that is readable (or for its turn)
  writing,    ///< the same for writable
  watching,   ///< a poll operation that waits for an edge of its descriptor
  retrying,   ///< no edge will come: tried again after a while
  in_ring,    ///< the kernel has it
  in_worker,  ///< a worker kernel thread has it, or it queues for one
  closing,    ///< a close that waits until no worker is at work on its descriptor
  finished,   ///< `result` is final; delivered by the next poll or wait
};

/// What else `operation::stage` says. Bits 0-7 are the place, 8-15 these marks, 16-31 the generation of the descriptor's entry.
namespace mark {
inline constexpr std::uint32_t connecting = 1U << 8;   ///< connect(2) was made and is under way
inline constexpr std::uint32_t checked = 1U << 9;      ///< its descriptor's registration was re-checked for it
inline constexpr std::uint32_t cancelling = 1U << 10;  ///< the kernel was asked to let go of it
inline constexpr std::uint32_t turn = 1U << 11;        ///< it holds the turn of its direction: no other transfer there
inline constexpr std::uint32_t file = 1U << 12;        ///< carried out as a file operation: may take long, needs no readiness
inline constexpr std::uint32_t write_turn = 1U << 13;  ///< the turn it holds is that of writing
inline constexpr std::uint32_t untimely = 1U << 14;    ///< not to be tried without waiting again: it would block
}  // namespace mark

[[nodiscard]] inline place place_of(const operation& op) noexcept { return static_cast<place>(op.stage & 0xffU); }
inline void set_place(operation& op, place p) noexcept { op.stage = (op.stage & ~0xffU) | static_cast<std::uint32_t>(p); }
[[nodiscard]] inline bool has(const operation& op, std::uint32_t bits) noexcept { return (op.stage & bits) != 0; }
[[nodiscard]] inline std::uint16_t generation_of(const operation& op) noexcept {
  return static_cast<std::uint16_t>(op.stage >> 16);
}
inline void set_generation(operation& op, std::uint16_t generation) noexcept {
  op.stage = (op.stage & 0xffffU) | (static_cast<std::uint32_t>(generation) << 16);
}

/// The upcall that tells of a finished operation.
[[nodiscard]] inline event upcall_of(const operation& op) noexcept {
  return {kind::unblocked, cause_of(op.code), 1, 0, op.result, {}, op.thread};
}

/// First in, first out. One pointer: the first operation, whose `previous` is the last.
class operation_list {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] operation* front() const noexcept { return first_; }
  /// The one behind `op`, or null.
  [[nodiscard]] operation* after(const operation& op) const noexcept { return op.next == first_ ? nullptr : op.next; }

  void push_back(operation& op) noexcept {
    if (first_ == nullptr) {
      op.next = op.previous = &op;
      first_ = &op;
      return;
    }
    op.next = first_;
    op.previous = first_->previous;
    first_->previous->next = &op;
    first_->previous = &op;
  }
  void push_front(operation& op) noexcept {
    push_back(op);
    first_ = &op;
  }
  void remove(operation& op) noexcept {
    if (op.next == &op) {
      first_ = nullptr;
    } else {
      op.previous->next = op.next;
      op.next->previous = op.previous;
      if (first_ == &op) first_ = op.next;
    }
    op.next = op.previous = nullptr;
  }
  [[nodiscard]] operation* pop_front() noexcept {
    operation* const op = first_;
    if (op != nullptr) remove(*op);
    return op;
  }
  /// Gives all away.
  [[nodiscard]] operation_list take() noexcept {
    const operation_list all = *this;
    first_ = nullptr;
    return all;
  }

 private:
  operation* first_ = nullptr;
};

}  // namespace weft::upcall::engine
