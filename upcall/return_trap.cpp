#include "upcall/return_trap.hpp"

#include <linux/hw_breakpoint.h>
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

}  // namespace

int return_trap::open(trap_receiver& to) noexcept {
  const int fd = open_trap(breakpoint_at(reinterpret_cast<std::uintptr_t>(&breakpoint_at)), to);
  if (fd < 0) return -fd;
  to_ = &to;
  breakpoint_ = fd;
  faults_ = {open_trap(fault_event(PERF_COUNT_SW_PAGE_FAULTS_MAJ), to),
             open_trap(fault_event(PERF_COUNT_SW_PAGE_FAULTS_MIN), to)};
  return 0;
}

void return_trap::close() noexcept {
  for (int* const fd : {&breakpoint_, &faults_.front(), &faults_.back()}) {
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  }
}

// The kernel compares all that a trap has in common with the event, so all of it is said again.
bool return_trap::arm(const whereabouts& at) noexcept {
  if (at.call >= 0) {
    const perf_event_attr wanted = complete_trap(breakpoint_at(at.instruction), *to_, false);
    return ::ioctl(breakpoint_, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &wanted) == 0;
  }
  if (!stops_faults()) return false;
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
