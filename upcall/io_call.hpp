// What the blocking calls share: how a request is carried out and how its result becomes a value, an error_code or a throw.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

#include "weft/detail/park.hpp"
#include "weft/io.hpp"
#include "weft/upcall.hpp"

namespace weft::io::detail {

// Results of all inner calls: ≥ 0, or a negative errno.
using result = std::int32_t;

[[nodiscard]] inline upcall::operation request(upcall::opcode code, handle on) noexcept {
  upcall::operation made;
  made.code = code;
  made.owned = on.owned();
  made.fresh = on.fresh();
  made.fd = on.fd();
  return made;
}

// A signal for the program is no reason to trouble the caller: the request is made again, against the same deadline.
// Numbers that name no descriptor (an empty owner's -1) never reach the engine.
inline result carry_out(upcall::operation& asked, time_point deadline) {
  if (asked.fd < 0 && asked.code != upcall::opcode::open) [[unlikely]] return -EBADF;
  for (;;) {
    const result r = weft::detail::perform(asked, deadline);
    if (r != -EINTR) [[likely]] return r;
    asked.next = asked.previous = nullptr;
    asked.fresh = nullptr;
    asked.stage = 0;
  }
}

// The same for system calls that never wait.
template <class Call>
[[nodiscard]] auto at_once(Call call) noexcept {
  for (;;) {
    const auto r = call();
    if (r >= 0) return r;
    if (errno != EINTR) return static_cast<decltype(r + 0)>(-errno);
  }
}

[[nodiscard]] inline std::error_code code_of(int error) noexcept { return {error, std::generic_category()}; }

/// Throws "weft: cannot `what` descriptor `on`: …".
[[noreturn, gnu::cold]] void fail(int error, const char* what, handle on);
/// Throws "weft: cannot `what`: …".
[[noreturn, gnu::cold]] void fail(std::error_code code, const std::string& what);

template <class R>
R value(R r, const char* what, handle on) {
  if (r < 0) [[unlikely]] fail(static_cast<int>(-r), what, on);
  return r;
}
template <class R>
R value(R r, std::error_code& ec) noexcept {
  if (r < 0) [[unlikely]] {
    ec = code_of(static_cast<int>(-r));
    return R{-1};
  }
  ec.clear();
  return r;
}

inline std::size_t count(result r, const char* what, handle on) { return static_cast<std::size_t>(value(r, what, on)); }
inline std::size_t count(result r, std::error_code& ec) noexcept {
  const result n = value(r, ec);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

}  // namespace weft::io::detail
