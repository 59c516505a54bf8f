// What is left to read when a weft program dies, and what a forked child may do. Everything happens in children.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "sched/scheduler.hpp"
#include "tests/in_child.hpp"
#include "tests/skip.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"
#include "weft/trace.hpp"

namespace {

volatile int deepest = 1 << 30;

void exits_with_9(int) { _exit(9); }
[[noreturn]] void says_mine() {
  static_cast<void>(!write(STDERR_FILENO, "mine\n", 5));
  std::abort();
}

// Sanitizers take these signals before main; the children here are to die as a program without one.
void take_faults_from_sanitizers() {
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
}

bool same_handling(int number, const struct sigaction& before) {
  struct sigaction now {};
  return sigaction(number, nullptr, &now) == 0 && now.sa_handler == before.sa_handler;
}

}  // namespace

extern "C" {
[[gnu::noinline]] int digs_deeper(int depth) {
  volatile char room[200];
  room[0] = static_cast<char>(depth);
  if (depth >= deepest) return 0;
  const int below = digs_deeper(depth + 1);
  return below + room[0];
}
[[gnu::noinline]] void throws_what_nobody_catches() { throw std::runtime_error("no such row"); }
[[gnu::noinline]] void forgets_to_unlock() {
  weft::mutex m;
  m.lock();
}
[[gnu::noinline]] void writes_where_nothing_may() {
  void* const page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<volatile int*>(page) = 1;
}
}

TEST_CASE("a stack overflow is reported with the thread's name and backtrace, and ends the program by SIGSEGV") {
  const child_end end = in_child([] {
    take_faults_from_sanitizers();
    weft::run([] {
      weft::jthread digger({.name = "digger", .stack = 64 * 1024}, [] { digs_deeper(0); });
    });
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGSEGV));
  CHECK(end.said("weft: stack overflow in thread 2 \"digger\": all "));
  CHECK(end.said(" bytes of its stack are used; give it more with attributes::stack or options::stack\n"));
  CHECK(end.said("  #0  0x"));
  CHECK(end.said(" digs_deeper+0x"));
  CHECK(end.said(" frames in all\n"));
  CHECK_FALSE(end.said("  #20 "));
}

TEST_CASE("a stack overflow is reported on every kernel thread that runs a scheduler, also after others have ended") {
  const child_end end = in_child([] {
    take_faults_from_sanitizers();
    std::thread other([] {
      weft::run([] {
        std::thread([] { weft::run([] {}); }).join();
        digs_deeper(0);
      });
    });
    other.join();
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGSEGV));
  CHECK(end.said("weft: stack overflow in thread 1 \"main\": all "));
}

TEST_CASE("a fault that is no overflow is the program's own business: it dies of it, or its handler is called") {
  const child_end died = in_child([] {
    take_faults_from_sanitizers();
    weft::run([] { writes_where_nothing_may(); });
  });
  CHECK(died.killed_by(SIGSEGV));
  CHECK_FALSE(died.said("weft"));

  const child_end handled = in_child([] {
    signal(SIGSEGV, exits_with_9);
    weft::run([] { writes_where_nothing_may(); });
  });
  CHECK(handled.exited_with(9));

  const child_end sent = in_child([] {
    take_faults_from_sanitizers();
    weft::run([] { raise(SIGSEGV); });
  });
  CHECK(sent.killed_by(SIGSEGV));
}

TEST_CASE("signal handlers, the signal stack and the terminate handler are the program's again after the run") {
  const child_end end = in_child([] {
    struct sigaction segv {};
    struct sigaction bus {};
    stack_t before{};
    sigaction(SIGSEGV, nullptr, &segv);
    sigaction(SIGBUS, nullptr, &bus);
    sigaltstack(nullptr, &before);
    const std::terminate_handler terminate = std::get_terminate();
    weft::run([&] {
      if (same_handling(SIGSEGV, segv) || std::get_terminate() == terminate) _exit(1);
    });
    stack_t after{};
    sigaltstack(nullptr, &after);
    const bool restored = same_handling(SIGSEGV, segv) && same_handling(SIGBUS, bus) && std::get_terminate() == terminate &&
                          before.ss_sp == after.ss_sp && before.ss_flags == after.ss_flags;
    _exit(restored ? 0 : 2);
  });
  CHECK(end.exited_with(0));
}

TEST_CASE("an exception that nobody catches names its thread, its type, its text and who threw it, and aborts") {
  const child_end end = in_child([] {
    weft::run([] {
      weft::jthread reader({.name = "reader"}, [] { throws_what_nobody_catches(); });
    });
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: thread 2 \"reader\" ended by an unhandled exception of type std::runtime_error: no such row\n"));
  CHECK(end.said(" throws_what_nobody_catches+0x"));
  CHECK(end.said("terminate called after throwing an instance of 'std::runtime_error'"));
}

