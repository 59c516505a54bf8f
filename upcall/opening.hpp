// open(2) without holding up the processor. Three things make it wait: a path that is not in memory, a FIFO without its other
// end, and a lease held by somebody else.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// A pipe that nothing stays in, made when first needed: to ask a FIFO whether it has a writer.
class scratch_pipe {
 public:
  scratch_pipe() noexcept = default;
  ~scratch_pipe() { close(); }
  scratch_pipe(const scratch_pipe&) = delete;
  scratch_pipe& operator=(const scratch_pipe&) = delete;

  /// Whether a writer has the FIFO behind `reader` open, or had since that was opened.
  [[nodiscard]] bool has_writer(int reader) noexcept;
  /// Gives the descriptors back.
  void close() noexcept;

 private:
  std::array<int, 2> ends_{-1, -1};
};

/// How long to wait before the next look for what no edge tells of, `waited` for in vain so far.
[[nodiscard]] constexpr duration look_again_after(duration waited) noexcept {
  return std::clamp<duration>(waited / 8, std::chrono::milliseconds(1), std::chrono::milliseconds(250));
}

/// Opens if the whole path is in memory. @returns the descriptor, a negative errno, or -EAGAIN: it cannot tell without waiting.
/// A FIFO is opened as by `open_here`.
[[nodiscard]] std::int32_t open_without_waiting(const operation& op) noexcept;

/// Opens, however long the path takes, but does not wait for the other end of a FIFO: see `lacks_other_end`.
[[nodiscard]] std::int32_t open_here(const operation& op) noexcept;

/// True when `result` (of an open that did not wait) is that of a FIFO whose other end nobody has opened, and the caller of
/// open(2) would still wait: -ENXIO for a writer, a descriptor for a reader.
[[nodiscard]] bool lacks_other_end(const operation& op, std::int32_t result, scratch_pipe& scratch) noexcept;

/// Looks again. @returns the descriptor, a negative errno, or -EAGAIN while the other end is still missing. `held` is the
/// descriptor of a reader, -ENXIO for a writer.
[[nodiscard]] std::int32_t open_other_end(const operation& op, std::int32_t held, scratch_pipe& scratch) noexcept;

}  // namespace weft::upcall::engine
