// Children: what becomes of them after the spawn.
#include "weft/process.hpp"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <mutex>

#include "upcall/io_call.hpp"
#include "upcall/process_spawn.hpp"
#include "weft/detail/abi.hpp"
#include "weft/detail/park.hpp"
#include "weft/thread.hpp"
#include "weft/error.hpp"

namespace weft {

namespace {

// Newer than the headers we build with: include/uapi/linux/pidfd.h of Linux 6.15. A process that somebody else has reaped
// leaves its wait status with its pidfd.
struct pidfd_info {
  std::uint64_t mask = 0;
  std::uint64_t cgroup = 0;
  std::array<std::uint32_t, 11> numbers{};  // process, parent, user and group ids
  std::int32_t wait_status = 0;
};
static_assert(sizeof(pidfd_info) == 64);
constexpr unsigned long pidfd_get_info = _IOWR(0xFF, 11, pidfd_info);
constexpr std::uint64_t pidfd_info_exit = 1 << 3;

std::optional<exit_status> status_kept_by_kernel(int pidfd) noexcept {
  pidfd_info info;
  info.mask = pidfd_info_exit;
  if (::ioctl(pidfd, pidfd_get_info, &info) != 0 || (info.mask & pidfd_info_exit) == 0) return {};
  if (WIFSIGNALED(info.wait_status)) return exit_status{0, WTERMSIG(info.wait_status)};
  return exit_status{WEXITSTATUS(info.wait_status), 0};
}

// Takes the status of the child when it has ended; 0 with nothing in `status` while it runs, or an errno value.
int reap(int pidfd, int flags, std::optional<exit_status>& status) noexcept {
  siginfo_t info{};
  const int r = io::detail::at_once([&] { return ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | flags); });
  if (r == 0 && info.si_pid != 0) {
    const bool by_itself = info.si_code == CLD_EXITED;
    status = exit_status{by_itself ? info.si_status : 0, by_itself ? 0 : info.si_status};
  }
  if (r != -ECHILD) return -r;
  status = status_kept_by_kernel(pidfd);
  return status ? 0 : ECHILD;
}

// Children without an owner that had not ended yet: looked at again with every spawn, so that no zombie stays for long.
// Plain descriptors, and a mutex of the standard library held for moments: several schedulers and kernel threads share it. A
// thread with time slices is not preempted meanwhile, or the next one would wait with the kernel thread that both run on.
class orphanage {
 public:
  void take(int pidfd) {
    const no_preemption whole;
    const std::lock_guard lock(mutex_);
    if (pidfds_ == nullptr) pidfds_ = new std::vector<int>;
    pidfds_->push_back(pidfd);
  }
  void reap_ended() {
    const no_preemption whole;
    const std::lock_guard lock(mutex_);
    if (pidfds_ == nullptr) return;
    std::erase_if(*pidfds_, [](int pidfd) {
      std::optional<exit_status> status;
      const bool ended = reap(pidfd, WNOHANG, status) != 0 || status;
      if (ended) ::close(pidfd);
      return ended;
    });
  }

 private:
  std::mutex mutex_;
  std::vector<int>* pidfds_ = nullptr;  // never destroyed: children may be left over by static objects
};

constinit orphanage orphans;

int spawn_into(std::span<const std::string> arguments, const process_options& how, process& made) {
  orphans.reap_ended();
  return spawn_request().start(arguments, how, made);
}

}  // namespace

std::string exit_status::to_string() const {
  if (signal == 0) return "exited with " + std::to_string(code);
  const char* const meaning = ::sigdescr_np(signal);
  return "killed by signal " + std::to_string(signal) + (meaning != nullptr ? " (" + std::string(meaning) + ")" : "");
}

process process::spawn(std::span<const std::string> arguments, const process_options& how) {
  process made;
  const int error = spawn_into(arguments, how, made);
  if (error != 0) {
    const std::string name = arguments.empty() ? "a program without a name" : "'" + arguments.front() + "'";
    io::detail::fail(io::detail::code_of(error), "start " + name);
  }
  return made;
}