TEST_CASE("an exception that nobody catches is reported as what it is on a small stack too") {
  if (std::string_view(WEFT_TEST_SANITIZER) != "none") return skip("the frames of a sanitizer need more");
  const child_end end = in_child([] {
    weft::options how;
    how.stack = 32 * 1024;
    weft::run(how, [] { weft::thread({.name = "reader"}, [] { throws_what_nobody_catches(); }).join(); });
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: thread 2 \"reader\" ended by an unhandled exception of type std::runtime_error: no such row\n"));
  CHECK(end.said(" throws_what_nobody_catches+0x"));
}

TEST_CASE("the program's own terminate handler has the last word, and is alone where no weft thread runs") {
  const child_end weft_thread = in_child([] {
    std::set_terminate(says_mine);
    weft::run([] {
      weft::thread forgotten([] {});
    });
  });
  INFO(weft_thread.errors);
  CHECK(weft_thread.killed_by(SIGABRT));
  CHECK(weft_thread.said("weft: thread 1 \"main\" called std::terminate\n"));
  CHECK(weft_thread.said("mine\n"));

  const child_end kernel_thread = in_child([] {
    std::set_terminate(says_mine);
    weft::run([] { std::thread([] { throws_what_nobody_catches(); }).join(); });
  });
  CHECK(kernel_thread.killed_by(SIGABRT));
  CHECK(kernel_thread.errors == "mine\n");
}

TEST_CASE("misuse that cannot be thrown prints the thread, its backtrace and the last events, and aborts") {
  const child_end end = in_child([] {
    weft::run([] {
      weft::trace::ring ring(1024);
      static_cast<weft::sched::scheduler&>(weft::detail::this_scheduler_face()).trace_to(&ring);
      weft::jthread careless({.name = "careless"}, [] { forgets_to_unlock(); });
    });
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a mutex was destroyed while a thread holds it; unlock it first, or let it outlive its users\n"));
  CHECK(end.said("in thread 2 \"careless\":\n"));
  CHECK(end.said(" forgets_to_unlock+0x"));
  CHECK(end.said("the last events, newest last:\n"));
  CHECK(end.said(" park "));
  CHECK(end.said(" run, thread 2 \"careless\"\n"));
}

TEST_CASE("waking threads from a kernel thread that is none of weft's ends the program with a sentence that names the call") {
  const auto called_outside = [](const char* call, auto wait, auto wake) {
    CAPTURE(call);
    const child_end end = in_child([&] {
      weft::run([&] {
        const weft::poster keeps_the_run_alive = weft::make_poster();
        weft::jthread waiter(wait);
        weft::this_thread::yield();
        std::thread(wake).join();
      });
    });
    INFO(end.errors);
    CHECK(end.killed_by(SIGABRT));
    CHECK(end.said("weft: " + std::string(call) + " was called outside a weft thread; call it inside weft::run, or use "));
  };
  weft::mutex m;
  weft::condition_variable c;
  weft::channel<int> channel;
  weft::channel<int> unheard;
  const auto waits = [&] {
    std::unique_lock hold(m);
    c.wait(hold);
  };
  called_outside("condition_variable::notify_one", waits, [&] { c.notify_one(); });
  called_outside("condition_variable::notify_all", waits, [&] { c.notify_all(); });
  called_outside("channel::close", [&] { channel.receive(); }, [&] { channel.close(); });
  called_outside("channel::close", [&] { unheard.send(1); }, [&] { unheard.close(); });

  c.notify_all();  // nobody waits: no effect, and no harm
  channel.close();
  CHECK(channel.closed());
}

// In a program of its own: frames that the detection of use after return moves to the heap are nothing that LeakSanitizer looks
// at.
TEST_CASE("a program that exits in a weft thread leaks nothing, also in the eyes of LeakSanitizer") {
  if (std::getenv("WEFT_TEST_EXITS") != nullptr) {
    const auto held = std::make_unique<std::string>(1000, 'x');  // by the stack that called run()
    weft::run([] { weft::thread([] { std::exit(3); }).join(); });
  }
  const child_end end = in_child([] {
    setenv("WEFT_TEST_EXITS", "1", 1);
    setenv("ASAN_OPTIONS", "detect_stack_use_after_return=0", 1);
    close(STDOUT_FILENO);
    execl("/proc/self/exe", "crash_test", "-tc=a program that exits in a weft thread*", nullptr);
  });
  INFO(end.errors);
  CHECK(end.exited_with(3));
  CHECK(end.errors.empty());
}

TEST_CASE("a mutex that is locked by threads of two schedulers ends the program with a sentence") {
  const child_end end = in_child([] {
    weft::mutex m;
    weft::run([&] {
      m.lock();
      std::thread([&] { weft::run([&] { m.lock(); }); }).join();
    });
  });
  INFO(end.errors);
  CHECK(end.killed_by(SIGABRT));
  CHECK(end.said("weft: a mutex was used by threads of two schedulers; "));
}
