#include "upcall/perf_trap.hpp"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>

#include "weft/detail/abi.hpp"

namespace weft::upcall {

namespace {

// Newer than the C library's headers.
constexpr int trap_perf = 6;                    // si_code TRAP_PERF
constexpr std::size_t place_of_perf_data = 24;  // of si_perf_data in siginfo_t, on 64-bit machines

constinit std::mutex lock;  // of the disposition

// Somebody else's trap: what it would have done without us.
void end_by_trap() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(SIGTRAP, &standard, nullptr);
  ::raise(SIGTRAP);  // delivered when the handler returns
}

void on_sigtrap(int, siginfo_t* info, void* context) {
  if (info->si_code != trap_perf) return end_by_trap();
  std::uintptr_t data = 0;
  std::memcpy(&data, reinterpret_cast<const std::byte*>(info) + place_of_perf_data, sizeof data);
  auto* const to = reinterpret_cast<trap_receiver*>(data);
  to->then(*to, context);
}

}  // namespace

bool sigtrap_is_free() noexcept {
  struct sigaction now {};
  if (::sigaction(SIGTRAP, nullptr, &now) != 0) return false;
  if ((now.sa_flags & SA_SIGINFO) != 0) return now.sa_sigaction == on_sigtrap;
  return now.sa_handler == SIG_DFL;
}

bool take_sigtrap() noexcept {
  const std::lock_guard guard(lock);
  if (!sigtrap_is_free()) return false;
  struct sigaction ours {};
  ours.sa_sigaction = on_sigtrap;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigfillset(&ours.sa_mask);
  return ::sigaction(SIGTRAP, &ours, nullptr) == 0;
}

perf_event_attr complete_trap(perf_event_attr wanted, trap_receiver& to, bool disabled) noexcept {
  wanted.size = sizeof wanted;
  wanted.sigtrap = 1;
  wanted.remove_on_exec = 1;
  wanted.exclude_hv = 1;
  wanted.disabled = disabled ? 1 : 0;
  wanted.sig_data = reinterpret_cast<std::uintptr_t>(&to);
  return wanted;
}

int open_trap(perf_event_attr wanted, trap_receiver& to) noexcept {
  wanted = complete_trap(wanted, to, true);
  const long fd = ::syscall(SYS_perf_event_open, &wanted, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

void control_event(int fd, unsigned long request, const void* argument) noexcept {
  static_cast<void>(detail::call_kernel(SYS_ioctl, fd, static_cast<long>(request), reinterpret_cast<long>(argument)));
}

}  // namespace weft::upcall
