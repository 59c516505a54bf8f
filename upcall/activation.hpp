// Activations: kernel threads that stand by to carry a scheduler's processor.
//
// All of them wait in one epoll set: for the switch monitor of the activation that has lent the processor, and for a bell that
// is rung when somebody is called. Whoever the kernel wakes first looks at the processor's word and takes it, or not.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "upcall/return_trap.hpp"
#include "upcall/switch_monitor.hpp"
#include "upcall/watchdog.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

class activations final : public activation_pool {
 public:
  /// At most `most` activations, the calling kernel thread, number 1, included. @throws std::system_error
  activations(handler& scheduler, detail::processor& word, std::uint32_t most, bool all_code);
  ~activations() override;
  activations(const activations&) = delete;
  activations& operator=(const activations&) = delete;

  bool provide() override;
  void watch(std::uint32_t number) noexcept override;
  void rest(std::uint32_t number) noexcept override;
  [[nodiscard]] int sleeping_place() noexcept override;
  void vacate(int place) noexcept override;
  void rouse(int place) noexcept override;
  void wake_watchdog() noexcept override;
  void call() noexcept override;
  void stand_by(std::uint32_t number) override;
  void end() noexcept override;
  void join() noexcept override;
  [[nodiscard]] int system_call_of(std::uint32_t number) const noexcept override;
  [[nodiscard]] int kernel_thread_of(std::uint32_t number) const noexcept override;
  void await(std::atomic<std::uint32_t>& flag) noexcept override;
  void alert(std::atomic<std::uint32_t>& flag) noexcept override;

  /// The epoll set in which those who stand by wait: readable when somebody is called.
  [[nodiscard]] int set() const noexcept { return set_; }

 private:
  // One activation. `thread` and `vacant` are guarded by `lock_`. It receives the traps of its kernel thread.
  struct vessel : trap_receiver {
    handler* scheduler = nullptr;
    std::uint32_t number = 0;
    detail::kernel_thread thread;
    switch_monitor monitor;
    return_trap stop;
    std::atomic<int> kernel_thread{0};
    bool vacant = true;
  };

  void start_watchdog();
  void start_kernel_thread();
  void run(std::uint32_t number);
  [[nodiscard]] bool may_retire(std::uint32_t number);
  void on_news(std::uint32_t me, std::uint64_t tag);
  void displace(std::uint32_t me, detail::processor::word seen);
  [[nodiscard]] bool can_displace(std::uint32_t me, detail::processor::word seen);
  void prepare_all_code();
  static void on_trap(trap_receiver& self, void* context) noexcept;
  void start_monitor(std::uint32_t number) noexcept;
  void open_monitor(std::uint32_t number) noexcept;
  void ask_for_first_monitor() noexcept;
  void open_first_monitor() noexcept;
  void learn(int error) noexcept;
  void close_events(std::uint32_t number) noexcept;
  void close_one_monitor(std::uint32_t but) noexcept;
  [[nodiscard]] vessel& of(std::uint32_t number) const noexcept { return *vessels_[number - 1]; }

  handler* scheduler_;
  detail::processor* word_;
  int set_;
  int bell_;
  std::mutex lock_;
  std::vector<std::unique_ptr<vessel>> vessels_;  // by number less 1, all made at once: nobody moves them
  std::vector<int> places_;                       // vacant sleeping places: eventfds. As many as ever slept at once
  std::uint32_t alive_ = 1;                       // kernel threads there are
  std::atomic<std::uint32_t> monitors_{0};        // open ones
  enum class perf : std::uint8_t { unknown, allowed, refused };
  std::atomic<perf> perf_{perf::unknown};
  std::atomic<bool> first_monitor_wanted_{false};
  std::atomic<detail::processor::word> overdue_{0};
  std::atomic<bool> over_{false};
  std::optional<watchdog> watchdog_;
};

}  // namespace weft::upcall::engine
