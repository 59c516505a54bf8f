// Kernel threads of weft's: what they are called, which signals they take, and what is said where the kernel gives none.
#include "weft/detail/kernel_thread.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cerrno>
#include <future>
#include <string>
#include <system_error>

#include "tests/in_child.hpp"
#include "tests/refuse.hpp"
#include "tests/skip.hpp"

using weft::detail::kernel_thread;
using weft::detail::signals;

namespace {

bool blocks(int signal) {
  sigset_t now;
  sigemptyset(&now);
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  return sigismember(&now, signal) == 1;
}

}  // namespace

TEST_CASE("a kernel thread has its name, as far as the kernel keeps it, when its maker goes on") {
  std::promise<pthread_t> id;
  std::promise<void> over;
  kernel_thread named("this test", "a-name-of-more-than-15", signals::blocked, [&] {
    id.set_value(pthread_self());
    over.get_future().wait();
  });
  char name[16] = {};
  CHECK(pthread_getname_np(id.get_future().get(), name, sizeof name) == 0);
  over.set_value();
  CHECK(std::string(name) == "a-name-of-more-");
}

TEST_CASE("a kernel thread that works beside the program takes no signal, one that runs its code takes what its maker takes") {
  bool beside = false;
  bool within = true;
  kernel_thread("this test", "beside", signals::blocked, [&] { beside = blocks(SIGTERM) && blocks(SIGUSR1); }).join();
  kernel_thread("this test", "within", signals::as_here, [&] { within = blocks(SIGTERM); }).join();
  CHECK(beside);
  CHECK_FALSE(within);
  CHECK_FALSE(blocks(SIGTERM));
}

TEST_CASE("whoever gives a kernel thread another one to be, or destroys it, waits for its end") {
  int ended = 0;
  {
    kernel_thread one("this test", "one", signals::blocked, [&] { ended = 1; });
    one = kernel_thread("this test", "two", signals::blocked, [] {});
    CHECK(ended == 1);
    one = kernel_thread();
    kernel_thread three("this test", "three", signals::blocked, [&] { ended = 3; });
  }
  CHECK(ended == 3);
}

TEST_CASE("a kernel that gives no kernel thread is an error that names who asked and says what to change") {
  const child_end end = in_child([] {
    if (!refuse({{SYS_clone, EAGAIN}, {SYS_clone3, EAGAIN}})) _exit(77);
    try {
      const kernel_thread none("this test", "none", signals::blocked, [] {});
    } catch (const std::system_error& error) {
      const std::string said = error.what();
      const std::string wanted = "this test: the kernel gives no kernel thread (ulimit -u, or the pids limit of this container)";
      _exit(said.starts_with(wanted) && error.code() == std::errc::resource_unavailable_try_again && !blocks(SIGTERM) ? 0 : 1);
    }
    _exit(2);
  });
  if (end.exited_with(77)) return skip("this user may not install a seccomp filter");
  CHECK(end.exited_with(0));
}
