// Where a thread may be left waiting in its own code, while other threads run under the same identity.
//
// Not where it holds what the C library keeps for "this kernel thread": another thread would be taken for the one that holds it.
// So it is decided by the call in which it waits, from outside and while it waits:
//   - every frame of its stack that lies in the C library belongs to a call, made from elsewhere, of a function on a list
//     (own_code.cpp): system calls, POSIX waits, and what copies or compares memory. None of them holds a lock or changes the
//     library's data while it waits. malloc, stdio, exit, fork, getaddrinfo, qsort's callbacks and all others are not on it;
//     (Of the library that malloc comes from, where that is another one, the same is asked.)
//   - no frame lies in the dynamic linker, or is a signal handler's: what it returns to restores the kernel thread's own mask and
//     alternate stack;
//   - the walk came to the beginning of the thread. Where it could not (functions without description, or built without
//     optimisation), no word on the rest of the stack looks like a return into the linker or into another function of the
//     library;
//   - there is room on its stack to be stopped.
// Where one of these fails the thread keeps the processor, and others wait: late, never wrong.
//
// Other libraries' locks are not seen: docs/all-code.md says what follows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "sched/thread_record.hpp"
#include "sched/unwind.hpp"
#include "weft/detail/preemption.hpp"

namespace weft::sched {

/// Any kernel thread may ask, one at a time.
class own_code {
 public:
  /// `first` is where every thread's stack begins.
  explicit own_code(std::uintptr_t first);
  own_code(const own_code&) = delete;
  own_code& operator=(const own_code&) = delete;

  /// Whether `t`, which waits at `at` and may go on at any moment, can be left there. The answer holds only if it still waited
  /// there afterwards. ≈ 10 µs for a stack of five frames whose functions were seen before.
  [[nodiscard]] bool is_safe(const thread_record* t, const upcall::whereabouts& at);

 private:
  enum class kind : std::uint8_t { elsewhere, listed, library, linker, handler, first };
  struct range {
    std::uintptr_t low = 0;
    std::uintptr_t high = 0;
    [[nodiscard]] bool contains(std::uintptr_t a) const noexcept { return a >= low && a < high; }
  };
  struct walker;
  struct copied {
    std::span<std::uintptr_t> words;
    stack_bounds bounds;
    std::uintptr_t runs = 0;  // the function that the thread was made with: its caller is `first`
  };

  void find_text();
  void find_functions();
  void list(std::uintptr_t function, int depth);
  [[nodiscard]] kind kind_of(std::uintptr_t address);
  [[nodiscard]] kind look_up(std::uintptr_t address) const;
  [[nodiscard]] copied copy_of(const thread_record* t, std::uintptr_t from);
  [[nodiscard]] bool begins(std::uintptr_t address, std::uintptr_t function);
  [[nodiscard]] bool is_clean(std::span<const std::uintptr_t> words);

  std::mutex lock_;
  std::uintptr_t first_;
  std::uintptr_t end_of_handlers_;
  std::uintptr_t malloc_ = 0;  // where its library begins
  std::array<range, 4> library_{};
  std::array<range, 2> linker_{};
  std::unordered_set<std::uintptr_t> listed_;       // where functions on the list begin
  std::unordered_map<std::uintptr_t, kind> known_;  // addresses that were looked up
  std::unordered_map<std::uintptr_t, std::uintptr_t> beginnings_;
  std::vector<std::uintptr_t> copy_;
};

}  // namespace weft::sched
