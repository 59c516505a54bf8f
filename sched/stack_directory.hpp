// Every slab of the process, for those who have nothing but an address: the reporter of stack overflows, and fork.
#pragma once

#include <cstddef>

#include "sched/stack.hpp"

namespace weft::sched {

/// Where the slot of the stack with this index lies in a slab.
[[nodiscard]] inline stack_slot* slot_address(const stack_shape& shape, std::byte* slab, std::size_t index) noexcept {
  std::byte* const top = slab + (index + 1) * shape.size;
  return reinterpret_cast<stack_slot*>(top - shape.stagger(index) - sizeof(stack_slot));
}

struct slab_entry;

/// Lists a slab, none of its stacks made yet. Callable from any kernel thread.
/// @throws std::bad_alloc
[[nodiscard]] slab_entry* list_slab(std::byte* base, const stack_shape& shape);
/// Tells how many of the slab's stacks, from its base, have been made.
void list_made(slab_entry& entry, std::size_t made) noexcept;
/// Takes the slab off the list, before it is unmapped.
void unlist_slab(slab_entry& entry) noexcept;

}  // namespace weft::sched
