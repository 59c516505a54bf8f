// Waiting for a result, and giving one: between threads of one scheduler, of several, and kernel threads.
//
// Everybody waits in the state's room, whose lock also guards the step to `ready`.
#include "weft/detail/future_state.hpp"

#include <pthread.h>

#include <cstdlib>

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"
#include "weft/detail/thread_exit.hpp"
#include "weft/thread.hpp"

namespace weft::detail {

void throw_future_error(std::future_errc why) { throw std::future_error(why); }

// ---- who waits ----

bool future_state::is_over(void* of) noexcept { return static_cast<future_state*>(of)->ready(); }

wake_reason future_state::wait_slow(time_point deadline, cancellation mode) {
  waiting_room::verdict how;
  room_.wait({.call = "future::wait",
              .what = "future",
              .object = this,
              .over = is_over,
              .of = this,
              .deadline = deadline,
              .mode = mode,
              .by_one = home_},
             how);
  return how.reason == wake_reason::timed_out && ready() ? wake_reason::granted : how.reason;
}

void future_state::wait() {
  if (ready()) return;
  stage expected = stage::deferred;
  if (stage_.compare_exchange_strong(expected, stage::claimed, std::memory_order_relaxed)) return carry_out();
  if (wait_slow(never, cancellation::allowed) == wake_reason::cancelled) throw_cancelled();
}

bool future_state::wait_until(time_point deadline) {
  if (ready()) return true;
  const wake_reason reason = wait_slow(deadline, cancellation::allowed);
  if (reason == wake_reason::cancelled) throw_cancelled();
  return reason == wake_reason::granted;
}

// ---- who gives the result ----

void future_state::store_error(std::exception_ptr error) {
  if (error == nullptr) throw_error(std::errc::invalid_argument, "promise::set_exception: the pointer to the exception is null");
  claim();
  error_ = std::move(error);
}

void future_state::break_promise() noexcept {
  error_ = std::make_exception_ptr(std::future_error(std::future_errc::broken_promise));
}

void future_state::make_ready() noexcept {
  if (current_thread() == nullptr && on_weft_thread()) {
    return with_processor("promise::set_value", [this] { make_ready(); });
  }
  waiting_room::chosen all;
  {
    const std::lock_guard hold(room_);
    stage_.store(stage::ready, std::memory_order_release);
    room_.choose_all(all);
  }
  waiting_room::wake(all);
}

void future_state::abandon(std::shared_ptr<future_state>& state) noexcept {
  // Nobody else knows of it: nobody waits, and nobody can begin to.
  if (state.use_count() > 1 && state->try_claim()) {
    state->break_promise();
    state->make_ready();
  }
  state.reset();
}

// ---- at the end of a thread ----

namespace {

// A result that waits for the end of its thread: of a weft thread in its list of exit calls, of a kernel thread in ours.
struct held_result : thread_exit_call {
  explicit held_result(const std::shared_ptr<future_state>& of) : state(of) {}
  std::shared_ptr<future_state> state;
};

void release(thread_exit_call& call) noexcept {
  const std::unique_ptr<held_result> held(&static_cast<held_result&>(call));
  held->state->make_ready();
}

void release_all(void* newest) {
  for (auto* call = static_cast<thread_exit_call*>(newest); call != nullptr;) {
    thread_exit_call& now = *call;
    call = now.next;
    now.run(now);
  }
}

void release_all_of_caller();

// A key of the C library, because its values go after all thread_local objects; but those of the kernel thread that calls exit()
// stay.
pthread_key_t exit_key() {
  static const pthread_key_t key = [] {
    pthread_key_t made{};
    if (const int error = pthread_key_create(&made, release_all); error != 0) {
      throw_errno(error, "promise::set_value_at_thread_exit: the C library has no key left (PTHREAD_KEYS_MAX)");
    }
    return made;
  }();
  static const bool asked_at_exit = std::atexit(release_all_of_caller) == 0;
  static_cast<void>(asked_at_exit);
  return key;
}

void release_all_of_caller() {
  void* const newest = pthread_getspecific(exit_key());
  static_cast<void>(pthread_setspecific(exit_key(), nullptr));
  release_all(newest);
}

void at_kernel_thread_exit(thread_exit_call& call) {
  const pthread_key_t key = exit_key();
  call.next = static_cast<thread_exit_call*>(pthread_getspecific(key));
  if (const int error = pthread_setspecific(key, &call); error != 0) {
    throw_errno(error, "promise::set_value_at_thread_exit: no memory for the calling kernel thread's keys");
  }
}

}  // namespace

void future_state::make_ready_at_thread_exit(const std::shared_ptr<future_state>& state) {
  try {
    auto held = std::make_unique<held_result>(state);
    held->run = release;
    if (on_weft_thread()) {
      at_thread_exit(*held);
    } else {
      at_kernel_thread_exit(*held);
    }
    static_cast<void>(held.release());
  } catch (...) {
    state->withdraw();
    throw;
  }
}

// ---- async ----

void future_state::launch_as(std::launch policy) {
  const bool may_defer = (policy & std::launch::deferred) != std::launch{};
  if ((policy & std::launch::async) == std::launch{}) {
    if (!may_defer) throw_error(std::errc::invalid_argument, "async: the policy is neither launch::async nor launch::deferred");
    return stage_.store(stage::deferred, std::memory_order_relaxed);
  }
  try {
    start();
  } catch (const std::system_error& error) {
    const std::error_code why = error.code();
    if (!may_defer || (why != std::errc::resource_unavailable_try_again && why != std::errc::not_enough_memory)) throw;
    stage_.store(stage::deferred, std::memory_order_relaxed);
  }
}

// With the processor from beginning to end. The thread may run at once (policies::child_first), and even end: what it looks at is
// written before. `thread_` is for those who have the future.
void future_state::start() {
  if (current_thread() == nullptr) return with_processor("async", [this] { start(); });
  stage_.store(stage::claimed, std::memory_order_relaxed);
  home_ = sched::this_scheduler().mail().get();
  try {
    thread made({.name = "async"}, [this] { carry_out(); });
    thread_ = made.native_handle();
    made.detach();
  } catch (...) {
    home_ = nullptr;  // there is nothing to wait for
    throw;
  }
}

// Only where the thread is one of the caller's own scheduler, which then does not run it meanwhile.
void future_state::ask_to_end() noexcept {
  if (current_thread() == nullptr) return with_processor("async", [this] { ask_to_end(); });
  sched::scheduler& s = sched::this_scheduler();
  if (s.mail().get() == home_ && !ready()) s.request_cancel(*thread_);
}

// A thread that unwinds because it was asked to end takes with it what it has started, as with weft::thread.
void future_state::await_end() noexcept {
  if (home_ == nullptr) return;
  if (!ready()) {
    if (this_thread::cancel_requested() && std::uncaught_exceptions() != 0) ask_to_end();
    static_cast<void>(wait_slow(never, cancellation::shielded));
  }
  const std::lock_guard the_last_touch(room_);  // of make_ready() is to let go of it
}

}  // namespace weft::detail
