// Weft threads and locks that belong to "this kernel thread". tests/lock_check_test.cpp runs each of these ways with
// weft_lock_check loaded, and reads what it says. Threads: "holder" has the lock, all others come to it.
#include <pthread.h>
#include <time.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <string_view>
#include <thread>
#include <weft/blocking.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

namespace {

class owner_keyed_mutex {
 public:
  explicit owner_keyed_mutex(int kind) {
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_settype(&how, kind);
    pthread_mutex_init(&mutex, &how);
    pthread_mutexattr_destroy(&how);
  }
  ~owner_keyed_mutex() { pthread_mutex_destroy(&mutex); }
  owner_keyed_mutex(const owner_keyed_mutex&) = delete;
  owner_keyed_mutex& operator=(const owner_keyed_mutex&) = delete;
  void lock() { pthread_mutex_lock(&mutex); }
  void unlock() { pthread_mutex_unlock(&mutex); }
  pthread_mutex_t mutex;
};

// `holds` is called by the holder, then `comes` by a thread of this name, then `lets_go` by the holder.
template <class Holds, class Comes, class LetsGo> void meet(const char* name, Holds holds, Comes comes, LetsGo lets_go) {
  bool held = false;
  bool over = false;
  weft::thread holder({.name = "holder"}, [&] {
    holds();
    held = true;
    while (!over) weft::this_thread::yield();
    lets_go();
  });
  weft::thread other({.name = name}, [&] {
    while (!held) weft::this_thread::yield();
    comes();
    over = true;
  });
  other.join();
  holder.join();
}

int recursive() {
  weft::run([] {
    owner_keyed_mutex m(PTHREAD_MUTEX_RECURSIVE);
    const timespec past{};
    const auto meets = [&](const char* name, auto comes) {
      meet(
          name, [&] { m.lock(); }, [&] { comes(), m.unlock(); }, [&] { m.unlock(); });
    };
    meets("lock", [&] { pthread_mutex_lock(&m.mutex); });
    meets("trylock", [&] { pthread_mutex_trylock(&m.mutex); });
    meets("timedlock", [&] { pthread_mutex_timedlock(&m.mutex, &past); });
    meets("clocklock", [&] { pthread_mutex_clocklock(&m.mutex, CLOCK_MONOTONIC, &past); });
  });
  return 0;
}

int twice() {
  owner_keyed_mutex m(PTHREAD_MUTEX_RECURSIVE);
  weft::run([&] {
    meet(
        "comes twice", [&] { m.lock(); },
        [&] {
          for (int i = 0; i < 2; ++i) m.lock(), m.unlock();
        },
        [&] { m.unlock(); });
  });
  return 0;
}

int error_checking() {
  int result = 0;
  weft::run([&] {
    owner_keyed_mutex m(PTHREAD_MUTEX_ERRORCHECK);
    meet(
        "asks", [&] { m.lock(); }, [&] { result = pthread_mutex_lock(&m.mutex); }, [&] { m.unlock(); });
    meet(
        "unlocks", [&] { m.lock(); }, [&] { m.unlock(); }, [] {});
  });
  return result == EDEADLK ? 0 : 1;
}

int file() {
  weft::run([] {
    meet(
        "writes", [] { flockfile(stdout); }, [] { flockfile(stdout), funlockfile(stdout); }, [] { funlockfile(stdout); });
    meet(
        "tries", [] { flockfile(stdout); }, [] { static_cast<void>(!ftrylockfile(stdout)), funlockfile(stdout); },
        [] { funlockfile(stdout); });
  });
  return 0;
}

// The holder waits in plain nanosleep: only an upcall lets the other thread run meanwhile.
template <class Mutex> int all_code(int moments) {
  volatile bool came = false;
  weft::options how;
  how.activations = weft::activations::all;
  weft::run(how, [&] {
    Mutex m;
    weft::thread holder({.name = "holder"}, [&] {
      const std::lock_guard guard(m);
      const timespec moment{0, 1'000'000};
      for (int i = 0; i < moments && !came; ++i) ::nanosleep(&moment, nullptr);
    });
    weft::thread other({.name = "other"}, [&] {
      const std::lock_guard guard(m);
      came = true;
    });
    holder.join();
    other.join();
  });
  return 0;
}

// The holder computes until a tick makes it give way.
int time_slice() {
  volatile bool came = false;
  weft::options how;
  how.time_slice = std::chrono::milliseconds(1);
  weft::run(how, [&] {
    std::recursive_mutex m;
    weft::thread holder({.name = "holder", .time_slice = true}, [&] {
      const std::lock_guard guard(m);
      for (long i = 0; i < 1'000'000'000 && !came; ++i) {
      }
    });
    weft::thread other({.name = "other"}, [&] {
      const std::lock_guard guard(m);
      came = true;
    });
    holder.join();
    other.join();
  });
  return 0;
}

// ---- what is right ----

template <class Mutex> void take_turns(Mutex& m) {
  weft::thread a([&] {
    for (int i = 0; i < 3; ++i) {
      const std::lock_guard guard(m);
    }
  });
  weft::thread b([&] {
    for (int i = 0; i < 3; ++i) {
      const std::lock_guard guard(m);
    }
  });
  a.join();
  b.join();
}

// One thread, several levels, others run meanwhile and let it alone.
void nested() {
  std::recursive_mutex m;
  weft::thread holder([&] {
    const std::lock_guard outer(m);
    weft::this_thread::yield();
    const std::lock_guard inner(m);
    weft::this_thread::yield();
  });
  weft::thread other([] { weft::this_thread::yield(); });
  holder.join();
  other.join();
}

// Kernel threads of the program contend with a thread whose region waits on a condition variable, all for one mutex.
void regions_and_kernel_threads() {
  owner_keyed_mutex m(PTHREAD_MUTEX_RECURSIVE);
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  int turn = 0;
  const auto act = [&](int me) {
    const std::lock_guard guard(m);
    while (turn != me) pthread_cond_wait(&condition, &m.mutex);
    ++turn;
    pthread_cond_broadcast(&condition);
  };
  std::thread last([&] { act(2); });
  weft::thread second([&] { weft::blocking([&] { act(1); }); });
  weft::thread first([&] { weft::blocking([&] { act(0); }); });
  second.join();
  first.join();
  last.join();
}

int correct() {
  weft::run([] {
    std::mutex plain;
    std::recursive_mutex recursive_one;
    owner_keyed_mutex checking(PTHREAD_MUTEX_ERRORCHECK);
    take_turns(plain);
    take_turns(recursive_one);
    take_turns(checking);
    nested();
    for (int i = 0; i < 50; ++i) regions_and_kernel_threads();
    for (int i = 0; i < 2; ++i) weft::thread([] { flockfile(stdout), funlockfile(stdout); }).join();
  });
  return 0;
}

// A mutex that is gone while it was locked leaves nothing behind for the one that takes its place.
int left_locked() {
  weft::run([] {
    for (int i = 0; i < 2; ++i) {
      weft::thread([] {
        static std::array<pthread_mutex_t, 1> place;
        pthread_mutexattr_t how;
        pthread_mutexattr_init(&how);
        pthread_mutexattr_settype(&how, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(place.data(), &how);
        pthread_mutex_lock(place.data());
      }).join();
    }
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view way = argc == 2 ? argv[1] : "";
  if (way == "recursive") return recursive();
  if (way == "twice") return twice();
  if (way == "error_checking") return error_checking();
  if (way == "file") return file();
  if (way == "all_code") return all_code<std::recursive_mutex>(5'000);
  if (way == "all_code_plain") return all_code<std::mutex>(20);
  if (way == "time_slice") return time_slice();
  if (way == "correct") return correct();
  if (way == "left_locked") return left_locked();
  return 2;
}
