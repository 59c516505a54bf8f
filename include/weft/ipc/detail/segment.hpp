// Memory that two processes share: one sealed memfd, mapped by both.
#pragma once

#include <cstddef>
#include <utility>

#include "weft/io.hpp"

namespace weft::ipc::detail {

/// Owns a mapping and the descriptor of its memory, which may be passed to another process. Neither process can change its size,
/// so no access is ever out of it. The peer may write to it at any time, whatever was agreed, and may punch holes, which read as
/// zeros: so what comes out of it is copied first and then looked at, once.
class segment {
 public:
  segment() noexcept = default;
  segment(segment&& other) noexcept
      : memory_(std::move(other.memory_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  segment& operator=(segment&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~segment();

  /// New memory, zeroed, of at least `bytes`; `name` shows in /proc. @throws std::system_error
  [[nodiscard]] static segment create(std::size_t bytes, const char* name);
  /// Maps memory that a peer made. @throws std::system_error: invalid_argument when it is no memfd, is not sealed against
  /// shrinking and growing, or has not between `least` and `most` bytes; the text says which.
  [[nodiscard]] static segment adopt(io::descriptor memory, std::size_t least, std::size_t most);

  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }  ///< bytes, whole pages
  [[nodiscard]] int memory() const noexcept { return memory_.get(); }

 private:
  void map();

  io::descriptor memory_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace weft::ipc::detail
