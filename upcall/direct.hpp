// The plain system calls behind operations: without waiting, and, for worker kernel threads, with it.
#pragma once

#include <cstdint>

#include "upcall/descriptor_table.hpp"
#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// Makes the transfer that `op` asks for if that is possible without waiting. Readiness in `entry` is not touched; what is
/// found out about the descriptor's abilities is kept there.
/// @returns its result, or -EAGAIN.
[[nodiscard]] std::int32_t call_without_waiting(operation& op, descriptor_entry& entry) noexcept;

/// The same for a file: -EAGAIN when it would have to wait for the disk, or nobody can tell. May leave a part done:
/// `op.address`, `op.length` and `op.offset` then name the rest, and `op.result` counts what is done.
[[nodiscard]] std::int32_t file_without_waiting(operation& op, descriptor_entry& entry) noexcept;

/// What a file operation has come to when its rest ended with `result`: the part that was done before counts.
[[nodiscard]] std::int32_t part_or(const operation& op, std::int32_t result) noexcept;

/// Carries out a file operation (read, write, open, sync) however long it takes. For worker kernel threads.
[[nodiscard]] std::int32_t call_and_wait(operation& op) noexcept;

/// Sets O_NONBLOCK: for connect and accept, which cannot be told in any other way not to wait. @returns 0 or a negative errno.
int set_nonblocking(int fd) noexcept;

}  // namespace weft::upcall::engine
