// What the stack pool asks of the kernel: guards, and memory back, both for up to 1,024 ranges in one system call.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <memory>

#include "sched/stack.hpp"

namespace weft::sched {

[[nodiscard]] std::size_t page_size() noexcept;

/// Bytes of this mapped, page-aligned range that are in memory; guards count as absent.
[[nodiscard]] std::size_t resident_bytes(const std::byte* first, std::size_t size) noexcept;

/// What came of lay_guards(): the first `laid` stacks have theirs, `by_mprotect` of them the dear way.
struct guards_laid {
  std::size_t laid = 0;
  std::size_t by_mprotect = 0;
  bool tried_mprotect = false;
  int error = 0;  // why not all; also ENOMEM when vm.max_map_count leaves no room for mprotect's
};

/// Lays guards and drops memory, by the best means the kernel has. The list of ranges lives on the heap: stacks are made on
/// stacks whose further pages nobody wants touched.
class stack_memory {
 public:
  /// Lays guards with the best method that the kernel has, but none better than `wanted`.
  explicit stack_memory(guard_method wanted);

  [[nodiscard]] guard_method guards() const noexcept { return guards_; }

  /// Sets mappings aside for this many mprotect guards. @returns false when the process has not so many left.
  [[nodiscard]] static bool reserve_guards(std::size_t count) noexcept;

  /// Makes the lowest `guard` bytes of `count` stacks, `stride` bytes apart, fault when touched. `reserved`: by mprotect, with
  /// mappings set aside.
  guards_laid lay_guards(std::byte* first, std::size_t stride, std::size_t guard, std::size_t count, bool reserved) noexcept;

  /// Tells that the mapping that held this many mprotect guards, or for which they were reserved, is gone.
  static void forget_protected(std::size_t count) noexcept;

  /// Drops the contents of a page-aligned range, at the latest in finish_drops(). Guards in it stay.
  void drop(std::byte* first, std::byte* last) noexcept;
  /// @returns bytes of memory handed back by drop() since the last call.
  std::size_t finish_drops() noexcept;

 private:
  std::size_t advise_all(int advice, int& error) noexcept;
  void flush_drops() noexcept;

  std::unique_ptr<iovec[]> ranges_;
  std::size_t count_ = 0;    // ranges waiting to be advised
  std::size_t dropped_ = 0;  // bytes, since the last finish_drops()
  guard_method guards_ = guard_method::protect;
};

}  // namespace weft::sched
