#include "upcall/return_trap.hpp"

#include <linux/hw_breakpoint.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <utility>

namespace weft::upcall::engine {

namespace {

perf_event_attr breakpoint_at(std::uintptr_t instruction) noexcept {
  perf_event_attr wanted{};
  wanted.type = PERF_TYPE_BREAKPOINT;
  wanted.bp_type = HW_BREAKPOINT_X;
  wanted.bp_addr = instruction;
  wanted.bp_len = sizeof(long);
  wanted.sample_period = 1;
  wanted.exclude_kernel = 1;
  return wanted;
}

perf_event_attr fault_event(std::uint64_t kind) noexcept {
  perf_event_attr wanted{};
  wanted.type = PERF_TYPE_SOFTWARE;
  wanted.config = kind;
  wanted.sample_period = 1;
  wanted.exclude_kernel = 1;
  return wanted;
}

// @returns what it was before.
bool block_sigtrap(bool on) noexcept {
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  sigaddset(&one, SIGTRAP);
  return pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &one, &before) == 0 && sigismember(&before, SIGTRAP) == 1;
}

// An instruction that repeats itself was begun, and goes on without minding breakpoints: then the one behind it.
std::uintptr_t first_to_mind(std::uintptr_t instruction) noexcept {
  std::array<unsigned char, 4> code{};
  if (!peek(reinterpret_cast<const std::array<unsigned char, 4>*>(instruction), code)) return instruction;
  std::size_t at = code[0] == 0x66 ? 1 : 0;                      // of 16-bit words
  if (code[at] != 0xf2 && code[at] != 0xf3) return instruction;  // rep
  ++at;
  if ((code[at] & 0xf0) == 0x40) ++at;  // of 64-bit words
  const bool moves = code[at] >= 0xa4 && code[at] <= 0xaf && code[at] != 0xa8 && code[at] != 0xa9;
  return moves ? instruction + at + 1 : instruction;
}

}  // namespace

int return_trap::open(trap_receiver& to) noexcept {
  const int fd = open_trap(breakpoint_at(reinterpret_cast<std::uintptr_t>(&breakpoint_at)), to);
  if (fd < 0) return -fd;
  to_ = &to;
  breakpoint_ = fd;
  was_blocked_ = block_sigtrap(false);  // it would come when it is too late
  faults_ = {open_trap(fault_event(PERF_COUNT_SW_PAGE_FAULTS_MAJ), to),
             open_trap(fault_event(PERF_COUNT_SW_PAGE_FAULTS_MIN), to)};
  return 0;
}

void return_trap::close() noexcept {
  if (is_open() && std::exchange(was_blocked_, false)) block_sigtrap(true);
  for (int* const fd : {&breakpoint_, &faults_.front(), &faults_.back()}) {
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  }
}

// The kernel compares all that a trap has in common with the event, so all of it is said again.
bool return_trap::arm(const whereabouts& at) noexcept {
  const bool calls = at.call >= 0;
  if (!calls && !stops_faults()) return false;
  stack_pointer_.store(at.stack_pointer, std::memory_order_release);  // seen by a trap that is met after
  const std::uintptr_t stop = calls ? at.instruction : first_to_mind(at.instruction);
  const perf_event_attr wanted = complete_trap(breakpoint_at(stop), *to_, false);
  if (::ioctl(breakpoint_, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &wanted) != 0) return false;
  if (calls) return true;
  for (const int fd : faults_) {
    if (::ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) != 0) return false;
  }
  return true;
}

void return_trap::disarm() noexcept {
  control_event(breakpoint_, PERF_EVENT_IOC_DISABLE, nullptr);
  if (!stops_faults()) return;
  for (const int fd : faults_) control_event(fd, PERF_EVENT_IOC_DISABLE, nullptr);
}

}  // namespace weft::upcall::engine
