#include "upcall/return_trap.hpp"

#include <linux/hw_breakpoint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <utility>

namespace weft::upcall::engine {

namespace {

perf_event_attr breakpoint_at(std::uintptr_t instruction) noexcept {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = PERF_TYPE_BREAKPOINT;
  wanted.bp_type = HW_BREAKPOINT_X;
  wanted.bp_addr = instruction;
  wanted.bp_len = sizeof(long);
  wanted.sample_period = 1;
  wanted.exclude_kernel = 1;
  return wanted;
}

}  // namespace

int return_trap::open(trap_receiver& to) noexcept {
  const int fd = open_trap(breakpoint_at(reinterpret_cast<std::uintptr_t>(&breakpoint_at)), to);
  if (fd < 0) return -fd;
  to_ = &to;
  fd_ = fd;
  return 0;
}

void return_trap::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

// The kernel compares all that a trap has in common with the event, so all of it is said again.
bool return_trap::arm(std::uintptr_t instruction) noexcept {
  const perf_event_attr wanted = complete_trap(breakpoint_at(instruction), *to_, false);
  return ::ioctl(fd_, PERF_EVENT_IOC_MODIFY_ATTRIBUTES, &wanted) == 0;
}

void return_trap::disarm() noexcept { control_event(fd_, PERF_EVENT_IOC_DISABLE, nullptr); }

}  // namespace weft::upcall::engine
