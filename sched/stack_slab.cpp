// What a slab asks of the kernel, and why.
//
// NORESERVE: stacks are address space first; what is never touched must not count as committed memory.
// NOHUGEPAGE: a parked thread uses one page, and a huge page would make resident its neighbours' as well. Tiny stacks are the
//   opposite case: every byte of a slab is in use, so huge pages save the page tables and nine tenths of the faults.
// DONTFORK: see stack_directory.cpp.
// Guards by MADV_GUARD_INSTALL are marks in the page table: they take no mapping of their own, so their number has no bound,
//   and they survive DONTNEED. Laying them allocates page tables (128 B per 64 KiB of stack), so they are laid in batches a
//   little ahead of need, not for a whole slab at once.
#include "sched/stack_slab.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

namespace weft::sched {
namespace {

constexpr std::size_t mib = 1024 * 1024;
constexpr std::size_t huge_page = 2 * mib;

constexpr std::size_t first_slab_stacks = 64;
constexpr std::size_t first_slab_bytes = 64 * mib;
constexpr std::size_t largest_slab_bytes = 1024 * mib;
constexpr std::size_t largest_tiny_slab_bytes = 64 * mib;  // its last huge pages may be memory that nobody uses

constexpr std::size_t first_guard_batch = 16;
constexpr std::size_t largest_guard_batch = 1024;

constexpr int pr_set_vma = 0x53564d41;  // newer than the C library's headers
constexpr unsigned long pr_set_vma_anon_name = 0;

// Tiny slabs that can hold huge pages lie on their boundaries.
std::size_t alignment_of(const stack_shape& shape, std::size_t bytes) noexcept {
  return shape.tiny && bytes >= huge_page ? huge_page : page_size();
}

// Fresh, aligned addresses, or null with errno set.
std::byte* map_addresses(std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t surplus = alignment - page_size();
  void* const mapped = mmap(nullptr, bytes + surplus, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* const first = static_cast<std::byte*>(mapped);
  const std::size_t before = (alignment - reinterpret_cast<std::uintptr_t>(first) % alignment) % alignment;
  if (before != 0) munmap(first, before);
  if (surplus != before) munmap(first + before + bytes, surplus - before);
  return first + before;
}

std::byte* round_up(std::byte* address, std::size_t grain) noexcept {
  return address + (grain - reinterpret_cast<std::uintptr_t>(address) % grain) % grain;
}

std::byte* round_down(std::byte* address, std::size_t grain) noexcept {
  return address - reinterpret_cast<std::uintptr_t>(address) % grain;
}

}  // namespace

std::size_t index_set::next(std::size_t from, bool in) const noexcept {
  if (from >= size_) return size_;
  const std::uint64_t flip = in ? 0 : ~std::uint64_t{0};
  std::size_t word = from / 64;
  std::uint64_t rest = (words_[word] ^ flip) & (~std::uint64_t{0} << from % 64);
  while (rest == 0) {
    if (++word == words_.size()) return size_;
    rest = words_[word] ^ flip;
  }
  return std::min(size_, word * 64 + static_cast<std::size_t>(std::countr_zero(rest)));
}

std::unique_ptr<stack_slab> stack_slab::map(const stack_shape& shape, std::size_t count, stack_refusal& refusal) {
  const std::size_t bytes = count * shape.size;
  std::byte* const base = map_addresses(std::max(bytes, page_size()), alignment_of(shape, bytes));
  if (base == nullptr) {
    refusal = {.error = errno, .bytes = bytes};
    return nullptr;
  }
  // Advice that a kernel does not know changes costs, not meaning.
  madvise(base, bytes, shape.tiny ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  madvise(base, bytes, MADV_DONTFORK);
  prctl(pr_set_vma, pr_set_vma_anon_name, base, bytes, "weft stacks");  // for readers of /proc/PID/maps
  try {
    return std::unique_ptr<stack_slab>(new stack_slab(base, shape, count));
  } catch (const std::bad_alloc&) {
    munmap(base, bytes);
    throw;
  }
}

// Doubling keeps ten stacks cheap and the mappings of a million few.
std::size_t stack_slab::good_count(const stack_shape& shape, std::size_t existing) noexcept {
  const std::size_t most_bytes = existing == 0 ? first_slab_bytes : shape.tiny ? largest_tiny_slab_bytes : largest_slab_bytes;
  const std::size_t most = std::max<std::size_t>(most_bytes / shape.size, 1);
  return std::min(std::bit_floor(std::max(existing, first_slab_stacks)), most);
}

stack_slab::stack_slab(std::byte* base, const stack_shape& shape, std::size_t count)
    : base_(base), shape_(shape), count_(count), released_(count), undropped_(count), entry_(list_slab(base, shape)) {}

stack_slab::~stack_slab() {
  unlist_slab(*entry_);
  if (!owned_) return;
  munmap(base_, bytes());
  stack_memory::forget_protected(guards_reserved_ ? count_ : protected_guards_);
}

stack_slot* stack_slab::make(stack_shelf& shelf, std::uint32_t slab, stack_memory& memory, stack_refusal& refusal) noexcept {
  if (ever_made_ == guarded_ && !guard_more(memory, refusal)) return nullptr;
  const std::size_t index = ever_made_++;
  list_made(*entry_, ever_made_);
  return new (slot_address(shape_, base_, index)) stack_slot(shelf, base_ + index * shape_.size + shape_.guard, slab);
}

bool stack_slab::guard_more(stack_memory& memory, stack_refusal& refusal) noexcept {
  const std::size_t batch = std::min(std::clamp(guarded_, first_guard_batch, largest_guard_batch), count_ - guarded_);
  const guards_laid done = memory.lay_guards(base_ + guarded_ * shape_.size, shape_.size, shape_.guard, batch, guards_reserved_);
  guarded_ += done.laid;
  protected_guards_ += done.by_mprotect;
  if (done.laid > 0) return true;  // what is missing of the batch is asked for again when it is needed
  refusal = {.error = done.error, .bytes = shape_.guard, .guards = true, .mprotect = done.tried_mprotect};
  return false;
}

stack_slot* stack_slab::remake(stack_shelf& shelf, std::uint32_t slab) noexcept {
  const std::size_t index = released_.next(0);
  released_.erase(index);
  --released_count_;
  return new (slot_address(shape_, base_, index)) stack_slot(shelf, base_ + index * shape_.size + shape_.guard, slab);
}

void stack_slab::release(stack_slot* slot) noexcept {
  const std::size_t index = static_cast<std::size_t>(reinterpret_cast<std::byte*>(slot) - base_) / shape_.size;
  released_.insert(index);
  undropped_.insert(index);
  ++released_count_;
}

// Drops whole runs of released stacks, guards between them included: one range instead of many. A run with nothing new in it
// is left alone, but one with something new is dropped whole, for only neighbours together fill the pages of tiny stacks.
void stack_slab::drop_released(stack_memory& memory) noexcept {
  const std::size_t grain = alignment_of(shape_, bytes());  // a part of a huge page would only split it, and free nothing
  for (std::size_t first = undropped_.next(0); first < count_;) {
    std::size_t begin = first;
    while (begin > 0 && released_.contains(begin - 1)) --begin;
    const std::size_t end = released_.next(first, false);
    memory.drop(round_up(base_ + begin * shape_.size + shape_.guard, grain), round_down(base_ + end * shape_.size, grain));
    first = undropped_.next(end);
  }
  undropped_.clear();
}

}  // namespace weft::sched
