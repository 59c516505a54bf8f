// Numbers as people read them, and the terminal they read them on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

[[nodiscard]] std::string grouped(std::uint64_t number);                         ///< "12,345"
[[nodiscard]] std::string fixed(double number, int digits);                      ///< "1.204"
[[nodiscard]] std::string milliseconds(double ms);                               ///< "1,204 ms", "1.2 ms"
[[nodiscard]] std::string megabytes(std::uint64_t bytes);                        ///< "61.2 MB"
[[nodiscard]] std::string counted(std::uint64_t number, std::string_view noun);  ///< "1 file", "12 files"
[[nodiscard]] std::string left(std::string text, std::size_t width);             ///< padded on the right
[[nodiscard]] std::string right(const std::string& text, std::size_t width);     ///< padded on the left
/// Control characters, which a path may hold, become '?'.
[[nodiscard]] std::string printable(std::string text);
/// The same, and of a path that is too long the end, with "..." before it.
[[nodiscard]] std::string shown(const std::string& path, std::size_t width);

/// Columns of the terminal on standard output, from 60 to 160; 100 when it is none, or what COLUMNS says.
[[nodiscard]] std::size_t terminal_columns();
/// A headline: bold on a terminal that can.
[[nodiscard]] std::string headline(const std::string& text);
