#include "sched/identity_lender.hpp"

#include <pthread.h>
#include <signal.h>

namespace weft::sched {

// Signals are for the program's own kernel threads; this one must not even handle one, while its identity is another's.
identity_lender::identity_lender() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] {
      lent_ = own_identity();
      ready_.store(true, std::memory_order_release);
      ready_.notify_one();
      over_.wait(false, std::memory_order_acquire);
    });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread_.native_handle(), "weft-identity");
  ready_.wait(false, std::memory_order_acquire);
}

identity_lender::~identity_lender() {
  over_.store(true, std::memory_order_release);
  over_.notify_one();
  thread_.join();
}

}  // namespace weft::sched
