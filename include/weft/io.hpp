// Blocking calls on descriptors, shaped as in POSIX: each parks the calling thread, never the kernel thread.
// Typed classes over them: net.hpp (sockets), file.hpp (files and pipes), process.hpp (children).
//
// Every call has two forms, and each takes a deadline last:
//
//   std::size_t n = io::read(fd, buffer);            // throws std::system_error: "weft: cannot read from descriptor 7: …"
//   std::size_t n = io::read(fd, buffer, ec);        // sets `ec` (cleared on success), as in std::filesystem
//   std::size_t n = io::read(fd, buffer, deadline);  // and io::read(fd, buffer, ec, deadline)
//
// What holds for all of them:
// - Errors are errno values in the generic category; those of weft are timed_out (the deadline came first),
//   bad_file_descriptor (also: somebody closed it meanwhile) and operation_not_permitted (not on a weft thread; always
//   thrown). EINTR never reaches the caller. A thread asked to end gets `weft::cancelled` thrown out of either form.
// - When a call returns or throws, the kernel has let go of its buffers.
// - `close` ends the calls that wait on the descriptor, with bad_file_descriptor. A call on a file which the kernel has begun
//   goes on and returns what it did to that file: for one in flight in the ring `close` does not wait, for one that a worker
//   kernel thread makes (`upcall::transfer`) it does. None ever reaches the file that the number names next. This holds for
//   closing through weft: a number that `::close` takes away during a call on it is as dangerous as between kernel threads.
// - Short transfers are normal, end of file is 0. Beyond 2 GiB less a page, a transfer is cut there, as Linux does.
// - Descriptors made here are close-on-exec, and non-blocking where that means anything.
// - No call on a socket raises SIGPIPE, except `write` and `writev`; those, and writes to a pipe that nobody reads, raise it
//   as write(2) does. Ignore it (`std::signal(SIGPIPE, SIG_IGN)`, as every server does) and they fail with broken_pipe.
// - Cost: that of the system call, and a switch when the thread must wait. No call allocates unless it fails.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <ranges>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "weft/upcall.hpp"

namespace weft::io {

namespace detail {

template <class R>
concept contiguous_bytes = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
                           std::is_trivially_copyable_v<std::ranges::range_value_t<R>>;

template <class R>
concept writable_bytes = contiguous_bytes<R> && !std::is_const_v<std::remove_reference_t<std::ranges::range_reference_t<R>>>;

template <class R>
concept literal = std::is_array_v<std::remove_reference_t<R>> && std::is_same_v<std::ranges::range_reference_t<R>, const char&>;

}  // namespace detail

/// Memory to fill: what every reading call takes. Made by itself from `std::span<std::byte>` and any contiguous range of
/// trivially copyable elements (`char line[256]`, `std::string&`, `std::vector<int>&`): all of its bytes.
class buffer {
 public:
  constexpr buffer() noexcept = default;
  constexpr buffer(void* data, std::size_t size) noexcept : data_(data), size_(size) {}
  template <detail::writable_bytes R>
    requires(!std::same_as<std::remove_cvref_t<R>, buffer>)
  constexpr buffer(R&& range) noexcept  // NOLINT: implicit on purpose
      : data_(std::ranges::data(range)), size_(std::ranges::size(range) * sizeof(std::ranges::range_value_t<R>)) {}

