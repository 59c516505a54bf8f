// Why the kernel gave no stack, as a sentence that names the limit and what to do about it.
#pragma once

#include <cstddef>

#include "sched/stack.hpp"

namespace weft::sched {

/// vm.max_map_count: mappings a process may have.
[[nodiscard]] std::size_t max_map_count() noexcept;

/// What the kernel refused while a stack was made.
struct stack_refusal {
  int error = 0;          // errno
  std::size_t bytes = 0;  // the smallest request that would have done
  bool guards = false;    // not the slab's mapping but the guards in it
  bool mprotect = false;  // guards had to be laid by mprotect
};

/// Both throw std::system_error(resource_unavailable_try_again), the code of a std::thread that cannot start.
[[noreturn]] void throw_refused(const stack_refusal& refusal);
[[noreturn]] void throw_own_limit(const stack_limits& limits, std::size_t in_use, std::size_t size);
/// Throws std::system_error(invalid_argument).
[[noreturn]] void throw_bad_request(const stack_request& request, const char* why);

}  // namespace weft::sched
