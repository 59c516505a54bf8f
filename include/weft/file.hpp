// Files and pipes with types. Each call parks the calling thread only.
//
//   weft::file log("server.log", weft::open_mode::append | weft::open_mode::create);
//   log.write_all("started\n");
//
// Forms, deadlines, errors and buffers are those of io.hpp: read its head first.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <system_error>
#include <utility>

#include "weft/io.hpp"

namespace weft {

/// How to open a file; combine with `|`. The values are those of open(2): its other flags join as `open_mode(O_…)`.
enum class open_mode : int {
  read = O_RDONLY,
  write = O_WRONLY,
  read_write = O_RDWR,
  append = O_WRONLY | O_APPEND,  ///< every write goes to the end
  create = O_CREAT,              ///< make the file when it is not there
  truncate = O_TRUNC,            ///< empty it first
  exclusive = O_EXCL,            ///< with `create`: fail when it is there
  direct = O_DIRECT,             ///< past the page cache; buffers, sizes and offsets aligned to the device's blocks
};
[[nodiscard]] constexpr open_mode operator|(open_mode a, open_mode b) noexcept {
  return static_cast<open_mode>(static_cast<int>(a) | static_cast<int>(b));
}

/// An open file. Reads and writes go to the file position, or with `_at` to any offset without touching it. Threads may use
/// one file at the same time with the `_at` calls; the position is one for all. Movable; destroying it closes it.
class file {
 public:
  /// Not open: every call fails with bad_file_descriptor.
  file() noexcept = default;
  /// Takes over an open file.
  explicit file(io::descriptor owner) noexcept : file_(std::move(owner)) {}
  /// Opens `path`; a file it makes gets `permissions`, less the umask.
  /// @throws std::system_error with the path in its text: no_such_file_or_directory, permission_denied, …
  explicit file(io::path_ref path, open_mode how = open_mode::read, mode_t permissions = 0666, time_point deadline = never);
  /// The same; not open when `ec` is set.
  [[nodiscard]] static file open(io::path_ref path, open_mode how, std::error_code& ec, mode_t permissions = 0666,
                                 time_point deadline = never);

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(file_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return file_; }
  [[nodiscard]] int native_handle() const noexcept { return file_.get(); }

  /// Some bytes from the position, which moves on; 0: end of file.
  std::size_t read(io::buffer to, time_point deadline = never) { return io::read(file_, to, deadline); }
  std::size_t read(io::buffer to, std::error_code& ec, time_point deadline = never) { return io::read(file_, to, ec, deadline); }
  /// Writes some bytes at the position, which moves on.
  std::size_t write(io::const_buffer data, time_point deadline = never) { return io::write(file_, data, deadline); }
  std::size_t write(io::const_buffer data, std::error_code& ec, time_point deadline = never) {
    return io::write(file_, data, ec, deadline);
  }

  /// Some bytes from byte `offset` on; 0: the file ends there or before.
  std::size_t read_at(off_t offset, io::buffer to, time_point deadline = never) {
    return io::pread(file_, to, offset, deadline);
  }
  std::size_t read_at(off_t offset, io::buffer to, std::error_code& ec, time_point deadline = never) {
    return io::pread(file_, to, offset, ec, deadline);
  }
  /// Writes some bytes from byte `offset` on; a gap before it reads as zeros.
  std::size_t write_at(off_t offset, io::const_buffer data, time_point deadline = never) {
    return io::pwrite(file_, data, offset, deadline);
  }
  std::size_t write_at(off_t offset, io::const_buffer data, std::error_code& ec, time_point deadline = never) {
    return io::pwrite(file_, data, offset, ec, deadline);
  }

  /// At the position, as `io::read_exactly` and `io::write_all`: errors carry the bytes done.
  std::size_t read_exactly(io::buffer to, time_point deadline = never) { return io::read_exactly(file_, to, deadline); }
  std::size_t read_exactly(io::buffer to, std::error_code& ec, time_point deadline = never) {
    return io::read_exactly(file_, to, ec, deadline);
  }
  std::size_t write_all(io::const_buffer data, time_point deadline = never) { return io::write_all(file_, data, deadline); }
  std::size_t write_all(io::const_buffer data, std::error_code& ec, time_point deadline = never) {
    return io::write_all(file_, data, ec, deadline);
  }

