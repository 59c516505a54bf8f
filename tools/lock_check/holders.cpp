#include "holders.hpp"

#include <unwind.h>

#include <cstdint>

// Weak: a program without weft, or one that hides its symbols, has none, and nothing is checked.
#pragma weak weft_this_thread_for_tools

namespace weft::lock_check {

namespace {

constexpr std::size_t places = 4096;
constexpr std::size_t stretch = 16;
holding table[places];

std::size_t first_place(const void* lock) noexcept {
  constexpr std::uint64_t scatter = 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>((reinterpret_cast<std::uintptr_t>(lock) * scatter) >> 52);
}

}  // namespace

bool sighting::take() noexcept { return &weft_this_thread_for_tools != nullptr && weft_this_thread_for_tools(&thread) != 0; }

// By the unwinder that every C++ program has: it neither allocates nor locks.
void sighting::take_stack() noexcept {
  frames = 0;
  const auto visit = [](_Unwind_Context* frame, void* data) {
    auto& into = *static_cast<sighting*>(data);
    const auto address = reinterpret_cast<const void*>(_Unwind_GetIP(frame));
    if (address == nullptr || into.frames == into.stack.size()) return _URC_END_OF_STACK;
    into.stack[into.frames++] = address;
    return _URC_NO_REASON;
  };
  static_cast<void>(_Unwind_Backtrace(visit, this));
}

holding* find(const void* lock) noexcept {
  for (std::size_t i = 0; i < stretch; ++i) {
    holding& here = table[(first_place(lock) + i) % places];
    if (here.lock.load(std::memory_order_acquire) == lock) return &here;
  }
  return nullptr;
}

holding* add(const void* lock, const sighting& by, unsigned depth) noexcept {
  for (std::size_t i = 0; i < stretch; ++i) {
    holding& here = table[(first_place(lock) + i) % places];
    const void* vacant = nullptr;
    if (!here.lock.compare_exchange_strong(vacant, lock, std::memory_order_acq_rel)) continue;
    here.by = by;
    here.depth = depth;
    here.identity.store(::pthread_self(), std::memory_order_relaxed);
    return &here;
  }
  return nullptr;
}

// release: who claims the place next, or finds it empty, comes after all that its holder wrote.
void remove(holding& held) noexcept { held.lock.store(nullptr, std::memory_order_release); }

}  // namespace weft::lock_check
