// What the tests of locks share.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <type_traits>

#include "tests/error_of.hpp"
#include "tests/in_child.hpp"
#include "weft/blocking.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

/// Whether another thread could take the lock now, alone or (`shares`) as a reader.
template <class Lock> bool free_for_others(Lock& lock) {
  bool free = false;
  weft::thread([&] {
    free = lock.try_lock();
    if (free) lock.unlock();
  }).join();
  return free;
}
template <class Lock> bool shares(Lock& lock) {
  bool free = false;
  weft::thread([&] {
    free = lock.try_lock_shared();
    if (free) lock.unlock_shared();
  }).join();
  return free;
}

/// Waits for a lock in a region of blocking() while the caller holds it; `let_go` releases it. @returns whether it came, no
/// earlier.
inline bool comes_in_a_region(const std::function<void()>& take, const std::function<void()>& let_go) {
  std::atomic<bool> began = false;
  bool got = false;
  weft::thread waiter([&] {
    weft::blocking([&] {
      began = true;
      take();
    });
    got = true;
  });
  while (!began) weft::this_thread::yield();
  const bool early = got;
  let_go();
  waiter.join();
  return got && !early;
}

/// A child in which a lock is destroyed by the thread that has called `take(lock)`.
template <class Lock> child_end destroyed_after(const std::function<void(Lock&)>& take) {
  return in_child([&] {
    weft::run([&] {
      Lock m;
      take(m);
    });
  });
}
/// A child in which one scheduler's thread calls `take(lock)` and then another scheduler's `also`.
template <class Lock>
child_end used_by_two_schedulers(const std::function<void(Lock&)>& take, const std::function<void(Lock&)>& also) {
  return in_child([&] {
    Lock m;
    weft::run([&] {
      take(m);
      std::thread([&] { weft::run([&] { also(m); }); }).join();
    });
  });
}

/// A clock that stands where it was put. Each look at it may set it back or on.
struct wall_clock {
  using duration = std::chrono::seconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<wall_clock>;
  static constexpr bool is_steady = false;
  static time_point now() {
    const time_point seen = time;
    ++looks;
    time += step;
    return seen;
  }
  static void put(rep seconds, rep step_by = 0) {
    time = time_point(duration(seconds));
    step = duration(step_by);
    looks = 0;
  }
  static inline time_point time{};
  static inline duration step{};
  static inline int looks = 0;
};

/// Whether Ours can be made, copied, moved and laid out as Theirs.
template <class Ours, class Theirs>
inline constexpr bool as_standard =
    std::is_default_constructible_v<Ours> == std::is_default_constructible_v<Theirs> &&
    std::is_copy_constructible_v<Ours> == std::is_copy_constructible_v<Theirs> &&
    std::is_move_constructible_v<Ours> == std::is_move_constructible_v<Theirs> &&
    std::is_copy_assignable_v<Ours> == std::is_copy_assignable_v<Theirs> &&
    std::is_move_assignable_v<Ours> == std::is_move_assignable_v<Theirs> &&
    std::is_nothrow_destructible_v<Ours> && std::is_standard_layout_v<Ours>;
