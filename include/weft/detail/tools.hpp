// What tools that are loaded into a program may ask of libweft. C names, so that a tool finds them when it is loaded, and does
// without if they are not there.
#pragma once

#include <cstdint>

extern "C" {

/// A weft thread, for people and for comparing. The name ends with a zero.
struct weft_thread_for_tools {
  std::uint32_t scheduler;
  std::uint32_t number;
  char name[32];
};

/// Tells which weft thread runs on the calling kernel thread, also in a region of blocking() and in its own interruptible code.
/// @returns 0 when none does. Callable everywhere, also in signal handlers; a few loads and a copy.
int weft_this_thread_for_tools(weft_thread_for_tools* into) noexcept;
}
