// Which function an address lies in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weft::sched {

struct symbol {
  char name[1024];            ///< as the linker knows it, cut off when longer; "" when unknown
  std::uintptr_t offset = 0;  ///< of the address in the function; in the file when that is unknown
  const char* file = "";      ///< the program or library, without its directory; the dynamic linker's memory
};

/// Looks `address` up in the symbol table of the file that was loaded there, local functions included, or in the one for
/// linking when the other was stripped.
///
/// Calls no malloc, so that it serves in a signal handler: it maps the file and searches the table from end to end. The one
/// lock it takes is the dynamic linker's, which is recursive. libunwind's own look-up (unw_get_proc_name) calls malloc.
void find_symbol(std::uintptr_t address, symbol& out) noexcept;

}  // namespace weft::sched
