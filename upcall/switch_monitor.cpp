#include "upcall/switch_monitor.hpp"

#include <linux/perf_event.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "weft/detail/preemption.hpp"

namespace weft::upcall::engine {

namespace {

constexpr std::size_t record_bytes = sizeof(perf_event_header);
constexpr int looks = 200;  // at a record that the kernel is about to write: the descriptor may be readable before that

std::size_t page_bytes() noexcept { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

perf_event_attr wanted_event() noexcept {
  perf_event_attr wanted{};
  wanted.size = sizeof wanted;
  wanted.type = PERF_TYPE_SOFTWARE;
  wanted.config = PERF_COUNT_SW_DUMMY;
  wanted.disabled = 1;
  wanted.context_switch = 1;
  wanted.exclude_kernel = 1;
  wanted.exclude_hv = 1;
  wanted.watermark = 1;
  wanted.wakeup_watermark = 2 * record_bytes;
  return wanted;
}

// 0: of the caller.
int open_for(int kernel_thread) noexcept {
  perf_event_attr wanted = wanted_event();
  const long fd = ::syscall(SYS_perf_event_open, &wanted, kernel_thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
  return fd < 0 ? -errno : static_cast<int>(fd);
}

void* map_records(int fd) noexcept { return ::mmap(nullptr, 2 * page_bytes(), PROT_READ, MAP_SHARED, fd, 0); }

}  // namespace

int switch_monitor::open_event(int kernel_thread) noexcept {
  const int fd = open_for(kernel_thread);
  if (fd < 0) return -fd;
  void* const page = map_records(fd);
  if (page == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return error;
  }
  const std::lock_guard guard(lock_);
  page_ = page;
  fd_ = fd;
  return 0;
}

int switch_monitor::open(int set, std::uint32_t tag, int kernel_thread) noexcept {
  if (const int error = open_event(kernel_thread); error != 0) return error;
  epoll_event wanted{};
  wanted.events = EPOLLIN | EPOLLET;
  wanted.data.u64 = tag;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, fd_, &wanted) != 0) {
    const int error = errno;
    close();
    return error;
  }
  const std::lock_guard guard(lock_);
  // Not that of another, which may be asleep: its records would begin with one of its waking, and never come into phase.
  if (kernel_thread == this_kernel_thread()) started_ = ::ioctl(fd_, PERF_EVENT_IOC_ENABLE, 0) == 0;
  return 0;
}

void switch_monitor::close() noexcept {
  const std::lock_guard guard(lock_);
  if (page_ != nullptr) ::munmap(std::exchange(page_, nullptr), 2 * page_bytes());
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  started_ = in_phase_ = false;
}

bool switch_monitor::is_open() noexcept {
  const std::lock_guard guard(lock_);
  return fd_ >= 0;
}

// acquire: a record is there when the head says so.
std::uint64_t switch_monitor::written() const noexcept {
  return std::atomic_ref(static_cast<perf_event_mmap_page*>(page_)->data_head).load(std::memory_order_acquire);
}

void switch_monitor::start() noexcept {
  const std::lock_guard guard(lock_);
  if (fd_ < 0) return;
  if (!std::exchange(started_, true)) ::ioctl(fd_, PERF_EVENT_IOC_ENABLE, 0);
  if (in_phase_) return;
  const timespec shortest{0, 1};
  if (written() < 2 * record_bytes) ::nanosleep(&shortest, nullptr);
  in_phase_ = true;
}

void switch_monitor::stop() noexcept {
  const std::lock_guard guard(lock_);
  if (fd_ >= 0 && std::exchange(started_, false)) ::ioctl(fd_, PERF_EVENT_IOC_DISABLE, 0);
}

bool switch_monitor::waits() noexcept {
  const std::lock_guard guard(lock_);
  if (page_ == nullptr) return false;
  const std::byte* const records = static_cast<const std::byte*>(page_) + page_bytes();
  for (int look = 0; look < looks; ++look) {
    if (const std::uint64_t end = written(); end >= record_bytes) {
      perf_event_header last{};
      std::memcpy(&last, records + (end - record_bytes) % page_bytes(), sizeof last);
      const bool out = (last.misc & PERF_RECORD_MISC_SWITCH_OUT) != 0;
      if (last.type == PERF_RECORD_SWITCH && out) return (last.misc & PERF_RECORD_MISC_SWITCH_OUT_PREEMPT) == 0;
    }
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  return false;
}

std::uint64_t switch_monitor::progress() noexcept {
  const std::lock_guard guard(lock_);
  return page_ == nullptr ? 0 : written();
}

switch_monitor::refused switch_monitor::refusal() noexcept {
  const int fd = open_for(0);
  if (fd < 0) return {-fd, 0};
  void* const page = map_records(fd);
  const int error = page == MAP_FAILED ? errno : 0;
  if (error == 0) ::munmap(page, 2 * page_bytes());
  ::close(fd);
  return {0, error};
}

}  // namespace weft::upcall::engine
