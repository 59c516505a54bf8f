// What the tests of locks share.
#pragma once

#include <chrono>
#include <functional>
#include <system_error>
#include <type_traits>

#include "weft/thread.hpp"

/// The code of the system_error that `call` throws; none if it throws none.
inline std::error_code code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.code();
  }
  return {};
}

inline void yield_times(int n) {
  for (int i = 0; i < n; ++i) weft::this_thread::yield();
}

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

/// Cancels a thread while it is in `wait`. @returns whether that threw weft::cancelled.
inline bool cancelled_in(const std::function<void()>& wait) {
  bool seen = false;
  weft::thread t([&] {
    try {
      wait();
    } catch (const weft::cancelled&) {
      seen = true;
      throw;
    }
  });
  yield_times(2);
  t.request_cancel();
  t.join();
  return seen;
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
