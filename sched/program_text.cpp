#include "sched/program_text.hpp"

#include <dlfcn.h>
#include <link.h>

#include <span>

namespace weft::sched {

program_text::program_text() noexcept {
  constexpr auto visit = [](dl_phdr_info* loaded, std::size_t, void* data) {
    auto& self = *static_cast<program_text*>(data);
    for (const auto& segment : std::span(loaded->dlpi_phdr, loaded->dlpi_phnum)) {
      if (segment.p_type == PT_INTERP) self.is_static_ = false;
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0 || self.count_ == self.ranges_.size()) continue;
      self.ranges_[self.count_++] = {loaded->dlpi_addr + segment.p_vaddr, segment.p_memsz};
    }
    return 1;  // the program is the first, and all that is wanted
  };
  dl_iterate_phdr(visit, this);
}

// A program may have a stub of its own for a library's function, by which the dynamic linker knows it: an undefined symbol.
bool program_text::holds_allocator() const noexcept {
  if (is_static_) return true;
  const void* const found = ::dlsym(RTLD_DEFAULT, "malloc");
  Dl_info where{};
  const ElfW(Sym)* symbol = nullptr;
  if (found == nullptr || !contains(reinterpret_cast<std::uintptr_t>(found))) return false;
  if (::dladdr1(found, &where, const_cast<void**>(reinterpret_cast<const void**>(&symbol)), RTLD_DL_SYMENT) == 0) return true;
  return symbol == nullptr || symbol->st_shndx != SHN_UNDEF;
}

}  // namespace weft::sched
