// posix_spawn(3) rather than fork: it shares our memory until exec, so its cost does not grow with ours, and no weft thread,
// lock or descriptor state is copied into the child.
#include "upcall/process_spawn.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "upcall/io_call.hpp"
#include "upcall/signals_blocked.hpp"

namespace weft {

namespace {

std::vector<char*> pointers(std::span<const std::string> texts) {
  std::vector<char*> made;
  made.reserve(texts.size() + 1);
  for (const std::string& text : texts) made.push_back(const_cast<char*>(text.c_str()));
  made.push_back(nullptr);
  return made;
}

// Pipes made by weft are non-blocking, which programs that find one as their standard stream do not expect. The flag belongs to
// the open file, so clearing it would make our own calls block: the child gets an open file of its own on the same pipe.
// @returns its descriptor, or -1 where that is not possible or not needed.
int blocking_twin(int fd) noexcept {
  struct stat about {};
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0 || ::fstat(fd, &about) != 0 || !S_ISFIFO(about.st_mode)) return -1;
  std::array<char, 40> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  // Opened without blocking, as a FIFO without a peer would make us wait for one.
  const int twin = ::open(path.data(), (flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
  if (twin >= 0) static_cast<void>(::fcntl(twin, F_SETFL, 0));
  return twin;
}

}  // namespace

spawn_request::spawn_request() {
  ::posix_spawn_file_actions_init(&actions_);
  ::posix_spawnattr_init(&attributes_);
}

spawn_request::~spawn_request() {
  ::posix_spawn_file_actions_destroy(&actions_);
  ::posix_spawnattr_destroy(&attributes_);
}

int spawn_request::start(std::span<const std::string> arguments, const process_options& how, process& made) {
  if (arguments.empty()) return EINVAL;
  int error = set_signals();
  if (error == 0) error = set_stream(STDIN_FILENO, how.in);
  if (error == 0) error = set_stream(STDOUT_FILENO, how.out);
  if (error == 0) error = set_stream(STDERR_FILENO, how.err);
  if (error == 0 && !how.directory.empty()) {
    error = ::posix_spawn_file_actions_addchdir_np(&actions_, how.directory.c_str());
  }
  if (error == 0) error = ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
  if (error == 0) error = launch_and_hold(arguments, how, made);
  if (error != 0) return error;
  made.in_ = pipe_writer(std::move(ours_[STDIN_FILENO]));
  made.out_ = pipe_reader(std::move(ours_[STDOUT_FILENO]));
  made.err_ = pipe_reader(std::move(ours_[STDERR_FILENO]));
  return 0;
}

// Handlers end with exec by themselves. An ignored SIGPIPE would stay ignored, and programs like `yes | head` rely on it.
int spawn_request::set_signals() {
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  int error = ::posix_spawnattr_setsigmask(&attributes_, &none);
  if (error == 0) error = ::posix_spawnattr_setsigdefault(&attributes_, &defaults);
  if (error == 0) error = ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  return error;
}

int spawn_request::set_stream(int target, const stdio& what) {
  const std::size_t index = static_cast<std::size_t>(target);
  switch (what.kind_) {
    case stdio::kind::inherit:
      return 0;
    case stdio::kind::null:
      return ::posix_spawn_file_actions_addopen(&actions_, target, "/dev/null", target == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
    case stdio::kind::use:
      return give(target, what.fd_);
    case stdio::kind::pipe:
      break;
  }
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno;
  const bool child_reads = target == STDIN_FILENO;
  const io::descriptor childs(ends[child_reads ? 0 : 1]);
  ours_[index] = io::descriptor(ends[child_reads ? 1 : 0]);
  // Only our end is non-blocking: the child's is an open file of its own and behaves as programs expect.
  if (::fcntl(ours_[index].get(), F_SETFL, O_NONBLOCK) != 0) return errno;
  return give(target, childs.get());
}

// The child gets a copy numbered above its standard descriptors, so that moving one into place never overwrites another.
int spawn_request::give(int target, int fd) {
  const io::descriptor twin(blocking_twin(fd));
  const int copy = ::fcntl(twin ? twin.get() : fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (copy < 0) return errno;
  childs_[static_cast<std::size_t>(target)] = io::descriptor(copy);
  return ::posix_spawn_file_actions_adddup2(&actions_, copy, target);
}

int spawn_request::launch(std::span<const std::string> arguments, const process_options& how, pid_t& pid) {
  const std::vector<char*> argv = pointers(arguments);
  std::vector<char*> environment;
  if (how.environment) environment = pointers(*how.environment);
  return ::posix_spawnp(&pid, argv[0], &actions_, &attributes_, argv.data(), how.environment ? environment.data() : ::environ);
}

// No signal in between: a program's SIGCHLD handler that reaps every child would take one that ends at once before it has a
// handle. Should it run on another kernel thread and do so all the same, there is no handle, and no status to wait for.
int spawn_request::launch_and_hold(std::span<const std::string> arguments, const process_options& how, process& made) {
  const upcall::signals_blocked quiet;
  int error = launch(arguments, how, made.pid_);
  if (error != 0) {
    made.pid_ = 0;
    return error;
  }
  const long fd = ::syscall(SYS_pidfd_open, made.pid_, 0);
  if (fd >= 0) {
    made.handle_ = io::descriptor(static_cast<int>(fd));
    return 0;
  }
  error = errno;
  if (error == ESRCH) return 0;
  ::kill(made.pid_, SIGKILL);
  ::waitpid(made.pid_, nullptr, 0);
  made.pid_ = 0;
  return error;
}

}  // namespace weft
