#include "text.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>

std::string grouped(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

std::string fixed(double number, int digits) {
  char text[64];
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%.*f", digits, number))};
}

std::string milliseconds(double ms) {
  return (ms < 99.95 ? fixed(ms, 1) : grouped(static_cast<std::uint64_t>(ms + 0.5))) + " ms";
}

std::string megabytes(std::uint64_t bytes) {
  const double mb = static_cast<double>(bytes) / 1e6;
  return (mb < 999.95 ? fixed(mb, 1) : grouped(static_cast<std::uint64_t>(mb + 0.5))) + " MB";
}

std::string counted(std::uint64_t number, std::string_view noun) {
  return grouped(number) + ' ' + std::string(noun) + (number == 1 ? "" : "s");
}

std::string left(std::string text, std::size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text;
}

std::string right(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string printable(std::string text) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  std::replace_if(text.begin(), text.end(), control, '?');
  return text;
}

std::string shown(const std::string& path, std::size_t width) {
  if (path.size() <= width) return printable(path);
  std::size_t begin = path.size() - width + 3;
  while (begin < path.size() && (static_cast<unsigned char>(path[begin]) & 0xC0U) == 0x80) ++begin;  // inside a character
  return printable("..." + path.substr(begin));
}

std::size_t terminal_columns() {
  winsize size{};
  std::size_t columns = 0;
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    columns = size.ws_col;
  } else if (const char* const text = std::getenv("COLUMNS")) {
    std::from_chars(text, text + std::string_view(text).size(), columns);
  }
  return columns == 0 ? 100 : std::clamp<std::size_t>(columns, 60, 160);
}

std::string headline(const std::string& text) {
  const char* const terminal = std::getenv("TERM");
  const bool bold = ::isatty(STDOUT_FILENO) != 0 && terminal != nullptr && std::string_view(terminal) != "dumb";
  return bold && std::getenv("NO_COLOR") == nullptr ? "\033[1m" + text + "\033[0m" : text;
}