process process::spawn(std::span<const std::string> arguments, const process_options& how, std::error_code& ec) {
  process made;
  const int error = spawn_into(arguments, how, made);
  ec = error == 0 ? std::error_code() : io::detail::code_of(error);
  return made;
}

process::process(process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      handle_(std::move(other.handle_)),
      status_(std::exchange(other.status_, std::nullopt)),
      in_(std::move(other.in_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)) {}

process& process::operator=(process&& other) noexcept {
  if (this == &other) return *this;
  end();
  pid_ = std::exchange(other.pid_, 0);
  handle_ = std::move(other.handle_);
  status_ = std::exchange(other.status_, std::nullopt);
  in_ = std::move(other.in_);
  out_ = std::move(other.out_);
  err_ = std::move(other.err_);
  return *this;
}

process::~process() { end(); }

// True when the status is known or cannot be: then `ec` says why.
bool process::collect(std::error_code& ec) noexcept {
  ec.clear();
  if (status_) return true;
  const int error = handle_ ? reap(handle_.get(), WNOHANG, status_) : (pid_ == 0 ? EINVAL : ECHILD);
  if (error != 0) ec = io::detail::code_of(error);
  return error != 0 || status_;
}

exit_status process::wait(std::error_code& ec, time_point deadline) {
  while (!collect(ec)) {
    if (!weft::detail::on_weft_thread()) weft::detail::throw_off_weft("process::wait");
    const int ready = io::poll(handle_, POLLIN, ec, deadline);
    if (!ec && ready == 0 && !collect(ec)) ec = std::make_error_code(std::errc::timed_out);
    if (ec) break;
  }
  return status_.value_or(exit_status{});
}

exit_status process::wait(time_point deadline) {
  std::error_code ec;
  const exit_status status = wait(ec, deadline);
  if (ec) io::detail::fail(ec, "wait for process " + std::to_string(pid_));
  return status;
}

void process::kill(int signal, std::error_code& ec) {
  ec.clear();
  if (pid_ == 0) ec = std::make_error_code(std::errc::invalid_argument);
  if (!handle_ || status_) return;
  if (::syscall(SYS_pidfd_send_signal, handle_.get(), signal, nullptr, 0) == 0 || errno == ESRCH) return;
  ec = io::detail::code_of(errno);
}

void process::kill(int signal) {
  std::error_code ec;
  kill(signal, ec);
  if (ec) io::detail::fail(ec, "send signal " + std::to_string(signal) + " to process " + std::to_string(pid_));
}

// A killed child is gone in a moment, but not at once: the thread waits for it, unless it was asked to end itself. Then, and
// if the child sits in the kernel (a dead network disk), it is left to the orphanage.
void process::end() noexcept {
  std::error_code ignored;
  in_.close(ignored);
  out_.close(ignored);
  err_.close(ignored);
  if (!collect(ignored)) {
    kill(SIGKILL, ignored);
    try {
      if (weft::detail::on_weft_thread()) {
        static_cast<void>(wait(ignored, weft::detail::now() + std::chrono::seconds(1)));
      } else {
        static_cast<void>(reap(handle_.get(), 0, status_));
      }
    } catch (...) {  // asked to end meanwhile: `cancelled` comes again from this thread's next call
      static_cast<void>(collect(ignored));
    }
  }
  detach();
}

void process::detach() noexcept {
  std::error_code ignored;
  in_.close(ignored);
  out_.close(ignored);
  err_.close(ignored);
  try {
    if (!collect(ignored)) orphans.take(handle_.release());
  } catch (...) {  // no memory, or no descriptor for the copy: the child stays a zombie until this program ends
  }
  handle_.close(ignored);
  status_.reset();
  pid_ = 0;
}

}  // namespace weft
