// What the tests of stacks share: child processes, touching memory that may fault, and the process's memory in bytes.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "sched/stack.hpp"

namespace stack_test {

inline bool sanitized() { return std::string_view(WEFT_TEST_SANITIZER) != "none"; }

/// Runs `body` in a child process. @returns what it returns, 99 if it throws, 100 + signal if a signal ends it.
template <class Body> int in_child(Body body) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    try {
      _exit(body());
    } catch (...) {
      _exit(99);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/// Touches addresses and tells which of them fault, while it lives. One at a time: signal handlers are the process's.
class fault_watch {
 public:
  fault_watch() {
    struct sigaction action {};
    action.sa_sigaction = [](int, siginfo_t* info, void*) {
      address = info->si_addr;
      found = weft::sched::stack_pool::find(info->si_addr);
      siglongjmp(back, 1);
    };
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~fault_watch() { sigaction(SIGSEGV, &before_, nullptr); }
  fault_watch(const fault_watch&) = delete;
  fault_watch& operator=(const fault_watch&) = delete;

  /// True if writing there is a SIGSEGV that names exactly this address.
  bool faults(void* at) {
    address = nullptr;
    found.reset();
    if (sigsetjmp(back, 1) == 0) {
      *static_cast<volatile char*>(at) = 1;
      return false;
    }
    return address == at;
  }
  /// What stack_pool::find said inside the handler of the latest fault.
  static const std::optional<weft::sched::stack_location>& location() { return found; }

 private:
  static inline sigjmp_buf back;
  static inline void* volatile address = nullptr;
  static inline std::optional<weft::sched::stack_location> found;
  struct sigaction before_ {};
};

/// A line of /proc/self/status, in bytes: "VmRSS:", "VmPTE:".
inline double memory(std::string_view what) {
  double kib = -1;
  FILE* const file = fopen("/proc/self/status", "r");
  char line[256];
  while (fgets(line, sizeof line, file) != nullptr) {
    if (std::string_view(line).starts_with(what)) kib = atof(line + what.size());
  }
  fclose(file);
  return kib * 1024;
}

}  // namespace stack_test
