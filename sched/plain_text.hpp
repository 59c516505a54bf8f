// Text put together without malloc, for signal handlers and the last words of a broken program.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft::sched {

/// A text of at most 1,400 bytes; what does not fit is cut off. Everything here is async-signal-safe.
class plain_text {
 public:
  plain_text& operator<<(std::string_view text) noexcept {
    const std::size_t fits = std::min(text.size(), bytes_.size() - size_);
    std::copy_n(text.data(), fits, bytes_.data() + size_);
    size_ += fits;
    return *this;
  }
  plain_text& operator<<(std::unsigned_integral auto number) noexcept { return put(number, 10); }
  plain_text& hex(std::uintptr_t number) noexcept { return (*this << "0x").put(number, 16); }

  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.data(), size_}; }

 private:
  plain_text& put(std::uintmax_t number, int base) noexcept {
    char digits[20];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, number, base);
    return *this << std::string_view(digits, error == std::errc{} ? static_cast<std::size_t>(end - digits) : 0);
  }

  std::array<char, 1400> bytes_;
  std::size_t size_ = 0;
};

}  // namespace weft::sched
