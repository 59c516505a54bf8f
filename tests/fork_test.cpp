// both-transfers
// fork() on a weft thread: the child is nobody's thread, computes on the stack it was forked on, and harms nothing.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "tests/in_child.hpp"
#include "weft/channel.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

namespace {

int wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

bool refused(void (*call)()) {
  try {
    call();
  } catch (const std::system_error& error) {
    return error.code() == std::errc::operation_not_permitted;
  }
  return false;
}

[[gnu::noinline]] int sum_to(int n) { return n == 0 ? 0 : n + sum_to(n - 1); }

}  // namespace

TEST_CASE("a child forked on a weft thread goes on with its stack, and weft calls throw there; the parent is unharmed") {
  int status = -1;
  int received = 0;
  weft::run([&] {
    weft::channel<int> numbers(0);
    weft::jthread other([&] { numbers.send(7); });
    weft::this_thread::yield();
    std::vector<int> kept{1, 2, 3};
    const pid_t child = fork();
    if (child == 0) {
      const bool computes = sum_to(1000) == 500'500 && kept[2] == 3;
      const bool off_weft = refused([] { weft::this_thread::yield(); }) && refused([] { weft::mutex().lock(); }) &&
                            refused([] { static_cast<void>(weft::dump_threads()); }) &&
                            weft::this_thread::get_id() == weft::thread::id{};
      _exit(computes && off_weft ? 3 : 4);
    }
    status = wait_for(child);
    received = numbers.receive().value_or(0);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 3);
  CHECK(received == 7);
}

TEST_CASE("fork and exec on a weft thread run another program") {
  int status = -1;
  weft::run([&] {
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/sh", "sh", "-c", "exit 5", static_cast<char*>(nullptr));
      _exit(127);
    }
    status = wait_for(child);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 5);
}

TEST_CASE("a thread can fork again and again while others come and go") {
  int right = 0;
  weft::run([&] {
    weft::channel<int> silent(0);
    std::vector<weft::jthread> parked;
    for (int round = 0; round < 10; ++round) {
      for (int i = 0; i < 20; ++i) parked.emplace_back([&] { static_cast<void>(silent.receive()); });
      weft::this_thread::yield();
      const pid_t child = fork();
      if (child == 0) _exit(sum_to(round));
      const int status = wait_for(child);
      if (WIFEXITED(status) && WEXITSTATUS(status) == round * (round + 1) / 2) ++right;
    }
    silent.close();
  });
  CHECK(right == 10);
}

TEST_CASE("a forked child that runs to the end of its thread's function stops with a sentence, and the parent goes on") {
  int status = -1;
  const child_end end = in_child([&] {
    pid_t child = 0;
    weft::run([&] {
      weft::jthread forker({.name = "forker"}, [&] { child = fork(); });
    });
    status = wait_for(child);
    _exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 3 : 4);
  });
  INFO(end.errors);
  CHECK(end.exited_with(3));
  CHECK(end.said("weft: a child made by fork() came to the end of the thread it was forked on"));
}