  /// Bytes in the file. Asks the kernel; waits only where its answer does (network file systems).
  [[nodiscard]] std::uint64_t size() const;
  [[nodiscard]] std::uint64_t size(std::error_code& ec) const;
  /// Cuts or extends the file to `bytes`.
  void resize(std::uint64_t bytes);
  void resize(std::uint64_t bytes, std::error_code& ec);
  /// Moves the position to `offset` bytes from the beginning, and tells where it is.
  void seek(off_t offset);
  [[nodiscard]] off_t position() const;

  /// fsync(2): content and everything about the file are on the disk when it returns.
  void sync(time_point deadline = never) { io::fsync(file_, deadline); }
  void sync(std::error_code& ec, time_point deadline = never) { io::fsync(file_, ec, deadline); }
  /// fdatasync(2): the content is, and what is needed to read it.
  void sync_data(time_point deadline = never) { io::fdatasync(file_, deadline); }
  void sync_data(std::error_code& ec, time_point deadline = never) { io::fdatasync(file_, ec, deadline); }

  /// Closes now: errors of delayed writes are reported here, the destructor swallows them. Other threads' calls on the file end
  /// with bad_file_descriptor, or, where the kernel has begun them, with what they did to it (io.hpp).
  void close() { file_.close(); }
  void close(std::error_code& ec) { file_.close(ec); }

 private:
  io::descriptor file_;
};

/// The end of a pipe to read from.
class pipe_reader {
 public:
  pipe_reader() noexcept = default;
  explicit pipe_reader(io::descriptor end) noexcept : end_(std::move(end)) {}

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(end_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return end_; }

  /// Some bytes, at least one; 0: every writer has closed and the pipe is empty.
  std::size_t read(io::buffer to, time_point deadline = never) { return io::read(end_, to, deadline); }
  std::size_t read(io::buffer to, std::error_code& ec, time_point deadline = never) { return io::read(end_, to, ec, deadline); }
  /// As `io::read_exactly`.
  std::size_t read_exactly(io::buffer to, time_point deadline = never) { return io::read_exactly(end_, to, deadline); }
  std::size_t read_exactly(io::buffer to, std::error_code& ec, time_point deadline = never) {
    return io::read_exactly(end_, to, ec, deadline);
  }
  void close() { end_.close(); }
  void close(std::error_code& ec) { end_.close(ec); }

 private:
  io::descriptor end_;
};

/// The end of a pipe to write to. Writing when every reader has closed fails with broken_pipe, and raises SIGPIPE unless the
/// program ignores it (io.hpp).
class pipe_writer {
 public:
  pipe_writer() noexcept = default;
  explicit pipe_writer(io::descriptor end) noexcept : end_(std::move(end)) {}

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(end_); }
  [[nodiscard]] const io::descriptor& descriptor() const noexcept { return end_; }

  /// Some bytes of `data`. Up to PIPE_BUF (4,096) bytes enter the pipe together or not at all.
  std::size_t write(io::const_buffer data, time_point deadline = never) { return io::write(end_, data, deadline); }
  std::size_t write(io::const_buffer data, std::error_code& ec, time_point deadline = never) {
    return io::write(end_, data, ec, deadline);
  }
  /// As `io::write_all`.
  std::size_t write_all(io::const_buffer data, time_point deadline = never) { return io::write_all(end_, data, deadline); }
  std::size_t write_all(io::const_buffer data, std::error_code& ec, time_point deadline = never) {
    return io::write_all(end_, data, ec, deadline);
  }
  void close() { end_.close(); }
  void close(std::error_code& ec) { end_.close(ec); }

 private:
  io::descriptor end_;
};

/// A new pipe: `weft::pipe p;` or `auto [reader, writer] = weft::pipe();`. For bytes between processes, or to and from code
/// that knows only descriptors; inside a program a channel is faster and typed.
struct pipe {
  /// @throws std::system_error(too_many_files_open). Never blocks.
  pipe();
  pipe_reader reader;
  pipe_writer writer;
};

}  // namespace weft
