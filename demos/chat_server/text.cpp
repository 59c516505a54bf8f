#include "text.hpp"

#include <algorithm>
#include <cctype>

bool line_splitter::take(std::string_view piece, const std::function<bool(std::string_view)>& line,
                         const std::function<bool()>& too_long) {
  while (!piece.empty()) {
    const std::size_t end = std::min(piece.find('\n'), piece.size());
    const bool ended = end < piece.size();
    // One byte more than allowed, in case it is the '\r' of a line's end.
    if (!dropping_ && part_.size() + end > longest_ + 1) {
      dropping_ = true;
      part_ = {};
      if (!too_long()) return false;
    }
    if (!dropping_) part_ += piece.substr(0, end);
    piece.remove_prefix(ended ? end + 1 : end);
    if (!ended) return true;
    if (dropping_) {
      dropping_ = false;
      continue;
    }
    if (part_.ends_with('\r')) part_.pop_back();
    const bool go_on = part_.size() > longest_ ? too_long() : line(part_);
    part_.clear();
    if (!go_on) return false;
  }
  return true;
}

void line_splitter::finish(const std::function<bool(std::string_view)>& line, const std::function<bool()>& too_long) {
  if (!part_.empty()) take("\n", line, too_long);
}

namespace {

// Bytes of the character that begins at `text`, or 0 when it is no UTF-8 or a control character (U+0080 … U+009F).
std::size_t length_of_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= ' ' && first != 0x7f ? 1 : 0;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4) return 0;
  unsigned code = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0U) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fU);
  }
  const unsigned least = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0xa0;
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  // U+2028, U+2029 end lines, U+202A … U+202E and U+2066 … U+2069 turn the writing direction around.
  const bool turns = (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  return code < least || code > 0x10ffff || surrogate || turns ? 0 : length;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = length_of_character(text);
    if (length != 0) {
      clean += text.substr(0, length);
    } else {
      clean += text.front() == '\t' ? ' ' : '?';
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return clean;
}

bool good_name(std::string_view name) {
  const auto fits = [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_'); };
  return !name.empty() && name.size() <= 20 && std::ranges::all_of(name, fits);
}

std::string_view take_word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(std::min(text.find_first_not_of(' ', end), text.size()));
  return word;
}
