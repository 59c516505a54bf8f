// How reports speak of threads, and of what they wait for.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "sched/plain_text.hpp"
#include "sched/thread_record.hpp"
#include "sched/unwind.hpp"

namespace weft::sched {

/// `thread 7 "writer"`, or `thread 7` when it has no name. "a thread that has ended" for a vacant record.
[[nodiscard]] std::string who(const thread_record& t);
/// The same of a running thread, without malloc.
plain_text& operator<<(plain_text& text, const thread_record& t) noexcept;

/// "parked", "in kernel", "has not run yet", …
[[nodiscard]] const char* state_text(thread_state state) noexcept;

/// "read of descriptor 5", `open of "/etc/passwd"`. `name` is the operation's.
[[nodiscard]] std::string operation_text(const upcall::operation& request, std::string_view name);

/// "0x7f12…"
[[nodiscard]] std::string address_text(const void* address);

/// "select of channel receive 0x…, time": what a waiter that stands for many waits for (select.cpp).
[[nodiscard]] std::string text_of_select(const waiter& whole);

/// "1 thread", "2 threads"
[[nodiscard]] std::string plural(std::size_t count, const char* word);

/// The stack of a thread that has one.
[[nodiscard]] stack_bounds bounds_of(const thread_record& t) noexcept;

/// The weft thread that runs on the calling kernel thread, or null when none does.
[[nodiscard]] const thread_record* running_thread() noexcept;

}  // namespace weft::sched
