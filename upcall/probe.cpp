// What this kernel and this container allow. Everything is tried rather than deduced from version numbers: backports,
// seccomp filters and sysctls decide, not releases. Whatever a trial makes is given back before it returns.
#include <linux/io_uring.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <future>
#include <optional>
#include <system_error>
#include <utility>

#include "upcall/return_trap.hpp"
#include "upcall/ring.hpp"
#include "upcall/switch_monitor.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/detail/preemption.hpp"
#include "weft/runtime.hpp"

namespace weft {
namespace {

using item = capabilities::item;

// Newer than the C library's headers. The second is a process descriptor that always means the caller's own process.
constexpr int madv_guard_install = 102;
constexpr int pidfd_self_thread_group = -10001;

class descriptor {
 public:
  explicit descriptor(long result) noexcept : fd_(static_cast<int>(result)), error_(result < 0 ? errno : 0) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int error() const noexcept { return error_; }

 private:
  int fd_;
  int error_;
};

class mapping {
 public:
  mapping(std::size_t bytes, int protection, int flags, int fd) noexcept
      : address_(mmap(nullptr, bytes, protection, flags, fd, 0)), bytes_(bytes) {}
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  ~mapping() {
    if (valid()) munmap(address_, bytes_);
  }
  [[nodiscard]] void* get() const noexcept { return address_; }
  [[nodiscard]] bool valid() const noexcept { return address_ != MAP_FAILED; }

