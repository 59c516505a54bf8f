// What a weft thread's stack overflow and unhandled exception leave behind, and what a forked child may not touch.
//
// The risk in the signal handler: beyond system calls it uses libunwind and dladdr1, which nobody calls async-signal-safe. They
// take the dynamic linker's lock, which is recursive, and libunwind's own, under which signals are blocked. They map memory but
// call no malloc, because an overflow that happens inside malloc finds it locked or half changed; hence the linker's names
// instead of C++ ones (tests/crash_test.cpp under ThreadSanitizer sees to it that this stays so). A fault while the report is
// written ends the program as the first one would have: the kernel does not deliver a blocked SIGSEGV twice.
#include <cxxabi.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <typeinfo>
#include <utility>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_text.hpp"
#include "sched/unwind.hpp"
#include "weft/error.hpp"

namespace weft::detail {
void set_this_scheduler(scheduler_face* face) noexcept;  // park.cpp
}

namespace weft::sched {
namespace {

constexpr std::size_t signal_stack_bytes = 64 * 1024;
constexpr std::size_t frames_told = 20;

// One signal, and what the program did about it before us.
struct watched_signal {
  int number;
  struct sigaction previous {};
  bool ours = false;
};

// Process-wide, as what it describes. Written under the lock; the handlers read what was written before they were installed.
constinit std::mutex lock;
constinit unsigned users = 0;
constinit std::array<watched_signal, 2> signals{{{SIGSEGV}, {SIGBUS}}};
constinit std::terminate_handler previous_terminate = nullptr;
constinit bool terminate_is_ours = false;

// ---- stack overflow ----

// Whether this address lies in the guard of the stack that the calling kernel thread runs on.
bool is_overflow(const thread_record& self, const void* address) noexcept {
  const auto place = stack_pool::find(address);
  return place && place->in_guard && place->slot == self.extension->slot;
}

// With the linker's names, on little stack.
void print_frames(const call_stack& stack) noexcept {
  for (std::size_t i = 0; i < std::min(stack.kept, frames_told); ++i) {
    plain_text line;
    line << "  ";
    describe_frame(line, stack, i);
    print_report((line << "\n").view());
  }
  plain_text count;
  print_report((count << "  " << stack.total << " frames in all\n").view());
}

void print_overflow(const thread_record& self, void* context) noexcept {
  const stack_bounds usable = bounds_of(self);
  plain_text sentence;
  sentence << "weft: stack overflow in " << self << ": all " << usable.high - usable.low
           << " bytes of its stack are used; give it more with attributes::stack or options::stack\n";
  print_report(sentence.view());
  print_frames(walk_interrupted(context, {0, usable.high}));  // its first frames may lie below any bound
}

// ---- signals ----

// Without a handler of its own the program is to die of this signal, by the same instruction and with the same core dump.
void fall_back(int number, const siginfo_t& info) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(number, &standard, nullptr);
  if (info.si_code <= 0) raise(number);  // somebody sent it: no instruction will fault again. Delivered when we return
}

void hand_on(watched_signal& to, siginfo_t* info, void* context) {
  const struct sigaction previous = to.previous;
  if (previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
  if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) return fall_back(to.number, *info);
  if ((static_cast<unsigned>(previous.sa_flags) & SA_RESETHAND) != 0) to.previous = {};
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(to.number, info, context);
  } else {
    previous.sa_handler(to.number);
  }
}

void on_fault(int number, siginfo_t* info, void* context) {
  const int error = errno;
  watched_signal& signal = *std::find_if(signals.begin(), signals.end(), [=](auto& s) { return s.number == number; });
  const thread_record* const self = running_thread();
  if (info->si_code > 0 && self != nullptr && is_overflow(*self, info->si_addr)) {
    print_overflow(*self, context);
    sigaction(number, &signal.previous, nullptr);  // the instruction is repeated, and meets what it would have met without us
  } else {
    hand_on(signal, info, context);
  }
  errno = error;
}

// Whoever replaced our handler while we were there keeps the signal, for good: he may hand on to us, so that putting ours on
// top of his again could lead in a circle.
void take(watched_signal& signal) noexcept {
  if (signal.ours) return;
  struct sigaction action {};
  if (sigaction(signal.number, nullptr, &signal.previous) != 0) return;
  action.sa_sigaction = on_fault;
  action.sa_mask = signal.previous.sa_mask;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | (signal.previous.sa_flags & (SA_NODEFER | SA_RESTART));
  signal.ours = sigaction(signal.number, &action, nullptr) == 0;
}

