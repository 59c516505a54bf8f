// both-transfers every-privilege
// Threads with time slices fork and start programs: weft, the C library and the program lock much meanwhile that a thread which
// runs in between would wait for, with the kernel thread that both run on.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/process.hpp"

TEST_CASE("a preempted thread forks, forks and execs, and starts programs") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    beside_a_cruncher(2, [&](int me) {
      for (int i = 0; i < 10; ++i) {
        compute(20'000);
        const pid_t child = ::fork();
        if (child == 0) {
          compute_for(several_slices / 10);  // the child has no ticks
          if (weft::detail::on_weft_thread()) ::_exit(1);
          if (i % 2 == 0) ::_exit(0);
          ::execl("/bin/true", "true", nullptr);
          ::_exit(2);
        }
        int status = -1;
        const pid_t ended = me == 0 ? ::waitpid(child, &status, 0) : weft::blocking([&] { return ::waitpid(child, &status, 0); });
        wrong.unless(ended == child && status == 0);
        wrong.unless(weft::process::spawn({"/bin/true"}).wait().success());
      }
    });
  });
  CHECK(wrong.count() == 0);
}

// Whoever starts a program looks at all children that were left, under a lock of the process.
TEST_CASE("threads with time slices start programs beside many children that nobody waits for") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  std::vector<pid_t> left;
  weft::run(sliced(), [&] {
    for (int i = 0; i < 60; ++i) {
      weft::process child = weft::process::spawn({"/bin/sleep", "100"});
      left.push_back(child.pid());
      child.detach();
    }
    beside_a_cruncher(6, [&](int) {
      for (int i = 0; i < 15; ++i) wrong.unless(weft::process::spawn({"/bin/true"}).wait().success());
    });
    for (const pid_t child : left) wrong.unless(::kill(child, SIGKILL) == 0);
  });
  CHECK(wrong.count() == 0);
}
