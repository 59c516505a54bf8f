// Backtraces: of the calling thread, of a thread that does not run, and of one that a signal stopped.
//
// Walking and `describe_frame` call no malloc and take no lock of ours, so that they serve in a signal handler too. Nobody
// promises that of libunwind and the dynamic linker underneath: crash.cpp weighs that risk.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sched/plain_text.hpp"

namespace weft::sched {

/// Where a thread's frames can lie. One that lies elsewhere is damage, or the end of what is known: the walk stops before it.
struct stack_bounds {
  std::uintptr_t low = 0;
  std::uintptr_t high = UINTPTR_MAX;
};

/// The addresses at which functions of a stack go on, innermost first.
struct call_stack {
  static constexpr std::size_t most_kept = 64;

  std::array<std::uintptr_t, most_kept> address{};
  std::size_t kept = 0;
  std::size_t total = 0;     // frames there are
  bool interrupted = false;  // the first address was not reached by a return: a signal stopped the thread there
};

/// Of a saved context (see context.hpp). Empty on architectures whose layout read_saved() does not know.
[[nodiscard]] call_stack walk_saved(const void* context, stack_bounds bounds) noexcept;

/// Of the caller, without the frames up to and including the one whose __builtin_frame_address(0) is `hidden`.
[[nodiscard]] call_stack walk_here(const void* hidden, stack_bounds bounds = {}) noexcept;

/// Of what a signal interrupted; `context` is the third argument of its handler.
[[nodiscard]] call_stack walk_interrupted(void* context, stack_bounds bounds) noexcept;

/// Of a thread that waits in the kernel, of which the kernel tells no registers but these two. `copy` is its stack from
/// `stack_pointer` on, or as much of it as was to be had, and is changed; `stack_pointer` and `bounds` are those of the original.
/// Ends where a function without frame description, or one built without optimisation, keeps its frame in another register.
[[nodiscard]] call_stack walk_copied(std::uintptr_t instruction, std::uintptr_t stack_pointer, stack_bounds bounds,
                                     std::span<std::uintptr_t> copy) noexcept;

/// The same frame by frame, innermost first, until `visit` returns false: it is given an address within the function, that of the
/// call where there was one. @returns the stack pointer of the last frame that was visited, in terms of the original.
std::uintptr_t walk_copied(std::uintptr_t instruction, std::uintptr_t stack_pointer, stack_bounds bounds,
                           std::span<std::uintptr_t> copy, const std::function<bool(std::uintptr_t)>& visit);

/// Where the function in which `address` lies begins, as its frame description says; 0 when it has none. Any kernel thread.
[[nodiscard]] std::uintptr_t beginning_of_function(std::uintptr_t address) noexcept;
/// And where it ends.
[[nodiscard]] std::uintptr_t end_of_function(std::uintptr_t address) noexcept;

/// Where the function of frame `index` begins; the frame's address when nobody knows.
[[nodiscard]] std::uintptr_t function_of(const call_stack& stack, std::size_t index) noexcept;

/// Appends "#3 0x401c2f function+0x1f (file)" for frame `index`, with the name as the linker knows it. No malloc.
void describe_frame(plain_text& line, const call_stack& stack, std::size_t index) noexcept;

/// Writes call stacks for people, with C++ names. Remembers the names: a thousand threads wait in the same few places.
class frame_namer {
 public:
  /// Drops the innermost frames as far as they are the scheduler's own: the stack of a thread that waits then begins where its
  /// program called weft, whichever way through the scheduler it took, and however much of it was inlined.
  void drop_scheduler(call_stack& stack);

  /// A line per frame, each after two spaces; the last one counts the frames left out. "" for an empty stack.
  [[nodiscard]] std::string lines(const call_stack& stack);

 private:
  const std::string& describe(const call_stack& stack, std::size_t index);

  std::unordered_map<std::uintptr_t, std::string> known_;
};

/// The C++ name that a linker's name, or a type's, stands for; the same text when it is none.
[[nodiscard]] std::string demangle(const char* name);

}  // namespace weft::sched
