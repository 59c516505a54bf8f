// How a call ends that is refused or ended early: the code, the text, a cancellation.
#pragma once

#include <functional>
#include <future>
#include <string>
#include <system_error>

#include "weft/error.hpp"
#include "weft/thread.hpp"

/// The code of the system_error or future_error that `call` throws; none if it throws none.
inline std::error_code code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.code();
  } catch (const std::future_error& error) {
    return error.code();
  }
  return {};
}

/// The text of the system_error that `call` throws for misuse or off a weft thread; "none" if it throws none, or another one.
inline std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    if (error.code() == std::errc::invalid_argument || error.code() == std::errc::operation_not_permitted) return error.what();
  }
  return "none";
}
inline bool says(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

inline void yield_times(int n) {
  for (int i = 0; i < n; ++i) weft::this_thread::yield();
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
