#include "job.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <stdexcept>

namespace {

// The number after `key` in a file of /proc, which answers from memory: no wait to speak of.
std::optional<std::uint64_t> number_in(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;) {
    std::uint64_t value = 0;
    if (word == key && in >> value) return value;
  }
  return std::nullopt;
}

double processor_ms() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto ms = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3; };
  return ms(used.ru_utime) + ms(used.ru_stime);
}

// The second number there: nanoseconds on a run queue. 0 where the kernel does not tell.
double kept_waiting_ms() {
  std::ifstream in("/proc/thread-self/schedstat");
  double ran = 0;
  double waited = 0;
  return in >> ran >> waited ? waited / 1e6 : 0;
}

}  // namespace

stopwatch::stopwatch()
    : start_(weft::clock::now()),
      processor_ms_(processor_ms()),
      kept_waiting_ms_(kept_waiting_ms()),
      from_disk_(number_in("/proc/self/io", "read_bytes:")) {}

cost stopwatch::read() const {
  cost paid;
  paid.wall_ms = std::chrono::duration<double, std::milli>(weft::clock::now() - start_).count();
  paid.processor_ms = processor_ms() - processor_ms_;
  paid.kept_waiting_ms = kept_waiting_ms() - kept_waiting_ms_;
  const auto now = number_in("/proc/self/io", "read_bytes:");
  if (now && from_disk_) paid.from_disk = *now - *from_disk_;
  return paid;
}

std::size_t kernel_threads_now() { return number_in("/proc/self/status", "Threads:").value_or(1); }

void drop_from_cache(const std::vector<std::string>& files) {
  for (const std::string& path : files) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    static_cast<void>(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    ::close(fd);
  }
}

std::size_t allow_open_files(std::size_t open_at_once) {
  constexpr rlim_t beside = 64;  // standard streams, sockets, pipes, the scheduler's own
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return open_at_once;
  const rlim_t wanted = std::min<rlim_t>(open_at_once + beside, limit.rlim_max);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) static_cast<void>(::getrlimit(RLIMIT_NOFILE, &limit));
  }
  if (limit.rlim_cur <= beside) {
    throw std::runtime_error("only " + std::to_string(limit.rlim_cur) + " files may be open at once, and the demo needs " +
                             std::to_string(beside + 1) + " at least: raise the limit (ulimit -n)");
  }
  return static_cast<std::size_t>(std::min<rlim_t>(open_at_once, limit.rlim_cur - beside));
}
