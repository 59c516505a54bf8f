// Interrupting a kernel thread that runs, without disturbing one that waits.
//
// A POSIX timer on a CPU clock expires in the kernel's tick, while its kernel thread has the core. The kernel then sends the
// signal as task work, on the way back to user code (CONFIG_POSIX_CPU_TIMERS_TASK_WORK, Linux 5.10 on x86-64): whatever system
// call there was is finished, so none ever returns EINTR. A timer on CLOCK_MONOTONIC hits waiting calls: of 9,397 short
// nanosleeps and polls 183 were broken, against none of 11,080 here (1 ms, Linux 6.18).
#include "weft/detail/preemption.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <system_error>

#include "upcall/perf_trap.hpp"
#include "weft/error.hpp"

namespace weft::upcall {

namespace {

constinit std::atomic<interrupted> receiver{nullptr};
constinit std::mutex lock;  // of the dispositions that we change

// The value of a timer that ticks is whom it interrupts; of one that asks a question, null.
void on_signal(int, siginfo_t* info, void* context) {
  if (info->si_code != SI_TIMER) return;  // somebody else sent it
  const interrupted then = receiver.load(std::memory_order_acquire);
  if (then == nullptr) return;
  if (info->si_value.sival_ptr != nullptr) return then(interruption::tick, info->si_value.sival_ptr, context);
  const int error = errno;
  then(interruption::question, nullptr, context);
  errno = error;
}

enum class user : std::uint8_t { nobody, us, program, nothing_there };

user user_of(int signal) noexcept {
  struct sigaction now {};
  if (sigaction(signal, nullptr, &now) != 0) return user::nothing_there;
  if ((now.sa_flags & SA_SIGINFO) != 0) return now.sa_sigaction == on_signal ? user::us : user::program;
  return now.sa_handler == SIG_DFL ? user::nobody : user::program;
}

// From the top: programs that want real-time signals take the first ones.
int free_signal() {
  for (int signal = SIGRTMAX - 1; signal >= SIGRTMIN; --signal) {
    const user who = user_of(signal);
    if (who == user::us || who == user::nobody) return signal;
  }
  throw std::system_error(std::make_error_code(std::errc::device_or_resource_busy),
                          "weft: the program handles every real-time signal; name one for weft in options::preemption_signal");
}

void check(int signal) {
  const user who = user_of(signal);
  if (who == user::nobody || who == user::us) return;
  const bool taken = who == user::program;
  throw std::system_error(std::make_error_code(taken ? std::errc::device_or_resource_busy : std::errc::invalid_argument),
                          "weft: options::preemption_signal is " + std::to_string(signal) +
                              (taken ? ", which the program handles already; name another" : ", which is no signal to handle"));
}

// The clock of the time for which a kernel thread had a core: what pthread_getcpuclockid makes of a kernel's number.
clockid_t core_clock_of(int kernel_thread) noexcept {
  constexpr unsigned per_thread = 4;
  constexpr unsigned by_scheduler = 2;
  return static_cast<clockid_t>((~static_cast<unsigned>(kernel_thread) << 3) | per_thread | by_scheduler);
}

sigevent signal_to(int kernel_thread, int signal, void* whom) noexcept {
  sigevent how{};
  how.sigev_notify = SIGEV_THREAD_ID;
  how.sigev_signo = signal;
  how.sigev_value.sival_ptr = whom;
  how._sigev_un._tid = kernel_thread;
  return how;
}

}  // namespace

int take_signal(int wanted, interrupted then) {
  const std::lock_guard guard(lock);
  const int signal = wanted != 0 ? wanted : free_signal();
  check(signal);
  receiver.store(then, std::memory_order_release);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  if (sigaction(signal, &action, nullptr) != 0) detail::throw_errno(errno, "weft: sigaction");
  return signal;
}

question::question(int kernel_thread, int signal) noexcept {
  sigevent how = signal_to(kernel_thread, signal, nullptr);
  timer_t made{};
  if (timer_create(core_clock_of(kernel_thread), &how, &made) != 0) return;
  timer_ = made;
  made_ = true;
  const itimerspec at_once{{0, 0}, {0, 1}};
  timer_settime(made, 0, &at_once, nullptr);
}

question::~question() {
  if (made_) timer_delete(static_cast<timer_t>(timer_));
}

// ---- ticks ----

struct ticker::state : trap_receiver {
  void* whom = nullptr;
  int event = -1;
  timer_t timer{};
  int signal = 0;
  bool was_blocked = false;
};

namespace {

// @returns whether the calling kernel thread blocked it.
bool let_through(int signal) noexcept {
  sigset_t one;
  sigset_t before;
  sigemptyset(&one);
  sigaddset(&one, signal);
  return pthread_sigmask(SIG_UNBLOCK, &one, &before) == 0 && sigismember(&before, signal) == 1;
}

// What was sent while the program blocked it would be delivered when nobody is there any more.
void end_for_good(int signal, bool block) noexcept {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  const timespec at_once{};
  while (sigtimedwait(&one, nullptr, &at_once) == signal) {
  }
  if (block) pthread_sigmask(SIG_BLOCK, &one, nullptr);
}

int open_tick(std::chrono::nanoseconds period, trap_receiver& to) noexcept {
  perf_event_attr wanted{};
  wanted.type = PERF_TYPE_SOFTWARE;
  wanted.config = PERF_COUNT_SW_CPU_CLOCK;
  wanted.sample_period = static_cast<std::uint64_t>(period.count());
  wanted.exclude_kernel = 1;
  return open_trap(wanted, to);
}

}  // namespace

ticker::ticker(std::chrono::nanoseconds period, int signal, void* whom) noexcept : state_(new (std::nothrow) state) {
  if (state_ == nullptr) return;
  state_->whom = whom;
  state_->then = [](trap_receiver& self, void* context) noexcept {
    const interrupted then = receiver.load(std::memory_order_acquire);
    if (then != nullptr) then(interruption::tick, static_cast<state&>(self).whom, context);
  };
  state_->event = take_sigtrap() ? open_tick(period, *state_) : -EBUSY;
  state_->signal = state_->event >= 0 ? SIGTRAP : signal;
  state_->was_blocked = let_through(state_->signal);
  if (state_->event >= 0) {
    source_ = clock::perf;
    ::ioctl(state_->event, PERF_EVENT_IOC_ENABLE, 0);
    return;
  }
  const int self = this_kernel_thread();
  sigevent how = signal_to(self, signal, whom);
  if (timer_create(core_clock_of(self), &how, &state_->timer) != 0) return;
  source_ = clock::cpu;
  const timespec every{static_cast<time_t>(period.count() / 1'000'000'000), static_cast<long>(period.count() % 1'000'000'000)};
  const itimerspec ticks{every, every};
  timer_settime(state_->timer, 0, &ticks, nullptr);
}

// What is on its way is delivered before these system calls return.
ticker::~ticker() {
  if (source_ == clock::perf) ::close(state_->event);
  if (source_ == clock::cpu) timer_delete(state_->timer);
  if (source_ != clock::none) end_for_good(state_->signal, state_->was_blocked);
}

int ticker::perf_refusal() noexcept {
  if (!sigtrap_is_free()) return EBUSY;
  trap_receiver nobody{};
  constexpr std::chrono::seconds period{1};
  const int fd = open_tick(period, nobody);
  if (fd >= 0) ::close(fd);
  return fd >= 0 ? 0 : -fd;
}

// ---- where others are ----

namespace {

// Reads /proc/…/`file` of a kernel thread of ours. @returns false when it is gone, or the kernel does not tell.
template <std::size_t Size> bool read_of(int kernel_thread, const char* file, std::array<char, Size>& text) noexcept {
  std::snprintf(text.data(), Size, "/proc/self/task/%d/%s", kernel_thread, file);
  const int fd = ::open(text.data(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const ssize_t n = ::read(fd, text.data(), Size - 1);
  ::close(fd);
  text[n > 0 ? static_cast<std::size_t>(n) : 0] = '\0';
  return n > 0;
}

using call_text = std::array<char, 256>;
using state_text = std::array<char, 512>;

}  // namespace

// /proc/…/syscall: "running", or the call, its six arguments, stack pointer and instruction pointer; "-1" and the pointers when
// it waits outside of a call.
whereabouts whereabouts_of(int kernel_thread) noexcept {
  call_text text;
  if (!read_of(kernel_thread, "syscall", text)) return {};
  if (text[0] != '-' && (text[0] < '0' || text[0] > '9')) return {};
  char* rest = text.data();
  whereabouts found;
  found.waits = true;
  found.call = static_cast<int>(std::strtol(rest, &rest, 10));
  for (int i = 0; found.call >= 0 && i < 6; ++i) std::strtoull(rest, &rest, 16);
  found.stack_pointer = std::strtoull(rest, &rest, 16);
  found.instruction = std::strtoull(rest, &rest, 16);
  return found;
}

// /proc/…/stat: after the name, which may hold anything, the state is the first word, and the signals that it blocks are the
// 30th.
bool would_take(int kernel_thread, int signal) noexcept {
  constexpr int words_before = 29;
  state_text text;
  if (!read_of(kernel_thread, "stat", text)) return false;
  const char* word = std::strrchr(text.data(), ')');
  if (word == nullptr || word[1] != ' ' || word[2] == 'T' || word[2] == 't') return false;
  word += 2;
  for (int i = 0; i < words_before; ++i) {
    word = std::strchr(word, ' ');
    if (word == nullptr) return false;
    ++word;
  }
  return (std::strtoull(word, nullptr, 10) >> (signal - 1) & 1) == 0;
}

std::size_t read_memory(const void* from, void* to, std::size_t bytes) noexcept {
  const iovec source{const_cast<void*>(from), bytes};
  const iovec target{to, bytes};
  const ssize_t n = bytes == 0 ? 0 : ::process_vm_readv(::getpid(), &target, 1, &source, 1, 0);
  return n < 0 ? 0 : static_cast<std::size_t>(n);
}

bool others_can_be_looked_at() noexcept {
  const int here = this_kernel_thread();
  int copy = 0;
  call_text call;
  state_text state;
  return peek(&here, copy) && read_of(here, "syscall", call) && read_of(here, "stat", state);
}

std::int64_t core_time_of(int kernel_thread) noexcept {
  timespec t{};
  if (clock_gettime(core_clock_of(kernel_thread), &t) != 0) return 0;
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

int this_kernel_thread() noexcept { return static_cast<int>(::syscall(SYS_gettid)); }

}  // namespace weft::upcall
