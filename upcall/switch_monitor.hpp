// Tells when a kernel thread waits in the kernel: by the records that perf writes whenever it is switched out or in.
//
// Recipe (unprivileged up to kernel.perf_event_paranoid 2): a software event that counts nothing, with `context_switch`. Each
// record is a bare header of 8 bytes; SWITCH with OUT and without OUT_PREEMPT means that the kernel thread waits. A watermark
// of 16 bytes makes the event's descriptor readable at every other record, from the third on: at OUT records only, once the
// kernel thread has slept once ("is in phase"). Records come in pairs, so it stays that way.
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>

namespace weft::upcall::engine {

/// The event of one kernel thread.
///
/// Only that kernel thread starts it. The rest is anybody's.
class switch_monitor {
 public:
  switch_monitor() = default;
  ~switch_monitor() { close(); }
  switch_monitor(const switch_monitor&) = delete;
  switch_monitor& operator=(const switch_monitor&) = delete;

  /// Opens the event of `kernel_thread`, started if that calls, and adds it to the epoll set `set`, edge-triggered, with `tag`.
  /// @returns 0, or the errno of the refusal.
  [[nodiscard]] int open(int set, std::uint32_t tag, int kernel_thread) noexcept;
  void close() noexcept;
  [[nodiscard]] bool is_open() noexcept;

  /// Begins and ends to write records. ≈ 1.5 µs each, nothing when it is so already. `start` sleeps for an instant if the
  /// kernel thread has not slept since `open`.
  void start() noexcept;
  void stop() noexcept;

  /// Whether the last record says that the kernel thread waits.
  [[nodiscard]] bool waits() noexcept;
  /// Bytes of records so far: the same number at two moments means that nothing happened in between.
  [[nodiscard]] std::uint64_t progress() noexcept;

  /// Whether this kernel and container let us open one: 0, or the errno with which the event, or the buffer for its records,
  /// was refused.
  struct refused {
    int event = 0;
    int buffer = 0;
  };
  [[nodiscard]] static refused refusal() noexcept;

 private:
  [[nodiscard]] int open_event(int kernel_thread) noexcept;
  [[nodiscard]] std::uint64_t written() const noexcept;

  std::mutex lock_;  // guards all below
  void* page_ = nullptr;
  int fd_ = -1;
  bool started_ = false;
  bool in_phase_ = false;
};

}  // namespace weft::upcall::engine
