#include "report.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace weft::lock_check {

namespace {

// Written as a whole, so that lines of others do not come between.
class text {
 public:
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) noexcept {
    va_list values;
    va_start(values, format);
    const int wanted = std::vsnprintf(bytes_ + length_, sizeof bytes_ - length_, format, values);
    va_end(values);
    if (wanted > 0) length_ = std::min(length_ + static_cast<std::size_t>(wanted), sizeof bytes_ - 1);
  }
  void write() const noexcept {
    for (std::size_t done = 0; done < length_;) {
      const ssize_t n = ::write(STDERR_FILENO, bytes_ + done, length_ - done);
      if (n < 0 && errno != EINTR) return;
      if (n > 0) done += static_cast<std::size_t>(n);
    }
  }

 private:
  char bytes_[4096];
  std::size_t length_ = 0;
};

// The pairs that were told of. @returns false for one of them, and when there is no room for more.
bool is_new(const sighting& first, const sighting& second) noexcept {
  static std::atomic<std::uint64_t> told[256];
  const std::uint64_t pair = (std::uint64_t{first.thread.number} << 32 | second.thread.number) ^
                             (std::uint64_t{first.thread.scheduler} << 48 | std::uint64_t{second.thread.scheduler} << 16);
  for (auto& one : told) {
    std::uint64_t seen = 0;
    if (one.compare_exchange_strong(seen, pair, std::memory_order_relaxed)) return true;
    if (seen == pair) return false;
  }
  return false;
}

Dl_info place_of(const void* address) noexcept {
  Dl_info found{};
  if (::dladdr(address, &found) == 0) found = {};
  return found;
}

const char* file_name(const Dl_info& of) noexcept {
  if (of.dli_fname == nullptr) return "?";
  const char* const slash = std::strrchr(of.dli_fname, '/');
  return slash == nullptr ? of.dli_fname : slash + 1;
}

// From the first frame that is not this library's.
void add_stack(text& to, const sighting& of) noexcept {
  const void* const here = place_of(reinterpret_cast<const void*>(&tell)).dli_fbase;
  std::size_t shown = 0;
  for (std::size_t i = 0; i < of.frames; ++i) {
    const Dl_info found = place_of(of.stack[i]);
    if (shown == 0 && found.dli_fbase == here) continue;
    const void* const begin = found.dli_sname != nullptr ? found.dli_saddr : found.dli_fbase;
    to.add("  #%zu  %p %s+0x%zx (%s)\n", shown++, of.stack[i], found.dli_sname != nullptr ? found.dli_sname : "",
           reinterpret_cast<std::uintptr_t>(of.stack[i]) - reinterpret_cast<std::uintptr_t>(begin), file_name(found));
  }
}

const char* verb(crossing how) noexcept {
  switch (how) {
    case crossing::entered:
      return "was let into";
    case crossing::refused:
      return "was told that it holds";
    case crossing::unlocked:
      return "unlocked";
  }
  return "used";
}

}  // namespace

void tell(crossing how, const char* kind, const holding& held, sighting& second) noexcept {
  if (!is_new(held.by, second)) return;
  const int error = errno;
  second.take_stack();
  const weft_thread_for_tools& a = held.by.thread;
  const weft_thread_for_tools& b = second.thread;
  text report;
  report.add(
      "weft: thread %u \"%s\" %s the %s at %p, which thread %u \"%s\" holds: for the C library both are one kernel thread.\n",
      b.number, b.name, verb(how), kind, held.lock.load(std::memory_order_relaxed), a.number, a.name);
  report.add("Use a weft::mutex, or put the code that locks, waits and unlocks into one weft::blocking.\n");
  report.add("thread %u \"%s\" locked it here:\n", a.number, a.name);
  add_stack(report, held.by);
  report.add("thread %u \"%s\" is here:\n", b.number, b.name);
  add_stack(report, second);
  report.write();
  const char* const wish = std::getenv("WEFT_LOCK_CHECK");
  if (wish != nullptr && std::strcmp(wish, "abort") == 0) std::abort();
  errno = error;
}

}  // namespace weft::lock_check
