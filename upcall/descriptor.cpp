// open, close, pipe, and the class that owns a descriptor.
#include <fcntl.h>
#include <unistd.h>

#include "upcall/io_call.hpp"
#include "upcall/owned_descriptors.hpp"
#include "weft/detail/abi.hpp"
#include "weft/io.hpp"

namespace weft::io {

using detail::result;

namespace {

result open_path(path_ref path, int flags, mode_t mode, time_point deadline) {
  upcall::operation asked = detail::request(upcall::opcode::open, AT_FDCWD);
  asked.address = const_cast<char*>(path.c_str());
  asked.flags = flags | O_CLOEXEC;
  asked.mode = mode;
  const result fd = detail::carry_out(asked, deadline);
  // A FIFO or a terminal is opened as the caller says (a FIFO then waits for its other end), but used without blocking. What
  // cannot seek is recognised by that: it costs a tenth of what opening a file does.
  if (fd >= 0 && (flags & O_NONBLOCK) == 0 && ::lseek(fd, 0, SEEK_CUR) < 0 && errno == ESPIPE) {
    static_cast<void>(::fcntl(fd, F_SETFL, flags | O_NONBLOCK));
  }
  return fd;
}

// Off a weft thread (say a socket in a static object) an owner's number is left to the reactor that has worked on it, if that
// still lives. What it knows of any other is then of a file that is gone: the number's next owner is `fresh` and says so.
// EINTR is no error here: on Linux the descriptor is gone, and closing it again could close somebody else's.
result close_now(int fd, bool owned) {
  if (fd < 0) return -EBADF;
  result r = 0;
  if (!weft::detail::on_weft_thread()) {
    r = (owned && upcall::engine::owned_descriptors::leave_to_owner(fd)) || ::close(fd) == 0 ? 0 : -errno;
  } else {
    upcall::operation asked = detail::request(upcall::opcode::close, fd);
    asked.owned = owned;
    r = weft::detail::perform(asked);
  }
  return r == -EINTR ? 0 : r;
}

result new_pipe(std::array<int, 2>& ends) noexcept {
  return detail::at_once([&] { return ::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK); });
}

int opened(path_ref path, result fd) {
  if (fd < 0) [[unlikely]] detail::fail(detail::code_of(-fd), "open '" + std::string(path.c_str()) + "'");
  return fd;
}

}  // namespace

int open(path_ref path, int flags, mode_t mode, time_point deadline) {
  return opened(path, open_path(path, flags, mode, deadline));
}
int open(path_ref path, int flags, std::error_code& ec, time_point deadline) {
  return detail::value(open_path(path, flags, 0666, deadline), ec);
}
int open(path_ref path, int flags, mode_t mode, std::error_code& ec, time_point deadline) {
  return detail::value(open_path(path, flags, mode, deadline), ec);
}

void close(int fd) { detail::value(close_now(fd, false), "close", fd); }
void close(int fd, std::error_code& ec) { detail::value(close_now(fd, false), ec); }

std::array<int, 2> pipe() {
  std::array<int, 2> ends{-1, -1};
  const result r = new_pipe(ends);
  if (r < 0) detail::fail(detail::code_of(-r), "make a pipe");
  return ends;
}
std::array<int, 2> pipe(std::error_code& ec) {
  std::array<int, 2> ends{-1, -1};
  detail::value(new_pipe(ends), ec);
  return ends;
}

descriptor& descriptor::operator=(descriptor&& other) noexcept {
  descriptor old(std::exchange(fd_, std::exchange(other.fd_, -1)));
  fresh_ = other.fresh_;
  return *this;
}

descriptor::~descriptor() {
  if (fd_ < 0) return;
  std::error_code ignored;
  close(ignored);
}

// The number is forgotten first: whoever uses this object while the close is under way finds it closed.
void descriptor::close() {
  if (fd_ < 0) return;
  const int fd = std::exchange(fd_, -1);
  detail::value(close_now(fd, true), "close", fd);
}

void descriptor::close(std::error_code& ec) {
  ec.clear();
  if (fd_ < 0) return;
  detail::value(close_now(std::exchange(fd_, -1), true), ec);
}

int descriptor::release() {
  const int copy = detail::at_once([&] { return ::fcntl(fd_, F_DUPFD_CLOEXEC, 0); });
  detail::value(copy, "release", *this);
  close();
  return copy;
}

}  // namespace weft::io
