#include "upcall/opening.hpp"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace weft::upcall::engine {

namespace {

const char* path_of(const operation& op) noexcept { return static_cast<const char*>(op.address); }

int access_mode(const operation& op) noexcept { return op.flags & O_ACCMODE; }

bool is_fifo(const struct stat& about) noexcept { return S_ISFIFO(about.st_mode); }

// The descriptor was opened with O_NONBLOCK so that opening did not wait. The caller did not ask for that.
std::int32_t as_asked(const operation& op, std::int32_t fd) noexcept {
  if (fd >= 0 && (op.flags & O_NONBLOCK) == 0) static_cast<void>(::fcntl(fd, F_SETFL, op.flags & ~O_NONBLOCK));
  return fd;
}

std::int32_t open_with(const operation& op, int more) noexcept {
  for (;;) {
    const int fd = ::openat(op.fd, path_of(op), op.flags | O_CLOEXEC | more, static_cast<mode_t>(op.mode));
    if (fd >= 0 || errno != EINTR) return fd >= 0 ? fd : -errno;
  }
}

}  // namespace

// Data and hang-up tell; without either, tee(2) does: it takes nothing out, and says "try again" only while there is a writer.
bool scratch_pipe::has_writer(int reader) noexcept {
  pollfd asked{reader, POLLIN, 0};
  if (::poll(&asked, 1, 0) > 0) return true;
  if (ends_[0] < 0 && ::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    ends_ = {-1, -1};
    return true;  // out of descriptors: better an early end than none
  }
  const auto copied = ::tee(reader, ends_[1], 1, SPLICE_F_NONBLOCK);
  if (copied > 0) close();  // data came in between, and a copy of it is in there now
  return copied != 0;
}

void scratch_pipe::close() noexcept {
  if (ends_[0] < 0) return;
  for (int& end : ends_) ::close(std::exchange(end, -1));
}

std::int32_t open_without_waiting(const operation& op) noexcept {
  if ((op.flags & (O_CREAT | O_TRUNC)) != 0 || (op.flags & O_TMPFILE) == O_TMPFILE) return -EAGAIN;
  open_how how{};
  how.flags = static_cast<unsigned>(op.flags | O_CLOEXEC | O_NONBLOCK);
  how.resolve = RESOLVE_CACHED;
  const auto fd = static_cast<std::int32_t>(::syscall(SYS_openat2, op.fd, path_of(op), &how, sizeof(how)));
  if (fd >= 0) return as_asked(op, fd);
  const bool cannot_tell = errno == EINVAL || errno == ENOSYS || errno == EPERM || errno == EINTR;
  return cannot_tell ? -EAGAIN : -errno;
}

std::int32_t open_here(const operation& op) noexcept {
  const std::int32_t fd = open_with(op, O_NONBLOCK);
  return fd == -EAGAIN ? open_with(op, 0) : as_asked(op, fd);  // EAGAIN: another process holds a lease and is asked to give it up
}

bool lacks_other_end(const operation& op, std::int32_t result, scratch_pipe& scratch) noexcept {
  if ((op.flags & (O_NONBLOCK | O_PATH)) != 0) return false;
  struct stat about {};
  if (result == -ENXIO && access_mode(op) == O_WRONLY) {
    return ::fstatat(op.fd, path_of(op), &about, 0) == 0 && is_fifo(about);
  }
  if (result < 0 || access_mode(op) != O_RDONLY) return false;
  if (::lseek(result, 0, SEEK_CUR) >= 0 || errno != ESPIPE) return false;  // a tenth of what fstat costs
  return ::fstat(result, &about) == 0 && is_fifo(about) && !scratch.has_writer(result);
}

std::int32_t open_other_end(const operation& op, std::int32_t held, scratch_pipe& scratch) noexcept {
  if (held >= 0) return scratch.has_writer(held) ? held : -EAGAIN;
  const std::int32_t fd = open_with(op, O_NONBLOCK);
  return fd == -ENXIO ? -EAGAIN : as_asked(op, fd);
}

}  // namespace weft::upcall::engine
