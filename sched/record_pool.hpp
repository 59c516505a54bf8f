// Memory for thread records and start blocks: free lists over slabs, so a warm spawn calls no malloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "sched/thread_record.hpp"

namespace weft::sched {

/// All records of one scheduler. Addresses are stable for its whole life: handles point to them.
class record_pool {
 public:
  record_pool() = default;
  ~record_pool();
  record_pool(const record_pool&) = delete;
  record_pool& operator=(const record_pool&) = delete;

  /// From here on a policy_node lies behind each record (sched/policy_node.hpp). Before the first take().
  void make_room_for_nodes() noexcept;

  /// Of all records: thread_record::home.
  [[nodiscard]] std::uint16_t home() const noexcept { return home_; }

  /// A vacant record, the one given back last. @throws std::system_error(not_enough_memory)
  [[nodiscard]] thread_record& take() {
    if (vacant_ == nullptr) [[unlikely]] grow();
    thread_record& record = *vacant_;
    vacant_ = record.next;
    record.next = nullptr;
    return record;
  }
  /// Takes back the record of a thread that has ended.
  void give(thread_record& record) noexcept {
    record.set_state(thread_state::vacant);
    give_unused(record);
  }
  /// Takes back a record that never became a thread's.
  void give_unused(thread_record& record) noexcept {
    record.next = vacant_;
    vacant_ = &record;
  }

  /// Calls `visit(record)` for every thread there is, in no particular order.
  template <class Visit>
  void for_each(Visit visit) {
    for (const slab& s : slabs_) {
      for (std::size_t i = 0; i < s.count; ++i) {
        if (thread_record& t = record_at(s, i); t.state != thread_state::vacant) visit(t);
      }
    }
  }

  /// How far for_some() has come.
  struct place {
    std::size_t slab = 0;
    std::size_t index = 0;
  };
  /// Calls `visit(record)` for the next `most` records from `from` on, vacant ones too, until it returns false. @returns whether
  /// there are more. Between two calls threads may come and go.
  template <class Visit>
  bool for_some(place& from, std::size_t most, Visit visit) {
    for (bool go_on = true; go_on && most > 0 && from.slab < slabs_.size(); --most) {
      const slab& s = slabs_[from.slab];
      go_on = visit(record_at(s, from.index));
      if (++from.index == s.count) from = {from.slab + 1, 0};
    }
    return from.slab < slabs_.size();
  }

 private:
  struct slab {
    std::byte* memory;
    std::size_t count;
  };
  void grow();
  [[nodiscard]] thread_record& record_at(const slab& s, std::size_t i) const noexcept {
    return *std::launder(reinterpret_cast<thread_record*>(s.memory + i * stride_));
  }
  static std::uint16_t next_home() noexcept;

  std::size_t stride_ = sizeof(thread_record);  // bytes from one to the next
  std::vector<slab> slabs_;
  thread_record* vacant_ = nullptr;
  std::uint16_t home_ = next_home();
};

/// Start blocks come in three sizes; larger ones go to operator new.
class start_pool {
 public:
  start_pool() = default;
  start_pool(const start_pool&) = delete;
  start_pool& operator=(const start_pool&) = delete;
  ~start_pool();

  /// @throws std::system_error(not_enough_memory)
  [[nodiscard]] void* take(std::size_t bytes) {
    const std::size_t shelf = shelf_of(bytes);
    if (shelf == shelf_count) [[unlikely]] return allocate(bytes);
    free_block* const block = shelves_[shelf];
    if (block == nullptr) [[unlikely]] return allocate(smallest << shelf);
    shelves_[shelf] = block->next;
    return block;
  }
  /// The size of the block that `take(bytes)` returns. Blocks allocated elsewhere in this size may be given to this pool.
  [[nodiscard]] static std::size_t rounded(std::size_t bytes) noexcept {
    const std::size_t shelf = shelf_of(bytes);
    return shelf == shelf_count ? bytes : smallest << shelf;
  }
  void give(void* memory, std::size_t bytes) noexcept {
    const std::size_t shelf = shelf_of(bytes);
    if (shelf == shelf_count) [[unlikely]] return ::operator delete(memory);
    shelves_[shelf] = ::new (memory) free_block{shelves_[shelf]};
  }

 private:
  struct free_block {
    free_block* next;
  };
  static void* allocate(std::size_t bytes);
  static constexpr std::size_t smallest = 128;
  static constexpr std::size_t shelf_count = 3;
  static std::size_t shelf_of(std::size_t bytes) noexcept {
    return bytes <= smallest ? 0 : bytes <= smallest * 2 ? 1 : bytes <= smallest * 4 ? 2 : shelf_count;
  }

  free_block* shelves_[shelf_count] = {};
};

}  // namespace weft::sched
