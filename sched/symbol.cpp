#include "sched/symbol.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace weft::sched {
namespace {

using elf_header = ElfW(Ehdr);
using elf_section = ElfW(Shdr);
using elf_symbol = ElfW(Sym);

// A file in memory. What it says of itself is believed only as far as its size allows.
class mapped_file {
 public:
  explicit mapped_file(const char* path) noexcept {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    struct stat status {};
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
      size_ = static_cast<std::size_t>(status.st_size);
      void* const memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
      base_ = memory == MAP_FAILED ? nullptr : static_cast<const std::byte*>(memory);
    }
    close(fd);
  }
  ~mapped_file() {
    if (base_ != nullptr) munmap(const_cast<std::byte*>(base_), size_);
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  /// `count` objects at `offset`; none when they do not lie in the file.
  template <class T> [[nodiscard]] std::span<const T> at(std::size_t offset, std::size_t count) const noexcept {
    if (base_ == nullptr || offset > size_ || count > (size_ - offset) / sizeof(T) || offset % alignof(T) != 0) return {};
    return {reinterpret_cast<const T*>(base_ + offset), count};
  }

 private:
  const std::byte* base_ = nullptr;
  std::size_t size_ = 0;
};

std::span<const elf_section> sections_of(const mapped_file& file) noexcept {
  const auto header = file.at<elf_header>(0, 1);
  if (header.empty() || std::memcmp(header[0].e_ident, ELFMAG, SELFMAG) != 0) return {};
  return file.at<elf_section>(header[0].e_shoff, header[0].e_shnum);
}

bool contains(const elf_symbol& s, std::uintptr_t place) noexcept {
  const unsigned type = s.st_info & 0xfU;
  return (type == STT_FUNC || type == STT_GNU_IFUNC) && s.st_shndx != SHN_UNDEF && place >= s.st_value &&
         place - s.st_value < s.st_size;
}

// Searches the tables of one kind for the function at `place`, an address as it stands in the file.
bool search(const mapped_file& file, std::uint32_t kind, std::uintptr_t place, symbol& out) noexcept {
  const auto sections = sections_of(file);
  for (const elf_section& table : sections) {
    if (table.sh_type != kind || table.sh_link >= sections.size()) continue;
    const elf_section& names = sections[table.sh_link];
    const auto text = file.at<char>(names.sh_offset, names.sh_size);
    const auto symbols = file.at<elf_symbol>(table.sh_offset, table.sh_size / sizeof(elf_symbol));
    const auto found = std::find_if(symbols.begin(), symbols.end(), [=](const auto& s) { return contains(s, place); });
    if (found == symbols.end() || found->st_name >= text.size()) continue;
    const std::size_t length = std::min(sizeof out.name - 1, strnlen(&text[found->st_name], text.size() - found->st_name));
    std::memcpy(out.name, &text[found->st_name], length);
    out.name[length] = '\0';
    out.offset = place - found->st_value;
    return true;
  }
  return false;
}

}  // namespace

void find_symbol(std::uintptr_t address, symbol& out) noexcept {
  out.name[0] = '\0';
  Dl_info found{};
  link_map* loaded = nullptr;
  if (dladdr1(reinterpret_cast<const void*>(address), &found, reinterpret_cast<void**>(&loaded), RTLD_DL_LINKMAP) == 0) return;
  if (found.dli_fname != nullptr) {
    const char* const slash = std::strrchr(found.dli_fname, '/');
    out.file = slash == nullptr ? found.dli_fname : slash + 1;
  }
  if (loaded == nullptr) return;
  // The program itself has no name here. This one leads to it even when it was replaced or removed since it started.
  const mapped_file file(*loaded->l_name == '\0' ? "/proc/self/exe" : loaded->l_name);
  const std::uintptr_t place = address - loaded->l_addr;
  out.offset = place;
  if (!search(file, SHT_SYMTAB, place, out)) search(file, SHT_DYNSYM, place, out);
}

}  // namespace weft::sched
