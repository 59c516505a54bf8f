#include "sched/trace_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string_view>
#include <system_error>
#include <vector>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t default_events = std::size_t{1} << 20;
constexpr std::size_t most_events = std::size_t{1} << 28;  // 8 GiB

std::size_t wanted_events() {
  const char* const text = std::getenv("WEFT_TRACE_EVENTS");
  if (text == nullptr) return default_events;
  std::size_t count = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), count);
  if (error == std::errc{} && *end == '\0' && count > 0 && count <= most_events) return count;
  print_report(std::string("weft: WEFT_TRACE_EVENTS=") + text +
               " is not a number from 1 to 268435456; using the default 1048576\n");
  return default_events;
}

std::string with_process_number(std::string path) {
  const std::string number = std::to_string(::getpid());
  for (std::size_t at = 0; (at = path.find("%p", at)) != std::string::npos; at += number.size()) path.replace(at, 2, number);
  return path;
}

// What is there stays until the trace is written. @returns -1 for a FIFO that nobody reads yet.
int open_to_write(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd >= 0 || errno == ENXIO) return fd;
  throw std::system_error(errno, std::generic_category(), "weft: the trace cannot be written to \"" + path + "\"");
}

// Where this process writes what WEFT_TRACE asks for. Its children inherit that: a child that lives beside us must not
// overwrite our trace, nor we that of our parent. So whoever opens a file first locks it for as long as it lives.
struct claim {
  pid_t process;
  std::string wanted;
  std::string path;
  unsigned schedulers;
};

// A device or a FIFO may be written to by many, and beside it is no place for files.
bool is_file(int fd) noexcept {
  struct stat what {};
  return ::fstat(fd, &what) == 0 && S_ISREG(what.st_mode);
}

claim claim_file(const std::string& wanted) {
  claim made{::getpid(), wanted, with_process_number(wanted), 0};
  const int fd = open_to_write(made.path);
  if (fd < 0) return made;
  const bool ours = is_file(fd);
  if (ours && (::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)) return made;
  ::close(fd);
  if (!ours) return made;
  made.path += "." + std::to_string(made.process);
  static_cast<void>(::flock(open_to_write(made.path), LOCK_EX | LOCK_NB));
  return made;  // the descriptors stay open until the process ends, and with them the locks
}

// "out.json" for the first scheduler of the process, "out.json.2" for the second, …
std::string own_path(const std::string& wanted) {
  static std::mutex guard;
  static std::vector<claim>* const claims = new std::vector<claim>;  // never destroyed: kernel threads may outlive main
  const std::lock_guard lock(guard);
  for (claim& c : *claims) {
    if (c.process != ::getpid() || c.wanted != wanted) continue;  // a forked child's parent goes on
    const std::string path = c.path + "." + std::to_string(++c.schedulers);
    ::close(open_to_write(path));
    return path;
  }
  claims->push_back(claim_file(wanted));
  claims->back().schedulers = 1;
  return claims->back().path;
}

}  // namespace

trace_file::trace_file(scheduler& traced) : traced_(traced) {
  const char* const wanted = std::getenv("WEFT_TRACE");
  if (wanted == nullptr || *wanted == '\0') return;
  try {
    path_ = own_path(wanted);
  } catch (const std::system_error& error) {
    print_report(std::string(error.what()) + "\n");
    return;
  }
  ring_ = std::make_unique<trace::ring>(wanted_events());
  ring_->file = path_;
  traced_.trace_to(ring_.get());
}

trace_file::~trace_file() {
  if (ring_ == nullptr) return;
  traced_.trace_to(nullptr);
  try {
    trace::write_chrome(*ring_, path_);
  } catch (const std::exception& error) {
    print_report(std::string(error.what()) + "\n");
  }
}

}  // namespace weft::sched
