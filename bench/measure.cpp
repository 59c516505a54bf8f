// Reads the clocks and counters that measure.hpp promises.
#include "measure.hpp"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace bench {
namespace {

double nanoseconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_usec) * 1e3;
}

}  // namespace

void pin_to_core(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<unsigned>(core), &cores);
  if (sched_setaffinity(0, sizeof cores, &cores) != 0) {
    std::fprintf(stderr, "cannot run on core %d alone (%s): figures will be less steady\n", core, std::strerror(errno));
  }
}

void use_both_cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(measured_core, &cores);
  CPU_SET(load_core, &cores);
  if (sched_setaffinity(0, sizeof cores, &cores) != 0) fail_with_errno("cannot run on two cores");
}

double percentile(std::vector<double>& values, int percent) {
  const auto wanted = values.begin() + (static_cast<std::ptrdiff_t>(values.size()) - 1) * percent / 100;
  std::nth_element(values.begin(), wanted, values.end());
  return *wanted;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail_with_errno("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) fail_with_errno("setrlimit");
}

long operations_asked_for() {
  const char* const asked = std::getenv("WEFT_BENCH_OPERATIONS");
  return asked == nullptr ? 0 : std::atol(asked);
}

std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

double cpu_ns() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
}

double memory_bytes() {
  std::ifstream status("/proc/self/status");
  double kibibytes = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:") || line.starts_with("VmPTE:")) kibibytes += std::atof(line.c_str() + 6);
  }
  return kibibytes * 1024;
}

long open_descriptors() {
  // The directory itself is open meanwhile.
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator()) - 1;
}

std::size_t heap_bytes() {
  const auto now = mallinfo2();
  return now.uordblks + now.hblkhd;
}

void fail(const std::string& sentence) {
  std::fprintf(stderr, "%s\n", sentence.c_str());
  std::_Exit(1);
}

void fail_with_errno(const std::string& what) { fail(what + ": " + std::strerror(errno)); }

}  // namespace bench
