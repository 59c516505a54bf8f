// The list only grows and is read without locks: find() runs in a signal handler, perhaps one that interrupted list_slab() on
// the same kernel thread, so it may neither wait nor believe half an entry. It skips an entry that is being written; nothing
// is lost, for nobody runs on a slab that is not listed yet or no longer.
#include "sched/stack_directory.hpp"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <mutex>
#include <new>

#include "sched/stack_memory.hpp"

namespace weft::sched {

// The version is odd while the entry is unused or being written. Who writes a field releases it, so that it cannot be seen
// before the odd version; who reads one acquires it, so that the version cannot be read again before the field.
struct slab_entry {
  std::atomic<std::uint32_t> version{1};
  std::atomic<std::byte*> base{nullptr};
  std::atomic<std::size_t> made{0};
  std::atomic<std::size_t> size{0};
  std::atomic<std::size_t> guard{0};
  std::atomic<bool> tiny{false};
  slab_entry* next = nullptr;  // written once, before the entry can be reached
};

namespace {

std::atomic<slab_entry*> entries{nullptr};
std::mutex writers;

slab_entry& unused_entry() {
  for (slab_entry* entry = entries.load(std::memory_order_relaxed); entry != nullptr; entry = entry->next) {
    if (entry->version.load(std::memory_order_relaxed) % 2 != 0) return *entry;
  }
  auto* const entry = new slab_entry;  // never freed: a handler may be reading the list at any time
  entry->next = entries.load(std::memory_order_relaxed);
  entries.store(entry, std::memory_order_release);  // pairs with the acquire in find(): `next` is written
  return *entry;
}

std::optional<stack_location> look_in(const slab_entry& entry, std::byte* address) noexcept {
  const std::uint32_t version = entry.version.load(std::memory_order_acquire);
  if (version % 2 != 0) return std::nullopt;
  std::byte* const base = entry.base.load(std::memory_order_acquire);
  const std::size_t made = entry.made.load(std::memory_order_acquire);
  const stack_shape shape{.size = entry.size.load(std::memory_order_acquire),
                          .guard = entry.guard.load(std::memory_order_acquire),
                          .tiny = entry.tiny.load(std::memory_order_acquire)};
  if (entry.version.load(std::memory_order_relaxed) != version) return std::nullopt;
  if (address < base || address >= base + made * shape.size) return std::nullopt;

  const std::size_t index = static_cast<std::size_t>(address - base) / shape.size;
  std::byte* const bottom = base + index * shape.size;
  return stack_location{.slot = slot_address(shape, base, index),
                        .bottom = bottom,
                        .lowest = bottom + shape.guard,
                        .top = bottom + shape.size,
                        .index = index,
                        .in_guard = address < bottom + shape.guard};
}

// Slabs are not inherited by children: a fork would copy the page tables of a million stacks. But a thread that calls fork()
// goes on in the child on its own stack, so that one is inherited.
void advise_own_stack(int advice) noexcept {
  const auto own = stack_pool::find(__builtin_frame_address(0));
  if (!own) return;
  // Whole pages: a tiny stack shares its page with a neighbour, which is inherited too then.
  const std::size_t before = reinterpret_cast<std::uintptr_t>(own->bottom) % page_size();
  madvise(own->bottom - before, before + static_cast<std::size_t>(own->top - own->bottom), advice);
}

void watch_forks() {
  static const int error = pthread_atfork([] { advise_own_stack(MADV_DOFORK); },  // in the parent, before
                                          [] { advise_own_stack(MADV_DONTFORK); }, nullptr);
  if (error != 0) throw std::bad_alloc();
}

}  // namespace

slab_entry* list_slab(std::byte* base, const stack_shape& shape) {
  watch_forks();
  const std::lock_guard lock(writers);
  slab_entry& entry = unused_entry();
  entry.base.store(base, std::memory_order_release);
  entry.made.store(0, std::memory_order_release);
  entry.size.store(shape.size, std::memory_order_release);
  entry.guard.store(shape.guard, std::memory_order_release);
  entry.tiny.store(shape.tiny, std::memory_order_release);
  entry.version.fetch_add(1, std::memory_order_release);
  return &entry;
}

void list_made(slab_entry& entry, std::size_t made) noexcept { entry.made.store(made, std::memory_order_release); }

void unlist_slab(slab_entry& entry) noexcept {
  const std::lock_guard lock(writers);
  entry.version.fetch_add(1, std::memory_order_release);
}

std::optional<stack_location> stack_pool::find(const void* address) noexcept {
  auto* const at = static_cast<std::byte*>(const_cast<void*>(address));
  for (slab_entry* entry = entries.load(std::memory_order_acquire); entry != nullptr; entry = entry->next) {
    if (auto found = look_in(*entry, at)) return found;
  }
  return std::nullopt;
}

}  // namespace weft::sched
