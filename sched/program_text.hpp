// Where the program's own machine code lies, as opposed to that of shared libraries.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace weft::sched {

/// The executable segments of the program. Asks the dynamic linker once; `contains` serves in a signal handler.
class program_text {
 public:
  program_text() noexcept;
  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      if (address - ranges_[i].low < ranges_[i].size) return true;
    }
    return false;
  }
  /// True when malloc is part of it, or all of the C library: then code that other threads must not find half-way is, too.
  [[nodiscard]] bool holds_allocator() const noexcept;

 private:
  struct range {
    std::uintptr_t low = 0;
    std::size_t size = 0;
  };
  std::array<range, 4> ranges_{};
  std::size_t count_ = 0;
  bool is_static_ = true;  // it needs no dynamic linker
};

}  // namespace weft::sched
