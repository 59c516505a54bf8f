#include "sched/stack_error.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <system_error>

#include "sched/stack_memory.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t unknown = static_cast<std::size_t>(-1);
constexpr std::size_t kib = 1024;

// Feeds the file's text to `take` in pieces. No stdio: malloc may be what has just run out.
template <class Take> void read_file(const char* path, Take take) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  std::array<char, 4096> text;
  ssize_t size = 0;
  while ((size = read(file, text.data(), text.size())) > 0) {
    take(std::string_view(text.data(), static_cast<std::size_t>(size)));
  }
  close(file);
}

// The n-th number in a small file of numbers between spaces.
std::size_t number_in(const char* path, int n) {
  std::size_t value = unknown;
  read_file(path, [&](std::string_view text) {
    for (; n > 0 && !text.empty(); --n) text.remove_prefix(std::min(text.size(), text.find(' ') + 1));
    std::from_chars(text.data(), text.data() + text.size(), value);
  });
  return value;
}

std::size_t mappings_in_use() {
  std::size_t lines = 0;
  read_file("/proc/self/maps",
            [&](std::string_view text) { lines += static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')); });
  return lines;
}

std::string in_units(std::size_t bytes) {
  const bool large = bytes >= 1024 * kib * 10;
  return std::to_string(large ? bytes / (1024 * kib) : (bytes + kib - 1) / kib) + (large ? " MiB" : " KiB");
}

std::size_t soft_limit(decltype(RLIMIT_AS) which) {
  rlimit limit{};
  return getrlimit(which, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? static_cast<std::size_t>(limit.rlim_cur) : unknown;
}

// True if `bytes` more would exceed the limit. `column` is where /proc/self/statm counts, in pages, what the limit limits.
bool exceeds(decltype(RLIMIT_AS) which, int column, std::size_t bytes) {
  const std::size_t limit = soft_limit(which);
  const std::size_t used = limit == unknown ? unknown : number_in("/proc/self/statm", column);
  return used != unknown && (used * page_size() >= limit || limit - used * page_size() < bytes);
}

std::string too_many_mappings(const stack_refusal& refusal) {
  const std::string most = std::to_string(max_map_count());
  if (!refusal.mprotect) {
    return "the process has used up its " + most + " mappings (vm.max_map_count): raise it with sysctl -w vm.max_map_count=N";
  }
  return "the guards of stacks are laid with mprotect here (a kernel before Linux 6.13, or locked memory), which takes two "
         "kernel mappings per stack, and vm.max_map_count allows the process " +
         most + ": raise it with sysctl -w vm.max_map_count=N, or let fewer threads live at once";
}

// The kernel says ENOMEM to all of these alike; whichever limit is reached is the one to name.
std::string which_limit(const stack_refusal& refusal) {
  using namespace std::string_literals;
  const std::string size = in_units(refusal.bytes);
  if (refusal.error == EAGAIN) {
    return "memory is locked (mlockall) and " + size + " more would pass the limit RLIMIT_MEMLOCK of " +
           in_units(soft_limit(RLIMIT_MEMLOCK)) + ": raise it (ulimit -l) or do not lock future memory";
  }
  if (refusal.mprotect) return too_many_mappings(refusal);
  if (exceeds(RLIMIT_AS, 0, refusal.bytes)) {
    return size + " more would pass the address space limit RLIMIT_AS of " + in_units(soft_limit(RLIMIT_AS)) +
           ": raise it (ulimit -v), or ask for smaller stacks or fewer threads";
  }
  if (exceeds(RLIMIT_DATA, 5, refusal.bytes)) {
    return size + " more would pass the data limit RLIMIT_DATA of " + in_units(soft_limit(RLIMIT_DATA)) +
           ": raise it (ulimit -d), or ask for smaller stacks or fewer threads";
  }
  if (mappings_in_use() + 2 >= max_map_count()) return too_many_mappings(refusal);
  if (number_in("/proc/sys/vm/overcommit_memory", 0) == 2) {
    return "the kernel refuses to commit " + size +
           " more (vm.overcommit_memory is 2, which counts address space as memory):"
           " set it to 0 or 1, or ask for smaller stacks or fewer threads";
  }
  return "the kernel has no memory for "s + (refusal.guards ? "page tables" : size + " more") +
         ": the machine's memory or the limit of this cgroup (memory.max) is used up";
}

[[noreturn]] void throw_unavailable(const std::string& why) {
  throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                          "weft: no stack for another thread: " + why);
}

}  // namespace

std::size_t max_map_count() noexcept {
  constexpr std::size_t kernel_default = 65530;
  const std::size_t most = number_in("/proc/sys/vm/max_map_count", 0);
  return most == unknown ? kernel_default : most;
}

void throw_refused(const stack_refusal& refusal) {
  if (refusal.error == ENOMEM || refusal.error == EAGAIN) throw_unavailable(which_limit(refusal));
  throw_unavailable((refusal.guards ? "guarding " : "mapping ") + in_units(refusal.bytes) + " failed with " +
                    std::strerror(refusal.error));
}

void throw_own_limit(const stack_limits& limits, std::size_t in_use, std::size_t size) {
  if (limits.max_stacks != 0 && in_use >= limits.max_stacks) {
    throw_unavailable("all " + std::to_string(limits.max_stacks) +
                      " that this scheduler may have are in use (stack_limits::max_stacks): raise it, or let threads end first");
  }
  throw_unavailable(in_units(size) + " more would pass the " + in_units(limits.max_bytes) +
                    " of addresses that this scheduler's stacks may take (stack_limits::max_bytes; " + std::to_string(in_use) +
                    " in use): raise it, ask for smaller stacks, or let threads end first");
}

void throw_bad_request(const stack_request& request, const char* why) {
  throw std::system_error(std::make_error_code(std::errc::invalid_argument), "weft: no stack of " + std::to_string(request.size) +
                                                                                 " bytes with a guard of " +
                                                                                 std::to_string(request.guard) + ": " + why);
}

}  // namespace weft::sched
