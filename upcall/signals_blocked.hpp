// Holds signals off the calling kernel thread for a moment.
#pragma once

#include <signal.h>

namespace weft::upcall {

/// While one exists, the calling kernel thread takes no signal, and kernel threads it makes start with all of them blocked.
/// Not across anything that parks: the mask belongs to the kernel thread.
class signals_blocked {
 public:
  signals_blocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  signals_blocked(const signals_blocked&) = delete;
  signals_blocked& operator=(const signals_blocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace weft::upcall
