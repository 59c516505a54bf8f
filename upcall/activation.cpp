#include "upcall/activation.hpp"

#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "weft/error.hpp"

namespace weft::upcall::engine {

namespace {

using detail::processor;

constexpr std::uint64_t bell_tag = 0;        // the others are numbers of activations, from 1
constexpr std::uint32_t most_monitors = 64;  // each takes two pages of the memory that perf may lock
constexpr int idle_life_ms = 2000;
constexpr std::chrono::microseconds first_look_without_perf{20};
constexpr std::chrono::microseconds first_look_with_perf{10'000};

void ring(int bell) noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(bell, &one, sizeof one));
}

int own_kernel_id() noexcept { return static_cast<int>(::syscall(SYS_gettid)); }

}  // namespace

activations::activations(handler& scheduler, processor& word, std::uint32_t most, bool wants_all_code)
    : scheduler_(&scheduler),
      word_(&word),
      set_(::epoll_create1(EPOLL_CLOEXEC)),
      bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  limit = most;
  epoll_event wanted{};
  wanted.events = EPOLLIN | EPOLLET;
  wanted.data.u64 = bell_tag;
  if (set_ < 0 || bell_ < 0 || ::epoll_ctl(set_, EPOLL_CTL_ADD, bell_, &wanted) != 0) {
    const int error = errno;
    if (set_ >= 0) ::close(set_);
    if (bell_ >= 0) ::close(bell_);
    detail::throw_errno(error, "weft: the kernel refuses the descriptors that activations need (too many open files?)");
  }
  for (std::uint32_t i = 0; i < most; ++i) {
    vessels_.push_back(std::make_unique<vessel>());
    vessels_.back()->scheduler = scheduler_;
    vessels_.back()->number = i + 1;
    vessels_.back()->then = on_trap;
  }
  places_.reserve(most);
  vessels_.front()->vacant = false;
  vessels_.front()->kernel_thread = own_kernel_id();
  if (wants_all_code) prepare_all_code();
}

void activations::prepare_all_code() {
  return_trap trial;
  all_code = others_can_be_looked_at() && trial.open(*vessels_.front()) == 0 && take_sigtrap();
  trial.close();
  open_monitor(1);
  all_code = all_code && of(1).monitor.is_open();
}

// In a signal handler.
void activations::on_trap(trap_receiver& self, void* context) noexcept {
  auto& v = static_cast<vessel&>(self);
  if (v.stop.is_open()) v.stop.disarm();
  v.scheduler->returns(v.number, context, v.stop.armed_at());
}

activations::~activations() {
  if (alive_ > 1) {  // run() did not come to its end
    end();
    join();
  }
  watchdog_.reset();
  vessels_.clear();
  for (const int place : places_) ::close(place);
  ::close(bell_);
  ::close(set_);
}

// ---- the holder's side ----

bool activations::provide() {
  if (free.load(std::memory_order_relaxed) > 0) return true;
  {
    const std::lock_guard guard(lock_);
    if (alive_ >= limit) return false;
  }
  try {
    if (!watchdog_) start_watchdog();
    start_kernel_thread();
  } catch (const std::system_error&) {
    const std::lock_guard guard(lock_);
    if (alive_ > 1) return false;  // one of them will be free
    throw;
  }
  return true;
}

void activations::start_watchdog() {
  const bool told = perf_.load(std::memory_order_relaxed) == perf::allowed;
  watchdog_.emplace(*word_, watchdog_asleep, told ? first_look_with_perf : first_look_without_perf, [this](processor::word w) {
    overdue_.store(w, std::memory_order_release);
    call();
  });
}

void activations::start_kernel_thread() {
  std::uint32_t number = 0;
  {
    const std::lock_guard guard(lock_);
    for (std::uint32_t i = 2; number == 0; ++i) {
      if (of(i).vacant) number = i;
    }
  }
  vessel& v = of(number);
  v.thread.join();  // it retired
  scheduler_->prepare_activation(number);
  // It runs the program's code: the program's signals are not kept from it.
  v.thread = detail::kernel_thread("weft::blocking", "weft-" + std::to_string(number), detail::signals::as_here,
                                   [this, number] { run(number); });
  const std::lock_guard guard(lock_);
  v.vacant = false;
  ++alive_;
  free.fetch_add(1, std::memory_order_relaxed);
}

