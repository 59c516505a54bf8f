// A kernel thread that looks at the processor now and then: the upcall that comes when no other does.
//
// Where perf is refused it is what takes the processor from an activation that has lent it: as Go's sysmon it looks after
// 20 µs, and after a while without work less often, up to every 10 ms. Where perf is there it looks every 10 ms, so that
// progress never depends on one record having arrived. With nothing to look at it sleeps until a region is entered.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

#include "weft/detail/kernel_thread.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

class watchdog {
 public:
  /// `overdue` is called, on the watchdog's kernel thread, with a word that has been lent from one look to the next.
  /// `asleep` says whether `wake` is needed. @throws std::system_error when the kernel gives no kernel thread
  watchdog(const detail::processor& word, std::atomic<bool>& asleep, std::chrono::microseconds first_look,
           std::function<void(detail::processor::word)> overdue);
  ~watchdog();
  watchdog(const watchdog&) = delete;
  watchdog& operator=(const watchdog&) = delete;

  /// From any kernel thread, after the word was lent.
  void wake() noexcept;
  /// From any kernel thread: how soon it looks first, from here on.
  void look_after(std::chrono::microseconds first_look) noexcept { first_look_.store(first_look, std::memory_order_relaxed); }

 private:
  void run();
  void sleep_until_woken() noexcept;

  const detail::processor* word_;
  std::atomic<bool>* asleep_;
  std::atomic<std::chrono::microseconds> first_look_;
  std::function<void(detail::processor::word)> overdue_;
  std::atomic<std::uint32_t> rings_{0};
  std::atomic<bool> stopping_{false};
  detail::kernel_thread thread_;
};

}  // namespace weft::upcall::engine
