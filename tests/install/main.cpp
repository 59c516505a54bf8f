// A program of a weft user. The install test builds it against an installed weft in both ways; tests/unwinder_test.py looks
// where its exceptions are unwound: thrown in a weft thread, through `run`, and by pthread_exit.
#include <pthread.h>

#include <cstdio>
#include <stdexcept>
#include <thread>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

namespace {

int caught_in_a_thread() {
  int caught = 0;
  weft::thread thrower([&] {
    try {
      throw 1;
    } catch (int thrown) {
      caught = thrown;
    }
  });
  thrower.join();
  return caught;
}

int caught_outside_run() {
  try {
    weft::run([] { throw std::runtime_error("through run"); });
  } catch (const std::runtime_error&) {
    return 1;
  }
  return 0;
}

// pthread_exit unwinds the kernel thread's stack; with libunwind's functions in the way it crashes.
int unwound_by_pthread_exit() {
  int unwound = 0;
  struct at_exit {
    int& count;
    ~at_exit() { ++count; }
  };
  std::thread([&] {
    const at_exit counter{unwound};
    pthread_exit(nullptr);
  }).join();
  return unwound;
}

}  // namespace

int main() {
  const int in_thread = weft::run(caught_in_a_thread);
  const int outside = caught_outside_run();
  const int at_exit = unwound_by_pthread_exit();
  std::printf("in a weft thread %d, through run %d, by pthread_exit %d\n", in_thread, outside, at_exit);
  return in_thread == 1 && outside == 1 && at_exit == 1 ? 0 : 1;
}
