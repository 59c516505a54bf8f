#include "sched/stack.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>
#include <utility>

#include "sched/stack_error.hpp"
#include "sched/stack_memory.hpp"
#include "sched/stack_slab.hpp"

namespace weft::sched {

// A class: its shelf of free stacks, and the slabs they were made from. A slab that is unmapped leaves a hole, so that the
// slab numbers in slots stay true; the next slab fills it.
struct stack_store : stack_shelf {
  std::vector<std::unique_ptr<stack_slab>> slabs;
  std::uint32_t filling = 0;   // the slab new stacks come from, if it still exists and has some left
  bool memory_locked = false;  // slabs come with all their memory at once: keep them small
};

namespace {

constexpr std::size_t largest_stack = std::size_t{1} << 40;

stack_shape tiny_shape(const stack_request& request) {
  const bool unspecified = request.size == 0 || request.size == default_stack_size;
  const std::size_t size = unspecified ? default_tiny_size : std::max<std::size_t>(std::bit_ceil(request.size), 2048);
  if (size > 4096) throw_bad_request(request, "a tiny one has 2 KiB or 4 KiB");
  return {.size = size, .guard = 0, .tiny = true};
}

stack_shape shape_of(const stack_request& request) {
  const std::size_t page = page_size();
  if (request.size > largest_stack || request.guard > largest_stack) throw_bad_request(request, "1 TiB is the most");
  if (request.tiny) return tiny_shape(request);
  const std::size_t guard = (request.guard + page - 1) / page * page;
  const std::size_t size = std::bit_ceil(std::max(request.size, page));
  if (size <= guard) throw_bad_request(request, "the guard leaves no room above it; ask for a larger stack or a smaller guard");
  return {.size = size, .guard = guard, .tiny = false};
}

std::byte* page_of(const void* address) noexcept {
  auto* const at = static_cast<std::byte*>(const_cast<void*>(address));
  return at - reinterpret_cast<std::uintptr_t>(at) % page_size();
}

}  // namespace

std::string_view to_string(guard_method method) noexcept {
  switch (method) {
    case guard_method::automatic:
      return "automatic";
    case guard_method::batched:
      return "MADV_GUARD_INSTALL, batched";
    case guard_method::single:
      return "MADV_GUARD_INSTALL, one call per stack";
    case guard_method::protect:
      return "mprotect";
  }
  return "unknown";
}

stack_pool::stack_pool(stack_limits limits, guard_method guards)
    : limits_(limits), memory_(std::make_unique<stack_memory>(guards)), owner_(getpid()) {}

stack_pool::~stack_pool() {
  if (owner_ == getpid()) return;
  for (const auto& store : classes_) {
    for (const auto& slab : store->slabs) {
      if (slab) slab->disown();
    }
  }
}

stack_class stack_pool::classify(const stack_request& request) {
  const stack_shape shape = shape_of(request);
  for (const auto& store : classes_) {
    if (store->shape == shape) return stack_class(*store);
  }
  auto store = std::make_unique<stack_store>();
  store->shape = shape;
  classes_.push_back(std::move(store));
  return stack_class(*classes_.back());
}

// The cold half of take(): the class's list of free stacks is empty.
//
// Idle stacks of other classes give way before anything is refused: they hold address space, mappings and page tables, and
// count against the pool's own limits.
stack_slot* stack_pool::make(stack_shelf& shelf) {
  auto& store = static_cast<stack_store&>(shelf);
  if (over_limit(store.shape)) {
    trim();
    if (over_limit(store.shape)) throw_own_limit(limits_, made_, store.shape.size);
  }
  stack_refusal refusal;
  stack_slot* slot = remake(store);
  if (slot == nullptr) slot = make_fresh(store, refusal);
  if (slot == nullptr) {
    trim();
    slot = make_fresh(store, refusal);
  }
  if (slot == nullptr) throw_refused(refusal);
  ++made_;
  made_bytes_ += store.shape.size;
  slot->in_use_ = true;
  return slot;
}

// The cold half of promise(): every stack there could be is spoken for.
void stack_pool::extend(stack_shelf& shelf) {
  auto& store = static_cast<stack_store&>(shelf);
  if (limits_.max_stacks != 0 && store.promised >= limits_.max_stacks) throw_own_limit(limits_, store.promised, store.shape.size);
  const std::uint32_t filling = store.filling;  // is not used up yet, perhaps
  stack_refusal refusal;
  bool added = add_slab(store, refusal);
  if (!added) {
    trim();
    added = add_slab(store, refusal);
  }
  store.filling = filling;
  if (!added) throw_refused(refusal);
}

bool stack_pool::over_limit(const stack_shape& shape) const noexcept {
  return (limits_.max_stacks != 0 && made_ >= limits_.max_stacks) ||
         (limits_.max_bytes != 0 && made_bytes_ + shape.size > limits_.max_bytes);
}

stack_slot* stack_pool::remake(stack_store& store) noexcept {
  for (std::uint32_t i = 0; i < store.slabs.size(); ++i) {
    if (store.slabs[i] && store.slabs[i]->released() > 0) return store.slabs[i]->remake(store, i);
  }
  return nullptr;
}

stack_slot* stack_pool::make_fresh(stack_store& store, stack_refusal& refusal) noexcept {
  const auto has_some = [&](const auto& slab) { return slab && !slab->used_up(); };
  if (store.filling >= store.slabs.size() || !has_some(store.slabs[store.filling])) {
    const auto found = std::find_if(store.slabs.begin(), store.slabs.end(), has_some);
    store.filling = static_cast<std::uint32_t>(found - store.slabs.begin());
    if (found == store.slabs.end() && !add_slab(store, refusal)) return nullptr;
  }
  return store.slabs[store.filling]->make(store, store.filling, *memory_, refusal);
}

// Near a limit of address space, or of mappings where guards are laid by mprotect, a smaller slab may still fit: only when a
// single stack is too much, the kernel has refused. What a slab has, a thread may be promised, so its guards are reserved at
// once.
bool stack_pool::add_slab(stack_store& store, stack_refusal& refusal) noexcept try {
  constexpr std::size_t most_reserved = 1024;  // by one slab: none of them is there for other classes any more
  const auto hole = std::find(store.slabs.begin(), store.slabs.end(), nullptr);
  store.filling = static_cast<std::uint32_t>(hole - store.slabs.begin());
  if (hole == store.slabs.end()) store.slabs.emplace_back();
  auto& slab = store.slabs[store.filling];
  const bool reserve = memory_->guards() == guard_method::protect && store.shape.guard > 0;
  std::size_t count = stack_slab::good_count(store.shape, store.memory_locked ? 0 : store.capacity);
  for (count = reserve ? std::min(count, most_reserved) : count; count > 0; count /= 2) {
    slab = stack_slab::map(store.shape, count, refusal);
    if (!slab) continue;
    if (reserve && !stack_memory::reserve_guards(count)) {
      refusal = {.error = ENOMEM, .bytes = store.shape.guard, .guards = true, .mprotect = true};
      slab.reset();
      continue;
    }
    if (reserve) slab->own_reserved_guards();
    store.capacity += count;
    store.memory_locked = slab->populated();
    return true;
  }
  return false;
} catch (const std::bad_alloc&) {
  refusal = {.error = ENOMEM, .bytes = store.shape.size};
  return false;
}

std::size_t stack_pool::trim(std::size_t keep) noexcept {
  std::size_t bytes = 0;
  for (const auto& store : classes_) {
    release_free(*store, keep);
    for (auto& slab : store->slabs) {
      if (!slab) continue;
      if (slab->idle() && store->capacity - slab->count() >= store->promised) {
        bytes += slab->resident();
        store->capacity -= slab->count();
        slab.reset();
      } else {
        slab->drop_released(*memory_);
      }
    }
  }
  return bytes + memory_->finish_drops();
}

// The list of free stacks is cut behind its first `keep`; those lose all but their topmost page.
void stack_pool::release_free(stack_store& store, std::size_t keep) noexcept {
  stack_slot** end = &store.free;
  std::size_t kept = 0;
  for (; *end != nullptr && kept < keep; ++kept, end = &(*end)->next_) {
    if (!store.shape.tiny) memory_->drop((*end)->lowest_, page_of(*end));
  }
  stack_slot* slot = std::exchange(*end, nullptr);
  made_ -= store.free_count - kept;
  made_bytes_ -= (store.free_count - kept) * store.shape.size;
  store.free_count = kept;
  while (slot != nullptr) {
    stack_slot* const next = slot->next_;
    store.slabs[slot->slab_]->release(slot);
    slot = next;
  }
}

std::size_t stack_pool::shrink(std::span<const parked_stack> parked) noexcept {
  constexpr std::size_t red_zone = 128;  // a leaf function may have used that much below its stack pointer
  for (const parked_stack& each : parked) {
    if (each.slot->shape().tiny) continue;
    memory_->drop(each.slot->lowest_, page_of(static_cast<const std::byte*>(each.stack_pointer) - red_zone));
  }
  return memory_->finish_drops();
}

std::size_t stack_pool::free_stacks() const noexcept {
  std::size_t sum = 0;
  for (const auto& store : classes_) sum += store->free_count;
  return sum;
}

stack_statistics stack_pool::statistics() const noexcept {
  stack_statistics sum{.made = made_, .guards = memory_->guards()};
  for (const auto& store : classes_) {
    sum.free += store->free_count;
    for (const auto& slab : store->slabs) {
      if (!slab) continue;
      ++sum.slabs;
      sum.mapped_bytes += slab->bytes();
      sum.released += slab->released();
      sum.protected_guards += slab->protected_guards();
    }
  }
  return sum;
}

}  // namespace weft::sched
