// Runs code that ends its process: in a forked child, whose standard error is kept.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

/// How a child ended, and what it had to say.
struct child_end {
  int status = 0;
  std::string errors;

  [[nodiscard]] bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
  [[nodiscard]] bool killed_by(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }
  [[nodiscard]] bool said(std::string_view text) const { return errors.find(text) != std::string::npos; }
};

/// The exit status of a child whose function threw.
inline constexpr int child_threw = 70;

/// Calls `fn` in a child that exits with 0 when it returns. From a kernel thread that runs no scheduler; no core is dumped.
template <class F>
child_end in_child(F fn) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (child == 0) {
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    try {
      fn();
    } catch (...) {
      _exit(child_threw);
    }
    _exit(0);
  }
  close(ends[1]);
  child_end end;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(ends[0], buffer, sizeof buffer);
    if (got > 0) end.errors.append(buffer, static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) break;
  }
  close(ends[0]);
  while (waitpid(child, &end.status, 0) < 0 && errno == EINTR) {
  }
  return end;
}