// Without a monitor the watchdog looks after it.
// It is called in the middle of a thread's own code, too, which is to find its errno.
void activations::watch(std::uint32_t number) noexcept {
  const int error = errno;
  watched.store(number, std::memory_order_relaxed);
  if (perf_.load(std::memory_order_relaxed) == perf::allowed) start_monitor(number);
  errno = error;
}

void activations::start_monitor(std::uint32_t number) noexcept {
  vessel& v = of(number);
  if (!v.monitor.is_open()) {
    if (number == 1) return ask_for_first_monitor();
    if (monitors_.load(std::memory_order_relaxed) >= most_monitors) close_one_monitor(number);
    open_monitor(number);
  }
  v.monitor.start();
}

// The first event of a machine takes the kernel 20 ms: one who stands by opens it, and that of the first activation, so that the
// holder does not wait.
void activations::ask_for_first_monitor() noexcept {
  first_monitor_wanted_.store(true, std::memory_order_relaxed);
  call();
}

void activations::open_first_monitor() noexcept {
  if (!first_monitor_wanted_.exchange(false, std::memory_order_relaxed)) return;
  open_monitor(1);
  watched.store(0, std::memory_order_relaxed);  // it is started on the way into the next region
}

void activations::open_monitor(std::uint32_t number) noexcept {
  vessel& v = of(number);
  if (all_code && !v.stop.is_open() && v.stop.open(v) != 0) return;
  const int error = v.monitor.open(set_, number, kernel_thread_of(number));
  if (error == 0) monitors_.fetch_add(1, std::memory_order_relaxed);
  learn(error);
}

// Whether perf is there is known when the first who stood by has tried.
void activations::learn(int error) noexcept {
  const bool passes = error == EMFILE || error == ENFILE || error == ENOMEM;
  if (passes || perf_.load(std::memory_order_relaxed) != perf::unknown) return;
  perf_.store(error == 0 ? perf::allowed : perf::refused, std::memory_order_relaxed);
  if (error == 0 && watchdog_) watchdog_->look_after(first_look_with_perf);
  watched.store(0, std::memory_order_relaxed);  // the holder is to ask for its own
}