  [[nodiscard]] constexpr void* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// The rest after the first `n` bytes; empty when there is none.
  [[nodiscard]] buffer from(std::size_t n) const noexcept {
    return n < size_ ? buffer(static_cast<std::byte*>(data_) + n, size_ - n) : buffer();
  }
  /// As an element of a vector for `readv`.
  [[nodiscard]] iovec vector() const noexcept { return {data_, size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Bytes to write: what every writing call takes. Made by itself from `std::span<const std::byte>`, `std::string_view`, any
/// contiguous range of trivially copyable elements, and from a string literal (without its terminating zero). An array
/// of const char that is no literal does not compile: say `std::string_view` or `std::span`, whichever is meant.
class const_buffer {
 public:
  constexpr const_buffer() noexcept = default;
  constexpr const_buffer(const void* data, std::size_t size) noexcept : data_(data), size_(size) {}
  constexpr const_buffer(buffer b) noexcept : data_(b.data()), size_(b.size()) {}  // NOLINT: implicit on purpose
  template <std::size_t N>
  consteval const_buffer(const char (&literal)[N]) : data_(literal), size_(N - 1) {  // NOLINT: implicit on purpose
    if (literal[N - 1] != '\0') throw "weft: an array of const char that does not end in zero is no literal";
  }
  template <detail::contiguous_bytes R>
    requires(!std::same_as<std::remove_cvref_t<R>, const_buffer> && !detail::literal<R>)
  constexpr const_buffer(R&& range) noexcept  // NOLINT: implicit on purpose
      : data_(std::ranges::data(range)), size_(std::ranges::size(range) * sizeof(std::ranges::range_value_t<R>)) {}

  [[nodiscard]] constexpr const void* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// The rest after the first `n` bytes; empty when there is none.
  [[nodiscard]] const_buffer from(std::size_t n) const noexcept {
    return n < size_ ? const_buffer(static_cast<const std::byte*>(data_) + n, size_ - n) : const_buffer();
  }
  /// As an element of a vector for `writev`.
  [[nodiscard]] iovec vector() const noexcept { return {const_cast<void*>(data_), size_}; }

 private:
  const void* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The path of a file: made by itself from `const char*`, `std::string` and `std::filesystem::path`. Points to it.
class path_ref {
 public:
  constexpr path_ref(const char* path) noexcept : path_(path) {}  // NOLINT: implicit on purpose
  template <class P>
    requires requires(const P& p) { { p.c_str() } -> std::same_as<const char*>; }
  path_ref(const P& path) noexcept : path_(path.c_str()) {}  // NOLINT: implicit on purpose
  [[nodiscard]] constexpr const char* c_str() const noexcept { return path_; }

 private:
  const char* path_;
};

/// Owns a descriptor and closes it. Every call of this header takes one in place of a number, and is cheaper with it: the
/// reactor trusts its registration. Do not close its number behind its back (`::close`): use `close` or `release`.
///
/// Threads of one scheduler may use one descriptor at the same time (say one reads, one writes). Closing it ends their calls
/// with bad_file_descriptor, wherever it is closed: on another kernel thread, or by a thread of another scheduler, that is left
/// to the scheduler which has used it, if that still runs. Then the number is closed when that one takes upcalls next, a moment
/// later, and errors of close(2) are not told. (Closing an object that somebody is just about to use is a race, as ever.)
/// To hand one to another scheduler, `release` it there where it was used.
class descriptor {
 public:
  descriptor() noexcept = default;
  /// Takes ownership of `fd`; negative: of nothing.
  explicit descriptor(int fd) noexcept : fd_(fd), fresh_(true) {}
  descriptor(descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)), fresh_(other.fresh_) {}
  descriptor& operator=(descriptor&& other) noexcept;
  /// Closes and ignores errors: call `close` where they matter. Works on any kernel thread, also for a thread asked to end.
  ~descriptor();

  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int get() const noexcept { return fd_; }

  /// Closes now; closing twice is nothing. Waiting threads get bad_file_descriptor. The number is gone also when it throws.
  void close();
  void close(std::error_code& ec);

  /// Gives the open file away and leaves this empty. @returns its new number: a duplicate, so that whoever still waits on
  /// the old one is woken as by `close`.
  /// @throws std::system_error(too_many_files_open)
  [[nodiscard]] int release();

 private:
  friend class handle;
  int fd_ = -1;
  mutable bool fresh_ = false;  // no call used it yet: what a reactor knows of the number is of an earlier open file
};

/// What a call works on: a descriptor's number, or its owner. Made by itself from both.
class handle {
 public:
  constexpr handle(int fd) noexcept : fd_(fd) {}                                       // NOLINT: implicit on purpose
  handle(const descriptor& owner) noexcept : fd_(owner.get()), owner_(&owner) {}       // NOLINT: implicit on purpose
  [[nodiscard]] constexpr int fd() const noexcept { return fd_; }
  [[nodiscard]] constexpr bool owned() const noexcept { return owner_ != nullptr; }
  /// The mark of an owner that no call used yet, to be cleared by the one that does (`operation::fresh`); otherwise null.
  [[nodiscard]] bool* fresh() const noexcept { return owner_ != nullptr && owner_->fresh_ ? &owner_->fresh_ : nullptr; }

 private:
  int fd_;
  const descriptor* owner_ = nullptr;
};

/// What only weft's own calls report. Comparable with `std::error_code`.
enum class error {
  end_of_file = 1,  ///< `read_exactly` met the end before the last byte
};
[[nodiscard]] const std::error_category& category() noexcept;
[[nodiscard]] inline std::error_code make_error_code(error e) noexcept { return {static_cast<int>(e), category()}; }

/// Thrown by `read_exactly` and `write_all`: an error that says how far the transfer came.
class transfer_error : public std::system_error {
 public:
  transfer_error(std::error_code code, const std::string& what, std::size_t transferred)
      : std::system_error(code, what), transferred_(transferred) {}
  /// Bytes that did arrive or leave before the error.
  [[nodiscard]] std::size_t transferred() const noexcept { return transferred_; }

 private:
  std::size_t transferred_;
};

/// openat(2) at the working directory, with O_CLOEXEC. A FIFO parks the thread until its other end is opened, unless `flags`
/// has O_NONBLOCK. The kernel does not tell when that happens: it is looked for after a millisecond, then less and less often, at
/// last four times a second. So a peer that comes late is noticed up to a quarter of a second later, and each thread that
/// waits so costs some 10 µs of processor time a second.
/// A file on which another process holds a lease (fcntl(2), F_SETLEASE) occupies a worker kernel thread until that gives it up
/// or the kernel takes it (45 s): until then neither a deadline nor a cancellation ends the call.
/// @returns the descriptor; the caller closes it, best by handing it to a `descriptor` at once.
[[nodiscard]] int open(path_ref path, int flags, mode_t mode = 0666, time_point deadline = never);
[[nodiscard]] int open(path_ref path, int flags, std::error_code& ec, time_point deadline = never);
[[nodiscard]] int open(path_ref path, int flags, mode_t mode, std::error_code& ec, time_point deadline = never);

/// close(2). Threads of this scheduler that wait on `fd` are woken with bad_file_descriptor first; those of others are only where
/// the number has an owner (`descriptor`). A thread asked to end still closes.
void close(int fd);
void close(int fd, std::error_code& ec);

/// read(2): some bytes, at least one unless the end (0) was met or `to` is empty.
std::size_t read(handle from, buffer to, time_point deadline = never);
std::size_t read(handle from, buffer to, std::error_code& ec, time_point deadline = never);

/// write(2): some bytes of `data`.
std::size_t write(handle to, const_buffer data, time_point deadline = never);
std::size_t write(handle to, const_buffer data, std::error_code& ec, time_point deadline = never);

/// pread(2), pwrite(2): at byte `offset` of a file; the file position is neither used nor moved.
std::size_t pread(handle from, buffer to, off_t offset, time_point deadline = never);
std::size_t pread(handle from, buffer to, off_t offset, std::error_code& ec, time_point deadline = never);
std::size_t pwrite(handle to, const_buffer data, off_t offset, time_point deadline = never);
std::size_t pwrite(handle to, const_buffer data, off_t offset, std::error_code& ec, time_point deadline = never);

/// readv(2), writev(2): one transfer through several buffers in order (`buffer::vector`). Of more than IOV_MAX (1,024)
/// buffers the first 1,024 are used: a short transfer, as any other.
std::size_t readv(handle from, std::span<const iovec> to, time_point deadline = never);
std::size_t readv(handle from, std::span<const iovec> to, std::error_code& ec, time_point deadline = never);
std::size_t writev(handle to, std::span<const iovec> data, time_point deadline = never);
std::size_t writev(handle to, std::span<const iovec> data, std::error_code& ec, time_point deadline = never);

/// Reads until `to` is full.
/// @returns the bytes read; the error_code form returns them with every error: end_of_file, timed_out, … and also
///          operation_canceled when the thread was asked to end after part had arrived (the next call throws `cancelled`).
/// @throws transfer_error, which carries the count; weft::cancelled.
std::size_t read_exactly(handle from, buffer to, time_point deadline = never);
std::size_t read_exactly(handle from, buffer to, std::error_code& ec, time_point deadline = never);

/// Writes all of `data`. Returns and throws as `read_exactly`; the bytes counted were taken by the kernel.
std::size_t write_all(handle to, const_buffer data, time_point deadline = never);
std::size_t write_all(handle to, const_buffer data, std::error_code& ec, time_point deadline = never);

/// fsync(2), fdatasync(2). The data is safe when it returns.
void fsync(handle file, time_point deadline = never);
void fsync(handle file, std::error_code& ec, time_point deadline = never);
void fdatasync(handle file, time_point deadline = never);
void fdatasync(handle file, std::error_code& ec, time_point deadline = never);

/// poll(2) of one descriptor: waits until one of `events` (POLLIN, POLLOUT, …), an error or a hang-up is true.
/// @returns what is true, or 0 when `deadline` came first (no error, as there). Regular files are always ready.
int poll(handle on, short events, time_point deadline = never);
int poll(handle on, short events, std::error_code& ec, time_point deadline = never);

/// pipe2(2). @returns the end to read from and the end to write to. Never blocks; callable from any kernel thread.
[[nodiscard]] std::array<int, 2> pipe();
[[nodiscard]] std::array<int, 2> pipe(std::error_code& ec);

/// socket(2). Never blocks; callable from any kernel thread.
[[nodiscard]] int socket(int domain, int type, int protocol = 0);
[[nodiscard]] int socket(int domain, int type, int protocol, std::error_code& ec);

/// bind(2), listen(2), shutdown(2). Never block; callable from any kernel thread. `shutdown` wakes waiting threads.
void bind(handle socket, const sockaddr* address, socklen_t length);
void bind(handle socket, const sockaddr* address, socklen_t length, std::error_code& ec);
void listen(handle socket, int backlog = SOMAXCONN);
void listen(handle socket, int backlog, std::error_code& ec);
void shutdown(handle socket, int how);
void shutdown(handle socket, int how, std::error_code& ec);

/// accept4(2). `address` and `length` as there, or null. Sets O_NONBLOCK on a listener that has it not, for everybody who uses
/// that open file: accept cannot be told in any other way not to wait. @returns the new descriptor.
[[nodiscard]] int accept(handle listener, time_point deadline = never);
[[nodiscard]] int accept(handle listener, std::error_code& ec, time_point deadline = never);
[[nodiscard]] int accept(handle listener, sockaddr* address, socklen_t* length, time_point deadline = never);
[[nodiscard]] int accept(handle listener, sockaddr* address, socklen_t* length, std::error_code& ec, time_point deadline = never);

/// connect(2). After timed_out or `cancelled` the attempt may still be under way: close the socket. Sets O_NONBLOCK on a socket
/// that has it not, as `accept` does. A Unix listener whose queue is full is tried again as a FIFO is by `open`.
void connect(handle socket, const sockaddr* address, socklen_t length, time_point deadline = never);
void connect(handle socket, const sockaddr* address, socklen_t length, std::error_code& ec, time_point deadline = never);

/// send(2), recv(2) with their flags (MSG_PEEK, MSG_WAITALL, …). A datagram longer than `to` is cut, as there. With MSG_DONTWAIT
/// they do not wait but fail with resource_unavailable_try_again, as there.
std::size_t send(handle socket, const_buffer data, int flags = 0, time_point deadline = never);
std::size_t send(handle socket, const_buffer data, int flags, std::error_code& ec, time_point deadline = never);
std::size_t recv(handle socket, buffer to, int flags = 0, time_point deadline = never);
std::size_t recv(handle socket, buffer to, int flags, std::error_code& ec, time_point deadline = never);

}  // namespace weft::io

template <>
struct std::is_error_code_enum<weft::io::error> : std::true_type {};
