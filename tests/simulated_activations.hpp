// Activations as a toy: real kernel threads, of which one runs at a time. At every step of the protocol that carries the
// processor from one to the other (upcall::activation_pool::step) a seed decides who goes on, so every interleaving of takeover
// and hand-back can be tried, and repeated. Whether a region "blocks" is the seed's decision too: whoever stands by and has its
// turn may take a processor that is lent.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/simulated_source.hpp"

/// Whose turn it is among the kernel threads numbered from 1.
class turns {
 public:
  explicit turns(simulated_source& chance) : chance_(&chance) {}

  /// The caller has the turn and adds another kernel thread, which will call `begin` first.
  void add(std::uint32_t number) { alive_.push_back(number); }
  void begin(std::uint32_t number) {
    std::unique_lock lock(mutex_);
    mine_ = number;
    changed_.wait(lock, [&] { return turn_ == number; });
  }
  /// Gives the turn to anybody, the caller included, and returns when it is the caller's again.
  void step() {
    std::unique_lock lock(mutex_);
    const std::uint32_t me = mine_;
    turn_ = alive_[chance_->below(alive_.size())];
    if (turn_ == me) return;
    changed_.notify_all();
    changed_.wait(lock, [&] { return turn_ == me; });
  }
  /// The caller ends and gives the turn to another.
  void leave() {
    const std::lock_guard lock(mutex_);
    std::erase(alive_, mine_);
    turn_ = alive_[chance_->below(alive_.size())];
    changed_.notify_all();
  }
  [[nodiscard]] std::size_t count() const { return alive_.size(); }
  /// The number of the calling kernel thread.
  [[nodiscard, gnu::noinline]] static std::uint32_t mine() { return mine_; }

 private:
  simulated_source* chance_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> alive_{1};
  std::uint32_t turn_ = 1;
  static inline thread_local std::uint32_t mine_ = 1;
};

class simulated_activations final : public weft::upcall::activation_pool {
 public:
  simulated_activations(weft::upcall::handler& scheduler, simulated_source& chance, turns& whose, weft::detail::processor& word,
                        std::uint32_t most, bool own_code)
      : scheduler_(&scheduler), chance_(&chance), turns_(&whose), word_(&word) {
    limit = most;
    steps = true;
    all_code = own_code;
  }

  bool provide() override {
    if (free > 0) return true;
    if (threads_.size() + 1 == limit) return false;
    const auto number = static_cast<std::uint32_t>(threads_.size()) + 2;
    scheduler_->prepare_activation(number);
    turns_->add(number);
    threads_.emplace_back([this, number] {
      turns_->begin(number);
      scheduler_->begin_activation(number);
      stand_by(number);
      scheduler_->end_activation(number);
      turns_->leave();
    });
    ++free;
    return true;
  }
  void watch(std::uint32_t number) noexcept override { watched = number; }
  void rest(std::uint32_t) noexcept override { watched = 0; }
  int sleeping_place() noexcept override { return 0; }
  void vacate(int) noexcept override {}
  void rouse(int) noexcept override {}
  void wake_watchdog() noexcept override {}
  void call() noexcept override {}
  void stand_by(std::uint32_t number) override {
    while (!over_) {
      scheduler_->serve(number);
      if (over_) break;
      const weft::detail::processor::word seen = word_->look();
      const auto grip = weft::detail::processor::grip_of(seen);
      const bool lent = grip == weft::detail::processor::grip::lent;
      const bool waits = grip == weft::detail::processor::grip::open && waits_in_own_code == weft::detail::processor::holder(seen);
      if ((lent || waits) && chance_->chance(2) && scheduler_->take(number, seen)) ++taken;
      turns_->step();
    }
  }
  void end() noexcept override { over_ = true; }
  void join() noexcept override {
    while (turns_->count() > 1) turns_->step();
    for (std::thread& t : threads_) t.join();
  }
  [[nodiscard]] int system_call_of(std::uint32_t) const noexcept override { return -1; }
  [[nodiscard]] int kernel_thread_of(std::uint32_t) const noexcept override { return 0; }
  void await(std::atomic<std::uint32_t>& flag) noexcept override {
    while (flag.exchange(0) == 0) turns_->step();
  }
  void alert(std::atomic<std::uint32_t>& flag) noexcept override { flag = 1; }
  void step(const char*) noexcept override { turns_->step(); }

  unsigned taken = 0;
  std::uint32_t waits_in_own_code = 0;  // the holder's number, while its thread waits in the simulated kernel

 private:
  weft::upcall::handler* scheduler_;
  simulated_source* chance_;
  turns* turns_;
  weft::detail::processor* word_;
  std::vector<std::thread> threads_;
  bool over_ = false;
};

/// A simulated kernel with activations.
class simulated_kernel final : public simulated_source {
 public:
  explicit simulated_kernel(std::uint64_t seed, bool own_code = false) : simulated_source(seed), whose(*this), own_code_(own_code) {}

  std::unique_ptr<weft::upcall::activation_pool> make_activations(weft::detail::processor& word, std::uint32_t limit,
                                                                  bool) override {
    auto made = std::make_unique<simulated_activations>(handler(), *this, whose, word, limit, own_code_);
    pool_ = made.get();
    return made;
  }
  /// A system call in a thread's own code: for some steps its kernel thread waits, and whoever stands by may take over. Returns when
  /// the thread runs again, on whichever kernel thread.
  void wait_in_own_code() {
    const std::uint32_t me = turns::mine();
    pool_->waits_in_own_code = me;
    for (std::size_t steps = below(8); steps > 0; --steps) whose.step();
    if (pool_->waits_in_own_code == me) pool_->waits_in_own_code = 0;
    handler().come_back(me);
  }
  [[nodiscard]] bool bound_here() const noexcept override { return const_cast<simulated_kernel*>(this)->chance(4); }
  [[nodiscard]] bool prepare_doze(weft::time_point&) override { return chance(2); }
  void doze(weft::time_point, int) noexcept override { whose.step(); }

  turns whose;

 private:
  void wait_for_wake() override { whose.step(); }

  bool own_code_;
  simulated_activations* pool_ = nullptr;
};
