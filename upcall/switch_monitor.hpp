// Tells when a kernel thread waits in the kernel: by the records that perf writes whenever it is switched out or in.
//
// Recipe (unprivileged up to kernel.perf_event_paranoid 2): a software event that counts nothing, with `context_switch`. Each
// record is a bare header of 8 bytes; SWITCH with OUT and without OUT_PREEMPT means that the kernel thread waits. A watermark
// of 16 bytes and one pair of records before the first use make the event's descriptor readable at OUT records only.
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

namespace weft::upcall::engine {

/// The event of one kernel thread.
///
/// Only that kernel thread opens, starts, stops and closes it, but for `close`, which anyone may call. `waits` is anybody's.
class switch_monitor {
 public:
  switch_monitor() = default;
  ~switch_monitor() { close(); }
  switch_monitor(const switch_monitor&) = delete;
  switch_monitor& operator=(const switch_monitor&) = delete;

  /// Opens the event of the calling kernel thread and adds it to the epoll set `set`, edge-triggered, with `tag`.
  /// @returns 0, or the errno of the refusal.
  [[nodiscard]] int open(int set, std::uint32_t tag) noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }

  /// Begins and ends to write records. ≈ 1.5 µs each, nothing when it is so already.
  void start() noexcept;
  void stop() noexcept;

  /// Whether the last record says that the kernel thread waits.
  [[nodiscard]] bool waits() noexcept;

  /// Whether this kernel and container let us open one. @returns 0, or an errno.
  [[nodiscard]] static int refusal() noexcept;

 private:
  [[nodiscard]] int open_event() noexcept;

  std::mutex mapping_lock_;  // guards page_ against `close` while `waits` reads
  void* page_ = nullptr;
  int fd_ = -1;
  bool started_ = false;
};

}  // namespace weft::upcall::engine
