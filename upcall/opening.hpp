// open(2) without holding up the processor. Three things make it wait: a path that is not in memory, a FIFO without its other
// end, and a lease held by somebody else.
#pragma once

#include <cstdint>

#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// Opens if the whole path is in memory. @returns the descriptor, a negative errno, or -EAGAIN: it cannot tell without waiting.
/// A FIFO is opened as by `open_here`.
[[nodiscard]] std::int32_t open_without_waiting(const operation& op) noexcept;

/// Opens, however long the path takes, but does not wait for the other end of a FIFO: see `lacks_other_end`.
[[nodiscard]] std::int32_t open_here(const operation& op) noexcept;

/// True when `result` (of an open that did not wait) is that of a FIFO whose other end nobody has opened, and the caller of
/// open(2) would still wait: -ENXIO for a writer, a descriptor for a reader.
[[nodiscard]] bool lacks_other_end(const operation& op, std::int32_t result) noexcept;

/// Looks again. @returns the descriptor, a negative errno, or -EAGAIN while the other end is still missing. `held` is the
/// descriptor of a reader, -ENXIO for a writer.
[[nodiscard]] std::int32_t open_other_end(const operation& op, std::int32_t held) noexcept;

}  // namespace weft::upcall::engine
