// The application's own buffer cache, as in the paper: it decides how much memory the application may use, and a miss blocks
// the thread in the kernel for as long as a disk would take.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

/// Which of `pages` pages are in memory: at most `frames` of them. For the threads of `Level`, which names a mutex, a condition
/// variable, and `wait_for_disk(time)`, what a thread does while its page is read.
template <class Level> class buffer_cache {
 public:
  buffer_cache(std::size_t pages, std::size_t frames, std::chrono::nanoseconds disk_time)
      : pages_(pages), frames_(frames), disk_time_(disk_time), entries_(std::make_unique<entry[]>(pages)) {
    for (std::size_t page = 0; page < pages && in_memory_.size() < frames; ++page) put(page);
  }

  /// Returns when `page` is, or was a moment ago, in memory.
  void touch(std::size_t page) {
    std::unique_lock lock(mutex_);
    entry& wanted = entries_[page];
    if (wanted.resident) [[likely]] {
      wanted.used = true;
    } else if (wanted.arriving) {
      const std::uint64_t before = wanted.arrivals;
      wanted.arrived.wait(lock, [&] { return wanted.arrivals != before; });
    } else {
      fetch(page, lock);
    }
  }

  [[nodiscard]] std::size_t pages() const noexcept { return pages_; }
  [[nodiscard]] std::uint64_t misses() const noexcept { return misses_; }

 private:
  struct entry {
    bool resident = false;
    bool arriving = false;
    bool used = false;  // since the hand of the clock passed
    std::uint64_t arrivals = 0;
    typename Level::condition_variable arrived;
  };

  void fetch(std::size_t page, std::unique_lock<typename Level::mutex>& lock) {
    entry& wanted = entries_[page];
    wanted.arriving = true;
    ++misses_;
    lock.unlock();
    Level::wait_for_disk(disk_time_);
    lock.lock();
    put(page);
    wanted.arriving = false;
    ++wanted.arrivals;
    wanted.arrived.notify_all();
  }

  // Second chance: the hand of the clock passes over pages that were used since it came by last.
  void put(std::size_t page) {
    entries_[page].resident = entries_[page].used = true;
    if (in_memory_.size() < frames_) return in_memory_.push_back(page);
    while (entries_[in_memory_[hand_]].used) {
      entries_[in_memory_[hand_]].used = false;
      hand_ = (hand_ + 1) % frames_;
    }
    entries_[in_memory_[hand_]].resident = false;
    in_memory_[hand_] = page;
    hand_ = (hand_ + 1) % frames_;
  }

  std::size_t pages_;
  std::size_t frames_;
  std::chrono::nanoseconds disk_time_;
  typename Level::mutex mutex_;
  std::unique_ptr<entry[]> entries_;
  std::vector<std::size_t> in_memory_;
  std::size_t hand_ = 0;
  std::uint64_t misses_ = 0;
};
