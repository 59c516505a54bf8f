#include "weft/ipc/detail/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace weft::ipc::detail {
namespace {

constexpr int fixed_size = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

[[noreturn]] void fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

[[noreturn]] void refuse(const std::string& why) {
  throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                          "weft: shared memory from a peer is refused: " + why);
}

std::size_t whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

segment::~segment() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

segment segment::create(std::size_t bytes, const char* name) {
  segment made;
  made.memory_ = io::descriptor(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made.memory_) fail("weft: the kernel refuses memory that can be shared (memfd_create)");
  made.size_ = whole_pages(bytes);
  if (::ftruncate(made.memory(), static_cast<off_t>(made.size_)) != 0) {
    made.size_ = 0;
    fail("weft: there is not as much memory to share (ftruncate of a memfd)");
  }
  if (::fcntl(made.memory(), F_ADD_SEALS, fixed_size) != 0) fail("weft: memory to share cannot be sealed (F_ADD_SEALS)");
  made.map();
  return made;
}

segment segment::adopt(io::descriptor memory, std::size_t least, std::size_t most) {
  segment made;
  made.memory_ = std::move(memory);
  // The seals first: what is checked after them stays as it is.
  const int seals = ::fcntl(made.memory(), F_GET_SEALS);
  if (seals < 0) refuse("it is no memfd that can be sealed; the peer must make it with MFD_ALLOW_SEALING");
  if ((seals & fixed_size) != fixed_size) refuse("its size is not sealed (F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL)");
  if ((seals & F_SEAL_WRITE) != 0) refuse("it is sealed against writing");
  struct stat status {};
  if (::fstat(made.memory(), &status) != 0) fail("weft: shared memory from a peer cannot be examined (fstat)");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < least || size > most || size != whole_pages(size)) {
    refuse("it has " + std::to_string(size) + " bytes; from " + std::to_string(least) + " to " + std::to_string(most) +
           " in whole pages were agreed");
  }
  made.size_ = size;
  made.map();
  return made;
}

// A child made by fork must not find it: two who think they are one end would corrupt it.
void segment::map() {
  void* const at = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, memory(), 0);
  if (at == MAP_FAILED) fail("weft: shared memory cannot be mapped (RLIMIT_AS, or the machine's own limit)");
  data_ = static_cast<std::byte*>(at);
  static_cast<void>(::madvise(data_, size_, MADV_DONTFORK));
}

}  // namespace weft::ipc::detail