void give_back(watched_signal& signal) noexcept {
  struct sigaction now {};
  if (!signal.ours || sigaction(signal.number, nullptr, &now) != 0) return;
  if ((now.sa_flags & SA_SIGINFO) == 0 || now.sa_sigaction != on_fault) return;
  sigaction(signal.number, &signal.previous, nullptr);
  signal.ours = false;
}

// ---- exceptions that nobody catches ----

// " of type std::runtime_error: no such row"
std::string describe_exception() {
  const std::type_info* const type = abi::__cxa_current_exception_type();
  std::string text = type == nullptr ? " of a foreign type" : " of type " + demangle(type->name());
  try {
    throw;
  } catch (const std::exception& e) {
    text.append(": ").append(e.what());
  } catch (...) {  // it has no text
  }
  return text;
}

// What makes C++ names readable recurses, and takes some 10 KiB of stack for long ones: too much for a small one.
void print_end(const thread_record& self, const void* hidden) {
  constexpr std::size_t room_for_names = 64 * 1024;
  std::string why = " called std::terminate";
  if (std::current_exception() != nullptr) why = " ended by an unhandled exception" + describe_exception();
  print_report("weft: " + who(self) + why + "\n");
  const stack_bounds bounds = bounds_of(self);
  const call_stack stack = walk_here(hidden, bounds);
  if (reinterpret_cast<std::uintptr_t>(hidden) - bounds.low < room_for_names) return print_frames(stack);
  print_report(frame_namer().lines(stack));
}

void on_terminate() {
  static thread_local bool already = false;
  const thread_record* const self = running_thread();
  if (self != nullptr && !std::exchange(already, true)) {
    try {
      print_end(*self, __builtin_frame_address(0));
    } catch (...) {  // out of memory, or a what() that throws: the handler before us still has its say
    }
  }
  if (previous_terminate != nullptr) previous_terminate();
  std::abort();
}

void take_terminate() noexcept {
  if (terminate_is_ours) return;
  previous_terminate = std::set_terminate(on_terminate);
  terminate_is_ours = true;
}

void give_terminate_back() noexcept {
  if (std::get_terminate() != on_terminate) return;
  std::set_terminate(previous_terminate);
  terminate_is_ours = false;
}

// ---- fork ----

// In the child the scheduler's kernel objects are the parent's, and every stack but the caller's is gone (stack_directory.cpp).
// So the child is nobody's thread: weft calls throw there, and the parent's threads are left alone.
void watch_forks() {
  static const int error = pthread_atfork(
      [] { lock.lock(); }, [] { lock.unlock(); },
      [] {
        lock.unlock();
        detail::set_this_scheduler(nullptr);
      });
  if (error != 0) throw std::bad_alloc();
}

// ---- the signal stack ----

// The calling kernel thread's, if it has none yet; null when it has. A kernel that refuses leaves it without: then an overflow
// ends the program in silence, and nothing else changes.
void* make_signal_stack() noexcept {
  stack_t there{};
  if (sigaltstack(nullptr, &there) != 0 || (there.ss_flags & SS_DISABLE) == 0) return nullptr;
  void* const memory = mmap(nullptr, signal_stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  const stack_t made{.ss_sp = memory, .ss_flags = 0, .ss_size = signal_stack_bytes};
  if (sigaltstack(&made, nullptr) == 0) return memory;
  munmap(memory, signal_stack_bytes);
  return nullptr;
}

void drop_signal_stack(void* memory) noexcept {
  if (memory == nullptr) return;
  stack_t there{};
  if (sigaltstack(nullptr, &there) == 0 && there.ss_sp == memory) {
    const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    if (sigaltstack(&none, nullptr) != 0) return;  // it is being used
  }
  munmap(memory, signal_stack_bytes);
}

}  // namespace

crash_reports::crash_reports() {
  watch_forks();
  const std::lock_guard guard(lock);
  if (users++ != 0) return;
  std::for_each(signals.begin(), signals.end(), take);
  take_terminate();
}

crash_reports::~crash_reports() {
  {
    const std::lock_guard guard(lock);
    if (--users == 0) {
      std::for_each(signals.begin(), signals.end(), give_back);
      give_terminate_back();
    }
  }
}

signal_stack::signal_stack() noexcept : memory_(make_signal_stack()) {}

signal_stack::~signal_stack() { drop_signal_stack(memory_); }

}  // namespace weft::sched
