// A number that one kernel thread changes and others look at.
#pragma once

#include <atomic>

namespace weft::sched {

/// As `unsigned` for its owner: relaxed loads and stores, no atomic read-modify-write. Who looks learns the number and no more.
class watched_count {
 public:
  constexpr explicit watched_count(unsigned start = 0) noexcept : value_(start) {}
  [[nodiscard]] unsigned load() const noexcept { return value_.load(std::memory_order_relaxed); }
  operator unsigned() const noexcept { return load(); }  // NOLINT: as a number
  watched_count& operator=(unsigned to) noexcept {
    value_.store(to, std::memory_order_relaxed);
    return *this;
  }
  unsigned operator--() noexcept { return put(load() - 1); }
  unsigned operator++() noexcept { return put(load() + 1); }

 private:
  // The number itself: compilers load an atomic again rather than remember what they have stored.
  unsigned put(unsigned to) noexcept {
    value_.store(to, std::memory_order_relaxed);
    return to;
  }

  std::atomic<unsigned> value_;
};

}  // namespace weft::sched
