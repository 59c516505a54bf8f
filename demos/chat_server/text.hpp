// The text that goes in and out: lines of limited length, and nothing that could harm somebody's terminal.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

/// Cuts what a client sends into lines, whatever the pieces in which it arrives.
class line_splitter {
 public:
  explicit line_splitter(std::size_t longest) : longest_(longest) {}

  /// Takes a piece; calls `line(text)` for every line that ended, without "\n" or "\r\n", and `too_long()` once for each that
  /// is longer than allowed: that is dropped up to its end, and takes no memory. Either may return false to stop.
  /// @returns whether all of the piece was taken
  bool take(std::string_view piece, const std::function<bool(std::string_view)>& line, const std::function<bool()>& too_long);

  /// Nothing more will come: what came after the last line's end is a line, too.
  void finish(const std::function<bool(std::string_view)>& line, const std::function<bool()>& too_long);

 private:
  std::size_t longest_;
  std::string part_;
  bool dropping_ = false;
};

/// The text with '?' in the place of control characters (tabs become spaces), of bytes that are no UTF-8, and of what
/// terminals take for control characters in it.
[[nodiscard]] std::string printable(std::string_view text);

/// Whether it may name a person or a room: 1 to 20 letters, digits, '-' and '_' of ASCII.
[[nodiscard]] bool good_name(std::string_view name);

/// Takes the first word off `text` and the spaces after it.
std::string_view take_word(std::string_view& text);
