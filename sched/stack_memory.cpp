#include "sched/stack_memory.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <span>
#include <utility>

#include "sched/stack_error.hpp"

namespace weft::sched {
namespace {

// Newer than the C library's headers. The second is a process descriptor that always means the caller's own process.
constexpr int madv_guard_install = 102;
constexpr int pidfd_self_thread_group = -10001;

constexpr std::size_t most_ranges = 1024;  // process_madvise refuses more

// An mprotect guard splits its slab: one mapping for itself and one for the stack above it.
constexpr std::size_t mappings_per_guard = 2;
// Left to the rest of the program when mprotect guards eat up the process's mappings: a program whose malloc and dlopen fail
// is worse off than one whose spawn does.
constexpr std::size_t mappings_kept_free = 2048;
std::atomic<std::size_t> protected_guards{0};  // of all pools, those to come included: vm.max_map_count counts the whole process

// Guards that mprotect may still lay.
std::size_t affordable_guards(std::size_t taken) noexcept {
  const std::size_t most = max_map_count();
  const std::size_t used = taken * mappings_per_guard + mappings_kept_free;
  return most > used ? (most - used) / mappings_per_guard : 0;
}

long process_madvise(const iovec* ranges, std::size_t count, int advice) noexcept {
  return syscall(SYS_process_madvise, pidfd_self_thread_group, ranges, count, advice, 0);
}

// Tries both ways on a page of its own; unlocked, because locked memory refuses guards however new the kernel is.
guard_method ask_for_best_guards() noexcept {
  void* const page = mmap(nullptr, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return guard_method::protect;
  munlock(page, page_size());
  const iovec range{page, page_size()};
  const bool batched = process_madvise(&range, 1, madv_guard_install) > 0;
  const bool single = batched || madvise(page, page_size(), madv_guard_install) == 0;
  munmap(page, page_size());
  return batched ? guard_method::batched : single ? guard_method::single : guard_method::protect;
}

// Lays guards from number `result.laid` on with mprotect; those not reserved only as far as the process has mappings for them.
void protect(std::byte* first, std::size_t stride, std::size_t guard, std::size_t count, bool reserved,
             guards_laid& result) noexcept {
  const std::size_t affordable = reserved ? count : affordable_guards(protected_guards.load(std::memory_order_relaxed));
  const std::size_t end = std::min(count, result.laid + affordable);
  result.tried_mprotect = true;
  result.error = end < count ? ENOMEM : 0;
  for (; result.laid < end; ++result.laid, ++result.by_mprotect) {
    if (mprotect(first + result.laid * stride, guard, PROT_NONE) != 0) {
      result.error = errno;
      break;
    }
  }
  if (!reserved) protected_guards.fetch_add(result.by_mprotect, std::memory_order_relaxed);
}

}  // namespace

std::size_t page_size() noexcept {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t resident_bytes(const std::byte* first, std::size_t size) noexcept {
  std::array<unsigned char, 1024> in_memory;
  const std::size_t step = in_memory.size() * page_size();
  std::size_t resident = 0;
  for (std::size_t done = 0; done < size; done += step) {
    const std::size_t part = std::min(step, size - done);
    if (mincore(const_cast<std::byte*>(first + done), part, in_memory.data()) != 0) continue;
    for (const unsigned char page : std::span(in_memory).first(part / page_size())) resident += page & 1u;
  }
  return resident * page_size();
}

stack_memory::stack_memory(guard_method wanted) : ranges_(new iovec[most_ranges]) {
  static const guard_method best = ask_for_best_guards();  // once per process: valgrind complains about each question
  guards_ = std::max(wanted, best);
}

// A refusal does not change the method in force: locked memory refuses guards with EINVAL while it is locked, so mprotect
// covers this batch only. After ENOMEM it is not tried, for it would want memory too.
guards_laid stack_memory::lay_guards(std::byte* first, std::size_t stride, std::size_t guard, std::size_t count,
                                     bool reserved) noexcept {
  assert(count_ == 0 && "drops are finished before guards are laid: both use the list of ranges");
  if (guard == 0) return {.laid = count};
  guards_laid result;
  while (guards_ != guard_method::protect && result.laid < count && result.error == 0) {
    count_ = std::min(most_ranges, count - result.laid);
    for (std::size_t i = 0; i < count_; ++i) ranges_[i] = {first + (result.laid + i) * stride, guard};
    result.laid += advise_all(madv_guard_install, result.error);
  }
  if (result.laid < count && result.error != ENOMEM) protect(first, stride, guard, count, reserved, result);
  return result;
}

bool stack_memory::reserve_guards(std::size_t count) noexcept {
  std::size_t taken = protected_guards.load(std::memory_order_relaxed);
  do {
    if (count > affordable_guards(taken)) return false;
  } while (!protected_guards.compare_exchange_weak(taken, taken + count, std::memory_order_relaxed));
  return true;
}

void stack_memory::forget_protected(std::size_t count) noexcept { protected_guards.fetch_sub(count, std::memory_order_relaxed); }

void stack_memory::drop(std::byte* first, std::byte* last) noexcept {
  if (first >= last) return;
  const auto size = static_cast<std::size_t>(last - first);
  dropped_ += resident_bytes(first, size);
  ranges_[count_++] = {first, size};
  if (count_ == most_ranges) flush_drops();
}

std::size_t stack_memory::finish_drops() noexcept {
  flush_drops();
  return std::exchange(dropped_, 0);
}

// Locked memory refuses (EINVAL): what is still there after all is taken off the sum again.
void stack_memory::flush_drops() noexcept {
  int error = 0;
  const std::size_t ranges = count_;
  const std::size_t done = advise_all(MADV_DONTNEED, error);
  for (std::size_t i = done; i < ranges; ++i) {
    const iovec& range = ranges_[i];
    if (madvise(range.iov_base, range.iov_len, MADV_DONTNEED) == 0) continue;
    dropped_ -= resident_bytes(static_cast<const std::byte*>(range.iov_base), range.iov_len);
  }
}

// Empties the list. Returns how many ranges, from the first, took the advice; `error` says why not the next one.
std::size_t stack_memory::advise_all(int advice, int& error) noexcept {
  const std::size_t count = std::exchange(count_, 0);
  std::size_t done = 0;
  while (done < count) {
    const iovec& range = ranges_[done];
    if (guards_ != guard_method::batched) {
      if (madvise(range.iov_base, range.iov_len, advice) != 0) return error = errno, done;
      ++done;
      continue;
    }
    long bytes = process_madvise(&range, count - done, advice);
    if (bytes < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (bytes <= 0) return error = bytes < 0 ? errno : EINVAL, done;
    // It stops at the first range that fails and returns the bytes before it; asking again from there yields the reason.
    for (; done < count && bytes >= static_cast<long>(ranges_[done].iov_len); ++done) {
      bytes -= static_cast<long>(ranges_[done].iov_len);
    }
  }
  return done;
}

}  // namespace weft::sched
