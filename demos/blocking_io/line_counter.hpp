// Counts the lines that contain a fixed string, as `grep -c -F` does, in a file that arrives piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

/// Feed it a file in order, in pieces of any size; it keeps no more of it than the pattern is long.
///
/// Grep's rules: a line counts once however often it matches; the last one needs no line end; in a binary file (one with a
/// NUL byte) a NUL ends a line as '\n' does. Bytes are compared as bytes.
class line_counter {
 public:
  /// @param pattern not empty, without '\n' and '\0'; must outlive this.
  explicit line_counter(std::string_view pattern) : pattern_(pattern) {}

  void take(std::string_view piece);

  [[nodiscard]] std::uint64_t lines() const noexcept { return lines_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool binary() const noexcept { return binary_; }

 private:
  [[nodiscard]] std::size_t find_across(std::string_view piece);
  [[nodiscard]] std::size_t line_end(std::string_view piece, std::size_t from) const;
  void remember_end_of(std::string_view piece);

  std::string_view pattern_;
  std::string carry_;  // the bytes before the next piece in which a match could begin: less than a pattern
  std::uint64_t lines_ = 0;
  std::uint64_t bytes_ = 0;
  bool counted_ = false;  // the line we are in has been counted: its rest is skipped
  bool binary_ = false;
};