// Of an activation that does not hold the processor: it opens another when it does.
void activations::close_one_monitor(std::uint32_t but) noexcept {
  for (std::uint32_t number = 1; number <= limit; ++number) {
    vessel& v = of(number);
    if (number == but || !v.monitor.is_open()) continue;
    v.monitor.close();
    monitors_.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
}

void activations::rest(std::uint32_t number) noexcept {
  of(number).monitor.stop();
  watched.store(0, std::memory_order_relaxed);
}

// ---- sleeping while the processor may be taken ----

int activations::sleeping_place() noexcept {
  const std::lock_guard guard(lock_);
  if (places_.empty()) return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int place = places_.back();
  places_.pop_back();
  return place;
}

// The one who roused us may do so only now: whoever sleeps here next then wakes once for nothing.
void activations::vacate(int place) noexcept {
  std::uint64_t count = 0;
  static_cast<void>(!::read(place, &count, sizeof count));
  const std::lock_guard guard(lock_);
  places_.push_back(place);  // there is room: no more of them than activations
}

void activations::rouse(int place) noexcept { ring(place); }

void activations::wake_watchdog() noexcept { watchdog_->wake(); }

void activations::call() noexcept { ring(bell_); }

// ---- standing by ----

void activations::run(std::uint32_t number) {
  of(number).kernel_thread.store(own_kernel_id(), std::memory_order_relaxed);
  scheduler_->begin_activation(number);
  // Its first sleep, standing by, brings the monitor into phase.
  const bool hopeless = perf_.load(std::memory_order_relaxed) == perf::refused;
  if (!hopeless && monitors_.load(std::memory_order_relaxed) < most_monitors) open_monitor(number);
  stand_by(number);
  close_events(number);
  scheduler_->end_activation(number);
}

void activations::stand_by(std::uint32_t number) {
  bool slept = number == 1;
  while (!over_.load(std::memory_order_acquire)) {
    open_first_monitor();
    scheduler_->serve(number);                                  // whoever was called while nobody waited below
    if (std::exchange(slept, true)) of(number).monitor.stop();  // our own sleep is nobody's news
    epoll_event news{};
    const bool needed = number == 1 || free.load(std::memory_order_relaxed) <= 1;
    const int n = over_.load(std::memory_order_acquire) ? 0 : ::epoll_wait(set_, &news, 1, needed ? -1 : idle_life_ms);
    if (n > 0) on_news(number, news.data.u64);
    if (n == 0 && number != 1 && !over_.load(std::memory_order_acquire) && may_retire(number)) return;
  }
  call();  // the next one is to see it too
}

void activations::on_news(std::uint32_t me, std::uint64_t tag) {
  const processor::word now = word_->look();
  if (tag == bell_tag) {
    if (now == overdue_.load(std::memory_order_acquire)) {
      if (processor::grip_of(now) == processor::grip::lent) static_cast<void>(scheduler_->take(me, now));
      if (processor::grip_of(now) == processor::grip::open) displace(me, now);
    }
    return;  // stand_by() serves
  }
  const auto watched_one = static_cast<std::uint32_t>(tag);
  if (processor::holder(now) == watched_one && processor::grip_of(now) == processor::grip::open) return displace(me, now);
  if (processor::holder(now) != watched_one || processor::grip_of(now) != processor::grip::lent) return;
  if (of(watched_one).monitor.waits()) static_cast<void>(scheduler_->take(me, now));
}

// Takes the processor from one whose thread waits in its own code, if it may be left there and will be stopped when it goes on.
// Whoever counts on the trap has the processor before the next one may look: to arm it again is to disarm it for a moment, in
// which the other might go on. Only its own kernel thread disarms it: who lost the race must not.
void activations::displace(std::uint32_t me, processor::word seen) {
  {
    const std::lock_guard guard(of(processor::holder(seen)).stop.lock);
    if (!can_displace(me, seen) || !word_->take(seen, me)) return;
  }
  scheduler_->took(me, seen);
}

// Under the lock. Whatever the other does meanwhile makes one of the last two looks, or the swap, fail: a record is written when
// it goes on, and the word changes when it comes inside or is stopped.
bool activations::can_displace(std::uint32_t me, processor::word seen) {
  const std::uint32_t where = processor::holder(seen);
  vessel& v = of(where);
  for (;;) {
    const std::uint64_t before = v.monitor.progress();
    if (word_->look() != seen || !v.monitor.waits()) return false;
    const whereabouts at = whereabouts_of(kernel_thread_of(where));
    if (!at.waits || !would_take(kernel_thread_of(where), SIGTRAP) || !scheduler_->may_displace(me, where, at)) return false;
    if (!v.stop.arm(at)) return false;
    if (v.monitor.progress() == before) return true;
  }
}

// The last one that is free stays: whoever lends the processor counts on it.
bool activations::may_retire(std::uint32_t number) {
  const std::lock_guard guard(lock_);
  std::int32_t others = free.load(std::memory_order_relaxed);
  do {
    if (others <= 1) return false;
  } while (!free.compare_exchange_weak(others, others - 1, std::memory_order_acq_rel));
  vessel& v = of(number);
  v.vacant = true;
  --alive_;
  return true;
}

// On its own kernel thread: a trap must still find whom it is for.
void activations::close_events(std::uint32_t number) noexcept {
  vessel& v = of(number);
  if (v.monitor.is_open()) {
    v.monitor.close();
    monitors_.fetch_sub(1, std::memory_order_relaxed);
  }
  v.stop.close();
}

void activations::end() noexcept {
  over_.store(true, std::memory_order_release);
  call();
}

void activations::join() noexcept {
  for (const auto& v : vessels_) v->thread.join();
  alive_ = 1;
  close_events(1);
}

// ---- the rest ----

int activations::kernel_thread_of(std::uint32_t number) const noexcept {
  return of(number).kernel_thread.load(std::memory_order_relaxed);
}

int activations::system_call_of(std::uint32_t number) const noexcept {
  return whereabouts_of(kernel_thread_of(number)).call;
}

// A futex of our own: std::atomic::wait of this library shares its waiting places, so that an alert would wake many.
// acquire and release: who was alerted sees what the other did with the processor.
void activations::await(std::atomic<std::uint32_t>& flag) noexcept {
  while (flag.exchange(0, std::memory_order_acquire) == 0)
    ::syscall(SYS_futex, &flag, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
}

void activations::alert(std::atomic<std::uint32_t>& flag) noexcept {
  flag.store(1, std::memory_order_release);
  ::syscall(SYS_futex, &flag, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace weft::upcall::engine
