#include "early_end.hpp"

#include <sys/signalfd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

early_end::early_end() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  descriptor_ = weft::io::descriptor(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor_) throw std::system_error(errno, std::generic_category(), "cannot make a signalfd");
}

bool early_end::asked_for() const noexcept {
  sigset_t pending;
  return sigpending(&pending) == 0 && (sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGTERM) == 1);
}

std::string early_end::wait() {
  signalfd_siginfo arrived{};
  std::error_code closed;
  weft::io::read_exactly(descriptor_, weft::io::buffer(&arrived, sizeof arrived), closed);
  if (closed) return "";
  return arrived.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
}

void early_end::give_up() noexcept {
  std::error_code ignored;
  descriptor_.close(ignored);
}
