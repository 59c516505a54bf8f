// Files and pipes.
#include "weft/file.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include "upcall/io_call.hpp"

namespace weft {

using io::detail::at_once;
using io::detail::code_of;

namespace {

std::int64_t size_of(const io::descriptor& d) noexcept {
  struct stat about {};
  const int r = at_once([&] { return ::fstat(d.get(), &about); });
  return r < 0 ? r : about.st_size;
}

std::int64_t resize_now(const io::descriptor& d, std::uint64_t bytes) noexcept {
  if (bytes > static_cast<std::uint64_t>(INT64_MAX)) return -EFBIG;
  return at_once([&] { return ::ftruncate(d.get(), static_cast<off_t>(bytes)); });
}

}  // namespace

file::file(io::path_ref path, open_mode how, mode_t permissions, time_point deadline)
    : file_(io::open(path, static_cast<int>(how), permissions, deadline)) {}

file file::open(io::path_ref path, open_mode how, std::error_code& ec, mode_t permissions, time_point deadline) {
  return file(io::descriptor(io::open(path, static_cast<int>(how), permissions, ec, deadline)));
}

std::uint64_t file::size() const {
  return static_cast<std::uint64_t>(io::detail::value(size_of(file_), "ask for the size of", file_));
}
std::uint64_t file::size(std::error_code& ec) const {
  const std::int64_t bytes = io::detail::value(size_of(file_), ec);
  return bytes < 0 ? 0 : static_cast<std::uint64_t>(bytes);
}

void file::resize(std::uint64_t bytes) { io::detail::value(resize_now(file_, bytes), "resize", file_); }
void file::resize(std::uint64_t bytes, std::error_code& ec) { io::detail::value(resize_now(file_, bytes), ec); }

void file::seek(off_t offset) {
  io::detail::value(at_once([&] { return ::lseek(file_.get(), offset, SEEK_SET); }), "seek in", file_);
}
off_t file::position() const {
  return io::detail::value(at_once([&] { return ::lseek(file_.get(), 0, SEEK_CUR); }), "ask for the position in", file_);
}

pipe::pipe() {
  const auto [read_end, write_end] = io::pipe();
  reader = pipe_reader(io::descriptor(read_end));
  writer = pipe_writer(io::descriptor(write_end));
}

}  // namespace weft
