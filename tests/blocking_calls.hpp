// Calls that wait in the kernel, each with what it must return: an interrupted kernel thread shows itself in them by EINTR, a
// short result or an early end.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine_fixture.hpp"
#include "tests/io_fixture.hpp"

inline constexpr long step_ns = 10'000'000;  // each call lasts this long
inline constexpr int step_ms = 10;

inline timespec from_now(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  t.tv_nsec += step_ns;
  if (t.tv_nsec >= 1'000'000'000) ++t.tv_sec, t.tv_nsec -= 1'000'000'000;
  return t;
}

inline long outcome(long result) { return result < 0 ? -errno : result; }

inline void nap() {
  const timespec t{0, step_ns};
  ::nanosleep(&t, nullptr);
}

/// A call, what it must return, and what another weft thread does to end it.
struct call {
  std::string name;
  std::function<long()> make;
  long expected = 0;
  std::function<void()> meanwhile = nullptr;  // none: it ends by its own time-out, and never earlier
};

/// What the calls work on.
struct things {
  things() {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    REQUIRE(::epoll_ctl(set, EPOLL_CTL_ADD, silent[0], &wanted) == 0);
    const timeval limit{0, step_ms * 1000};
    REQUIRE(::setsockopt(impatient[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    REQUIRE(::sem_init(&posix, 0, 0) == 0);
    sigset_t usr2;
    ::sigemptyset(&usr2);
    ::sigaddset(&usr2, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &usr2, &mask_before);
  }
  ~things() {
    ::pthread_sigmask(SIG_SETMASK, &mask_before, nullptr);
    ::semctl(system_v, 0, IPC_RMID);
    for (const int fd : {set, locked, locked_too}) ::close(fd);
  }
  things(const things&) = delete;
  things& operator=(const things&) = delete;

  temporary_directory place;
  pipe_pair silent{O_CLOEXEC};
  pipe_pair spoken{O_CLOEXEC};
  socket_pair impatient_made{SOCK_STREAM};
  socket_pair in_parts_made{SOCK_STREAM};
  std::pair<int, int> fds = blocking(impatient_made);
  int impatient[2]{fds.first, fds.second};
  std::pair<int, int> parts = blocking(in_parts_made);
  int set = ::epoll_create1(EPOLL_CLOEXEC);
  int locked = ::open((place / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  int locked_too = ::open((place / "lock").c_str(), O_RDWR | O_CLOEXEC);
  int system_v = ::semget(IPC_PRIVATE, 1, 0600);
  sem_t posix{};
  sigset_t mask_before{};

 private:
  static std::pair<int, int> blocking(const socket_pair& s) {
    for (const int fd : {s[0], s[1]}) ::fcntl(fd, F_SETFL, 0);
    return {s[0], s[1]};
  }
};

inline long wait_on_condition() {
  std::mutex m;
  std::condition_variable never_notified;
  std::unique_lock lock(m);
  const auto before = std::chrono::steady_clock::now();
  const bool late = !never_notified.wait_for(lock, std::chrono::nanoseconds(step_ns), [] { return false; });
  return late && std::chrono::steady_clock::now() - before >= std::chrono::nanoseconds(step_ns) ? 0 : -1;
}

inline long wait_for_child() {
  const pid_t child = ::fork();
  if (child == 0) {
    const timespec t{0, step_ns};
    ::syscall(SYS_nanosleep, &t, nullptr);
    ::_exit(7);
  }
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -errno;
}

inline std::vector<call> timed_calls(things& t) {
  return {
      {"nanosleep",
       [] {
         const timespec z{0, step_ns};
         return outcome(::nanosleep(&z, nullptr));
       }},
      {"clock_nanosleep",
       [] {
         const timespec z = from_now(CLOCK_MONOTONIC);
         return -static_cast<long>(::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &z, nullptr));
       }},
      {"poll",
       [&t] {
         pollfd p{t.silent[0], POLLIN, 0};
         return outcome(::poll(&p, 1, step_ms));
       }},
      {"epoll_wait",
       [&t] {
         epoll_event e{};
         return outcome(::epoll_wait(t.set, &e, 1, step_ms));
       }},
      {"select",
       [&t] {
         fd_set f;
         FD_ZERO(&f);
         FD_SET(t.silent[0], &f);
         timeval z{0, step_ms * 1000};
         return outcome(::select(t.silent[0] + 1, &f, nullptr, nullptr, &z));
       }},
      {"sem_timedwait",
       [&t] {
         const timespec z = from_now(CLOCK_REALTIME);
         return outcome(::sem_timedwait(&t.posix, &z));
       },
       -ETIMEDOUT},
      {"semtimedop",
       [&t] {
         sembuf b{0, -1, 0};
         const timespec z{0, step_ns};
         return outcome(::semtimedop(t.system_v, &b, 1, &z));
       },
       -EAGAIN},
      {"recv with SO_RCVTIMEO",
       [&t] {
         char c = 0;
         return outcome(::recv(t.impatient[0], &c, 1, 0));
       },
       -EAGAIN},
      {"sigtimedwait",
       [] {
         sigset_t s;
         ::sigemptyset(&s);
         ::sigaddset(&s, SIGUSR2);
         const timespec z{0, step_ns};
         return outcome(::sigtimedwait(&s, nullptr, &z));
       },
       -EAGAIN},
      {"condition variable", wait_on_condition},
      {"waitpid", wait_for_child, 7},
  };
}

inline std::vector<call> woken_calls(things& t) {
  return {
      {"read",
       [&t] {
         char c = 0;
         return outcome(::read(t.spoken[0], &c, 1));
       },
       1,
       [&t] {
         nap();
         put(t.spoken[1], "x");
       }},
      {"recv MSG_WAITALL",
       [&t] {
         char b[4];
         return outcome(::recv(t.parts.first, b, sizeof b, MSG_WAITALL));
       },
       4,
       [&t] {
         for (int i = 0; i < 4; ++i) {
           put(t.parts.second, "x");
           nap();
         }
       }},
      {"flock", [&t] { return outcome(::flock(t.locked, LOCK_EX)); }, 0,
       [&t] {
         nap();
         ::flock(t.locked_too, LOCK_UN);
       }},
  };
}
