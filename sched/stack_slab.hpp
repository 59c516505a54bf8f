// One large mapping cut into stacks of one class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sched/stack_directory.hpp"
#include "sched/stack_error.hpp"
#include "sched/stack_memory.hpp"

namespace weft::sched {

/// A set of stacks of a slab, by index.
class index_set {
 public:
  explicit index_set(std::size_t size) : words_((size + 63) / 64), size_(size) {}
  void insert(std::size_t index) noexcept { words_[index / 64] |= std::uint64_t{1} << index % 64; }
  void erase(std::size_t index) noexcept { words_[index / 64] &= ~(std::uint64_t{1} << index % 64); }
  [[nodiscard]] bool contains(std::size_t index) const noexcept { return (words_[index / 64] >> index % 64 & 1) != 0; }
  void clear() noexcept { words_.assign(words_.size(), 0); }
  /// The first index from `from` on that is in the set (or, with `false`, is not), or the set's size.
  [[nodiscard]] std::size_t next(std::size_t from, bool in = true) const noexcept;

 private:
  std::vector<std::uint64_t> words_;
  std::size_t size_;
};

class stack_slab {
 public:
  /// Maps `count` stacks; null if the kernel refuses, `refusal` then says what.
  /// @throws std::bad_alloc
  [[nodiscard]] static std::unique_ptr<stack_slab> map(const stack_shape& shape, std::size_t count, stack_refusal& refusal);
  /// How many stacks the next slab of a class should have that has `existing` in its slabs: as many again, within bounds.
  [[nodiscard]] static std::size_t good_count(const stack_shape& shape, std::size_t existing) noexcept;

  ~stack_slab();
  stack_slab(const stack_slab&) = delete;
  stack_slab& operator=(const stack_slab&) = delete;

  /// The next stack never used so far, as number `slab` of its class's slabs. Null when its guard is refused.
  /// Requires !used_up().
  stack_slot* make(stack_shelf& shelf, std::uint32_t slab, stack_memory& memory, stack_refusal& refusal) noexcept;
  /// A released stack, made again. Requires released() > 0.
  stack_slot* remake(stack_shelf& shelf, std::uint32_t slab) noexcept;
  /// Takes back a free stack. Its memory goes with the next drop_released().
  void release(stack_slot* slot) noexcept;
  void drop_released(stack_memory& memory) noexcept;

  [[nodiscard]] bool used_up() const noexcept { return ever_made_ == count_; }
  /// No stack of it is in use or free.
  [[nodiscard]] bool idle() const noexcept { return ever_made_ == released_count_; }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t released() const noexcept { return released_count_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return count_ * shape_.size; }
  [[nodiscard]] std::size_t resident() const noexcept { return resident_bytes(base_, bytes()); }
  /// True for a fresh slab if the kernel filled it at once, as it does while future memory is locked (mlockall).
  [[nodiscard]] bool populated() const noexcept { return resident_bytes(base_, page_size()) != 0; }
  [[nodiscard]] std::size_t protected_guards() const noexcept { return protected_guards_; }

  /// Tells that mappings are set aside for the guards of all its stacks, which are laid by mprotect.
  void own_reserved_guards() noexcept { guards_reserved_ = true; }

  /// Leaves the addresses alone when destroyed: in a forked child they are somebody else's.
  void disown() noexcept { owned_ = false; }

 private:
  stack_slab(std::byte* base, const stack_shape& shape, std::size_t count);
  bool guard_more(stack_memory& memory, stack_refusal& refusal) noexcept;

  std::byte* base_;
  stack_shape shape_;
  std::size_t count_;
  std::size_t ever_made_ = 0;  // indices below it have a slot, or had one and were released
  std::size_t guarded_ = 0;    // indices below it have a guard
  std::size_t protected_guards_ = 0;
  index_set released_;
  std::size_t released_count_ = 0;
  index_set undropped_;  // those of released_ whose memory is still there
  slab_entry* entry_ = nullptr;
  bool owned_ = true;
  bool guards_reserved_ = false;
};

}  // namespace weft::sched
