#include "sched/program_text.hpp"

#include <link.h>

#include <span>

namespace weft::sched {

program_text::program_text() noexcept {
  constexpr auto visit = [](dl_phdr_info* loaded, std::size_t, void* data) {
    auto& self = *static_cast<program_text*>(data);
    for (const auto& segment : std::span(loaded->dlpi_phdr, loaded->dlpi_phnum)) {
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0 || self.count_ == self.ranges_.size()) continue;
      self.ranges_[self.count_++] = {loaded->dlpi_addr + segment.p_vaddr, segment.p_memsz};
    }
    return 1;  // the program is the first, and all that is wanted
  };
  dl_iterate_phdr(visit, this);
}

}  // namespace weft::sched
