// The loops under read_exactly and write_all of descriptors and sockets.
#pragma once

#include <cstddef>
#include <system_error>
#include <type_traits>

#include "weft/error.hpp"
#include "weft/io.hpp"

namespace weft::io::detail {

/// Throws a transfer_error: "weft: cannot `what` descriptor `on` (`done` of `wanted` bytes done): …".
[[noreturn, gnu::cold]] void fail_transfer(std::error_code code, const char* what, handle on, std::size_t done,
                                           std::size_t wanted);

// Repeats `some(rest, ec)` until nothing of `all` is left. A result of 0 without an error is the end of a file; a write never
// ends so, as its rest is never empty here. An empty transfer is still made once: it finds descriptors that are not open.
template <class Buffer, class Some>
std::size_t whole_until_error(Buffer all, std::size_t& done, std::error_code& ec, Some some) {
  do {
    const std::size_t n = some(all.from(done), ec);
    if (ec) return done;
    if (n == 0 && all.size() != 0) {
      ec = make_error_code(error::end_of_file);
      return done;
    }
    done += n;
  } while (done < all.size());
  return done;
}

// The error_code form. What was done must not be lost when the thread is asked to end, so that `cancelled` waits for the
// thread's next call then: a thread asked to end gets it from every one.
template <class Buffer, class Some>
std::size_t whole(Buffer all, std::error_code& ec, Some some) {
  std::size_t done = 0;
  try {
    whole_until_error(all, done, ec, some);
  } catch (const cancelled&) {
    if (done == 0) throw;
    ec = std::make_error_code(std::errc::operation_canceled);
  }
  return done;
}

// The throwing form.
template <class Buffer, class Some>
std::size_t whole(const char* what, handle on, Buffer all, Some some) {
  std::size_t done = 0;
  std::error_code ec;
  whole_until_error(all, done, ec, some);
  if (ec) [[unlikely]] fail_transfer(ec, what, on, done, all.size());
  return done;
}

}  // namespace weft::io::detail
