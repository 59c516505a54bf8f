#include "upcall/json_text.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace weft::trace {
namespace {

constexpr std::string_view hexadecimal = "0123456789abcdef";

unsigned byte_at(std::string_view text, std::size_t place) noexcept { return static_cast<unsigned char>(text[place]); }

// Bytes of the UTF-8 character at the start of `text`; 0 when they are not one (RFC 3629: neither overlong nor a surrogate).
std::size_t utf8_length(std::string_view text) noexcept {
  const unsigned first = byte_at(text, 0);
  if (first < 0x80) return 1;
  const std::size_t length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80; };
  if (!std::all_of(text.begin() + 1, text.begin() + static_cast<std::ptrdiff_t>(length), continues)) return 0;
  const unsigned second = byte_at(text, 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate = first == 0xED && second >= 0xA0;
  const bool too_large = first == 0xF4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

void append_ascii(std::string& to, char c) {
  const auto value = static_cast<unsigned char>(c);
  if (c == '"' || c == '\\') {
    to += '\\';
    to += c;
  } else if (value < 0x20) {
    to += "\\u00";
    to += hexadecimal[value >> 4U];
    to += hexadecimal[value & 15U];
  } else {
    to += c;
  }
}

}  // namespace

void append_json_string(std::string& to, std::string_view text) {
  to += '"';
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      to += "\\ufffd";
    } else if (length == 1) {
      append_ascii(to, text.front());
    } else {
      to += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  to += '"';
}

}  // namespace weft::trace
