#include "other_ways.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "line_counter.hpp"

namespace {

// The twin of count_file in search.cpp, in plain POSIX. A file that cannot be read was already told of there.
findings count_file(const std::string& path, std::string_view pattern) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  line_counter lines(pattern);
  std::array<char, 32 * 1024> buffer;
  ssize_t n = 0;
  while ((n = ::read(fd, buffer.data(), buffer.size())) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) lines.take({buffer.data(), static_cast<std::size_t>(n)});
  }
  ::close(fd);
  if (n < 0) return {};
  return {1, lines.lines(), lines.bytes(), lines.binary() ? 1U : 0U};
}

}  // namespace

outcome one_after_another(const job& work) {
  outcome made;
  const stopwatch watch;
  for (const std::string& path : work.files) {
    if (work.end->asked_for()) break;
    made.found += count_file(path, work.pattern);
  }
  made.paid = watch.read();
  return made;
}

outcome kernel_thread_per_file(const job& work) {
  outcome made;
  std::mutex guard;
  std::deque<std::jthread> threads;  // the latest, in order: joined when too many are there
  std::size_t most = 0;
  const stopwatch watch;
  for (const std::string& path : work.files) {
    if (work.end->asked_for()) break;
    const auto count = [&] {
      const findings found = count_file(path, work.pattern);
      const std::lock_guard lock(guard);
      made.found += found;
    };
    if (threads.size() == work.open_at_once) threads.pop_front();
    try {
      threads.emplace_back(count);
    } catch (const std::system_error&) {  // the system gives no more threads: make do with those there are
      if (!threads.empty()) threads.pop_front();
      count();
    }
    most = std::max(most, threads.size());
  }
  threads.clear();
  made.paid = watch.read();
  made.paid.kernel_threads = most + 1;
  return made;
}