 private:
  void* address_;
  std::size_t bytes_;
};

std::size_t page_size() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

std::string error_text(int error) { return std::generic_category().message(error); }

std::optional<long> number_in(const char* file) {
  std::ifstream in(file);
  long value = 0;
  return in >> value ? std::optional(value) : std::nullopt;
}

// The number behind "KEY:" in the calling kernel thread's status. Filters belong to kernel threads, not to processes.
long thread_status(const std::string& key) {
  std::ifstream in("/proc/thread-self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key + ":")) return std::strtol(line.c_str() + key.size() + 1, nullptr, 10);
  }
  return 0;
}

bool seccomp_active() { return thread_status("Seccomp") != 0; }

item kernel() {
  utsname name{};
  uname(&name);
  return {"kernel", true, std::string(name.sysname) + " " + name.release + " on " + name.machine};
}

// ---- io_uring ----

descriptor try_ring(unsigned flags) {
  io_uring_params parameters{};
  parameters.flags = flags;
  return descriptor(syscall(SYS_io_uring_setup, 4U, &parameters));
}

std::string why_no_ring(int error) {
  const auto disabled = number_in("/proc/sys/kernel/io_uring_disabled");
  if (error == EPERM && disabled == 2) return "sysctl kernel.io_uring_disabled is 2: set it to 0 to allow it";
  if (error == EPERM && disabled == 1 && !seccomp_active()) {
    return "sysctl kernel.io_uring_disabled is 1: set it to 0, or join the group named by kernel.io_uring_group";
  }
  if (error == ENOSYS && !seccomp_active()) return "this kernel has none; it needs Linux 5.1 with CONFIG_IO_URING";
  if (error == ENOMEM) return "memory for it is refused: raise the limit of locked memory (ulimit -l)";
  if (error == EMFILE || error == ENFILE) return "no descriptor is left: raise the limit of open files (ulimit -n)";
  if (seccomp_active()) {
    return "a seccomp filter refuses it (" + error_text(error) +
           "), as containers' default profiles do: allow io_uring_setup, io_uring_enter and io_uring_register";
  }
  return "refused: " + error_text(error);
}

item ring() {
  const descriptor made = try_ring(0);
  if (made.valid()) return {"io_uring", true, "many transfers and file operations go to the kernel in one call"};
  return {"io_uring", false, why_no_ring(made.error()) + "; plain calls and worker kernel threads are used instead"};
}

item deferred_ring(bool ring_there) {
  const std::string what = "io_uring DEFER_TASKRUN";
  if (!ring_there) return {what, false, "there is no io_uring"};
  if (try_ring(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN).valid()) {
    return {what, true, "completions are collected when the scheduler asks, never in between"};
  }
  return {what, false, "it needs Linux 6.1; plain calls and worker kernel threads are used instead"};
}

// ---- waiting ----

item precise_wait() {
  const descriptor set(epoll_create1(EPOLL_CLOEXEC));
  if (!set.valid()) return {"epoll_pwait2", false, "epoll itself is refused: " + error_text(set.error())};
  epoll_event none{};
  const timespec at_once{};
  if (syscall(SYS_epoll_pwait2, set.get(), &none, 1, &at_once, nullptr, 0) == 0) {
    return {"epoll_pwait2", true, "idle waits end with a precision of nanoseconds"};
  }
  const int error = errno;
  return {"epoll_pwait2", false, error_text(error) + "; it needs Linux 5.11; idle waits are rounded to milliseconds"};
}

item process_descriptor() {
  const descriptor self(syscall(SYS_pidfd_open, getpid(), 0U));
  if (self.valid()) return {"pidfd_open", true, "the end of a child process can be waited for like any descriptor"};
  return {"pidfd_open", false, error_text(self.error()) + "; it needs Linux 5.3"};
}

// ---- stacks ----

bool try_guard(bool batched) {
  const mapping page(page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (!page.valid()) return false;
  if (!batched) return madvise(page.get(), page_size(), madv_guard_install) == 0;
  const iovec range{page.get(), page_size()};
  return syscall(SYS_process_madvise, pidfd_self_thread_group, &range, 1UL, madv_guard_install, 0U) > 0;
}

item guard_pages(bool there) {
  if (there) return {"MADV_GUARD_INSTALL", true, "guards below stacks need no mappings of their own"};
  return {"MADV_GUARD_INSTALL", false, "it needs Linux 6.13; guards are laid by mprotect, two mappings for each stack"};
}

item batched_advice() {
  if (try_guard(true)) return {"process_madvise", true, "up to 1,024 guards are laid, or stacks trimmed, in one call"};
  return {"process_madvise", false, "refused for batches; guards are laid and stacks trimmed one call at a time"};
}

item map_limit(bool guards_there) {
  const auto limit = number_in("/proc/sys/vm/max_map_count");
  if (!limit) return {"vm.max_map_count", guards_there, "cannot be read"};
  const std::string count = std::to_string(*limit) + " mappings in a process";
  if (guards_there) return {"vm.max_map_count", true, count + "; stacks hardly use them"};
  return {"vm.max_map_count", false,
          count + " make room for about " + std::to_string(*limit / 2) + " stacks with guards: raise it for more threads"};
}

// ---- upcalls for code that is not weft's ----

std::string why_no_perf(int error) {
  const auto paranoid = number_in("/proc/sys/kernel/perf_event_paranoid");
  if (error == EACCES && paranoid && *paranoid > 2) {
    return "sysctl kernel.perf_event_paranoid is " + std::to_string(*paranoid) + ": set it to 2, or give the program CAP_PERFMON";
  }
  if (seccomp_active()) {
    return "a seccomp filter refuses perf_event_open (" + error_text(error) + "), as containers' default profiles do: allow it";
  }
  if (error == ENOSYS) return "this kernel was built without perf events";
  return "perf_event_open is refused: " + error_text(error);
}

item switch_records() {
  const std::string what = "perf switch records";
  const std::string instead = "; a watchdog looks at regions of weft::blocking instead, after 20 µs at first, 10 ms at most";
  const auto refused = upcall::engine::switch_monitor::refusal();
  if (refused.event != 0) return {what, false, why_no_perf(refused.event) + instead};
  if (refused.buffer == 0) return {what, true, "the kernel says at once when a region of weft::blocking blocks"};
  return {what, false,
          "their buffer is refused: raise kernel.perf_event_mlock_kb or the limit of locked memory (ulimit -l)" + instead};
}

item ticks() {
  const std::string what = "time slices by perf";
  const int error = upcall::ticker::perf_refusal();
  if (error == 0) return {what, true, "ticks are exact, and come only in user code"};
  const std::string why = error == EBUSY ? "the program handles SIGTRAP" : why_no_perf(error);
  return {what, false, why + "; a timer on the CPU clock is used instead, which ticks with the kernel: each 1 to 10 ms"};
}

// ---- where we are ----

std::string container_hint() {
  if (access("/.dockerenv", F_OK) == 0) return "; this looks like a Docker container";
  if (access("/run/.containerenv", F_OK) == 0) return "; this looks like a Podman container";
  if (std::getenv("KUBERNETES_SERVICE_HOST") != nullptr) return "; this looks like a Kubernetes pod";
  const char* const name = std::getenv("container");
  return name != nullptr ? "; this looks like a container (" + std::string(name) + ")" : std::string();
}

item unfiltered() {
  if (!seccomp_active()) return {"no seccomp filter", true, "no system call is filtered" + container_hint()};
  return {"no seccomp filter", false,
          std::to_string(std::max(thread_status("Seccomp_filters"), 1L)) + " active: system calls may fail that this kernel has" +
              container_hint()};
}

item all_code() {
  using upcall::engine::switch_monitor;
  const std::string what = "takeover of all code";
  const std::string instead = "; only regions of weft::blocking are taken over";
  if (!upcall::waits_can_be_left())
    return {what, false, "needs x86-64, without sanitizers, valgrind, and a malloc that is linked into the program" + instead};
  if (const auto no = switch_monitor::refusal(); no.event != 0 || no.buffer != 0) return {what, false, "needs perf" + instead};
  if (!upcall::others_can_be_looked_at())
    return {what, false, "needs /proc, and process_vm_readv of the process itself" + instead};
  if (!upcall::sigtrap_is_free()) return {what, false, "the program handles SIGTRAP, which this needs" + instead};
  upcall::trap_receiver nobody{nullptr};
  upcall::engine::return_trap trial;
  if (trial.open(nobody) != 0) return {what, false, "breakpoints that trap are refused; they need Linux 5.13" + instead};
  return {what, true, trial.stops_faults() ? "page faults included" : "but page faults, whose events the kernel refuses"};
}

item processors() {
  const long online = sysconf(_SC_NPROCESSORS_ONLN);
  cpu_set_t allowed;
  const long usable = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : online;  // > 1,024: EINVAL
  return {"processors", true, std::to_string(usable) + " of " + std::to_string(online) + " may be used; a scheduler uses one"};
}

// What make_reactor(transfer::automatic) decides: by the same trial, after the same look at the environment.
std::pair<upcall::transfer, item> transfers() {
  using upcall::transfer;
  const std::string what = "ring transfers";
  const char* const setting = std::getenv("WEFT_TRANSFER");
  const std::string_view wanted = setting != nullptr ? setting : "";
  if (wanted == "direct") return {transfer::direct, {what, false, "WEFT_TRANSFER=direct asks for plain calls"}};
  const int error = upcall::engine::ring().prepare();
  if (wanted == "ring" && error == 0) return {transfer::ring, {what, true, "WEFT_TRANSFER=ring asks for them"}};
  if (wanted == "ring") {
    return {transfer::ring,
            {what, false, "WEFT_TRANSFER=ring asks for what is refused (" + error_text(error) + "): weft::run will fail"}};
  }
  const transfer made = error == 0 ? transfer::ring : transfer::direct;
  if (!wanted.empty() && wanted != "automatic") {
    const std::string found = "not '" + std::string(wanted) + "': weft::run will fail";
    return {made, {what, false, "WEFT_TRANSFER must be ring, direct or automatic, " + found}};
  }
  const std::string sentence = error == 0
                                   ? "batches of reads and writes are done in one call; WEFT_TRANSFER=direct turns this off"
                                   : error_text(error) + ": plain calls and worker kernel threads are used instead";
  return {made, {what, error == 0, sentence}};
}

capabilities probe_here() {
  const item uring = ring();
  const bool guards = try_guard(false);
  auto [transfer, transfers_item] = transfers();
  capabilities out;
  out.items = {kernel(),
               uring,
               deferred_ring(uring.there),
               precise_wait(),
               process_descriptor(),
               guard_pages(guards),
               batched_advice(),
               map_limit(guards),
               switch_records(),
               all_code(),
               ticks(),
               unfiltered(),
               processors(),
               std::move(transfers_item)};
  out.transfer = transfer;
  return out;
}

}  // namespace

// On a kernel thread that ends with it: those who made a ring and closed it have an interruption ahead of them (ring.hpp).
capabilities probe() {
  std::packaged_task<capabilities()> asked(probe_here);
  try {
    detail::kernel_thread("weft::probe", "weft-probe", detail::signals::blocked, [&] { asked(); }).join();
  } catch (const std::system_error&) {
    asked();  // there can be no other kernel thread
  }
  return asked.get_future().get();
}

std::string capabilities::to_string() const {
  std::size_t width = 0;
  for (const item& i : items) width = std::max(width, i.what.size());
  std::string out;
  for (const item& i : items) {
    out.append(i.what).append(width - i.what.size() + 2, ' ').append(i.there ? "yes  " : "no   ").append(i.detail).append("\n");
  }
  return out;
}

}  // namespace weft
