// Threads: spawn, join, detach, cancel, and what a thread can ask about itself.
#include "weft/thread.hpp"

#include "weft/detail/region.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <exception>
#include <memory>
#include <ostream>
#include <string>
#include <system_error>

#include "sched/order.hpp"
#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/local_value.hpp"
#include "weft/detail/tools.hpp"

namespace weft {

thread::id make_id(std::uint32_t number) noexcept { return thread::id{number}; }

namespace sched {

namespace {

struct discard_start {
  void operator()(detail::start_block* start) const noexcept { start->discard(*start); }
};

// Only the holder writes flags; a thread in a region may read its own meanwhile (cancel_requested).
void set_flag(thread_record& t, std::uint8_t flag) noexcept {
  std::atomic_ref(t.flags).store(static_cast<std::uint8_t>(t.flags | flag), std::memory_order_relaxed);
}

}  // namespace

thread_record& scheduler::spawn(const attributes& how, detail::start_block* start) {
  std::unique_ptr<detail::start_block, discard_start> owned(start);
  const bool counted = current != nullptr;  // a post is nobody's to refuse
  if (counted && options_.max_threads != 0 && alive_ >= options_.max_threads) [[unlikely]] {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                            "weft: " + std::to_string(alive_) + " threads are alive, as many as options::max_threads allows");
  }
  if (how.time_slice) begin_ticks();
  if (!plain_ && order_ != nullptr) [[unlikely]] order::check(how);
  const bool usual = how.stack == 0 && !how.tiny;
  const std::size_t size = how.stack != 0 ? how.stack : how.tiny ? default_tiny_size : options_.stack;
  const stack_class stacks = usual ? default_class_ : stacks_.classify({size, options_.guard, how.tiny});
  thread_record& made = records_.take();
  try {
    stacks_.promise(stacks);
  } catch (...) {
    records_.give_unused(made);
    throw;
  }
  start->stack_class = std::bit_cast<void*>(stacks);
  start->floating_point = how.floating_point_control;
  if (!how.name.empty()) {
    std::memcpy(start->name, how.name.data(), std::min(how.name.size(), sizeof start->name - 1));
  }

  made.flags = 0;
  if (loop_.ending) made.flags = flag_asked | flag_cancel;
  if (all_code_) made.flags |= flag_outside;
  made.number = ++last_number_ != 0 ? last_number_ : ++last_number_;
  made.caught = nullptr;
  made.uncaught = 0;
  made.error = 0;
  made.start = owned.release();
  made.set_state(thread_state::created);
  ++alive_;
  if (how.time_slice) slice(made, true);
  if (!plain_) [[unlikely]] note_spawned(made, how);
  if ((how.start == start::now || child_first_) && current != nullptr) {
    run_first(made);
  } else if (plain_) {
    ready_.put(made);
  } else {
    queue(made, policy::came::created);
  }
  return made;
}

void scheduler::note_spawned(thread_record& made, const attributes& how) noexcept {
  record(trace::kind::spawn, made, current != nullptr ? current->number : 0);
  if (order_ != nullptr) order_->begin(made, how);
}

void scheduler::slice(thread_record& t, bool on) {
  if (on) begin_ticks();
  const auto wanted = static_cast<std::uint8_t>(flag_sliced | flag_outside);
  const auto unwanted = static_cast<std::uint8_t>(all_code_ ? flag_sliced : wanted);
  const bool ticks = on && options_.time_slice.count() != 0;
  std::atomic_ref(t.flags).store(static_cast<std::uint8_t>(ticks ? t.flags | wanted : t.flags & ~unwanted),
                                 std::memory_order_relaxed);
}

void scheduler::rename(std::string_view name) noexcept {
  auto& kept = current->extension->name;
  const std::size_t length = std::min(name.size(), sizeof kept - 1);
  std::memmove(kept, name.data(), length);  // perhaps it is a part of the old one
  std::memset(kept + length, 0, sizeof kept - length);
  if (trace != nullptr) trace->name_thread(current->number, kept);
}

void scheduler::detach(thread_record& t) noexcept {
  if (t.state == thread_state::finished) {
    records_.give(t);
  } else {
    set_flag(t, flag_detached);
  }
}

void scheduler::request_cancel(thread_record& t) noexcept {
  if (t.state == thread_state::finished) return;
  set_flag(t, flag_asked);
  reconsider_end(t);
  tell_stretches(t);
}

// The thread is to end: its wait throws, if it may.
void scheduler::end_wait_of(thread_record& t) noexcept {
  waiter* const w = t.waits_on;
  if (w == nullptr || w->shielded || w->reason != detail::wake_reason::granted) return;
  if (w->operation != nullptr) {
    w->reason = detail::wake_reason::cancelled;
    source->cancel(*w->operation);
  } else {
    if (w->queue != nullptr) {
      w->queue->remove(*w);
    } else {
      note(about(upcall::kind::unblocked, upcall::cause::timer, t, -ECANCELED));
    }
    end_wait(*w, detail::wake_reason::cancelled);
  }
}

}  // namespace sched

namespace detail {

void* allocate_start(std::size_t bytes) {
  scheduler_face& face = this_scheduler_face();
  if (face.current == nullptr) [[unlikely]] {
    return ::operator new(sched::start_pool::rounded(bytes));  // the first thread of weft::run, or a post
  }
  return static_cast<sched::scheduler&>(face).starts().take(bytes);
}

void free_start(void* block, std::size_t bytes) noexcept {
  scheduler_face& face = this_scheduler_face();
  if (face.current == nullptr) [[unlikely]] return ::operator delete(block);
  static_cast<sched::scheduler&>(face).starts().give(block, bytes);
}

// What is inherited is copied before all else, as the caller's own code, which may be preempted.
thread_record* spawn(const attributes& how, start_block* start) {
  if (locals_are_inherited.load(std::memory_order_relaxed)) [[unlikely]]
    start = start_with_heritage(start);
  if (current_thread() == nullptr) [[unlikely]] {
    if (on_weft_thread()) return with_processor("thread", [&] { return &sched::this_scheduler().spawn(how, start); });
    start->discard(*start);
    throw_off_weft("thread");
  }
  return &sched::this_scheduler().spawn(how, start);
}

bool forget(thread_record& ended, const waiter& self) noexcept {
  if (reinterpret_cast<std::uintptr_t>(self.slot) != ended.number) [[unlikely]] return false;
  sched::this_scheduler().free_record(ended);
  return true;
}

}  // namespace detail

// ---- thread ----

thread::id thread::get_id() const noexcept { return record_ == nullptr ? id{} : id{record_->number}; }

void thread::nothing_to_join() {
  detail::throw_error(std::errc::invalid_argument, "thread::join: there is no thread to join (it was joined, detached or moved)");
}

// Joins rather than detaches: what the other thread works with lies on the stack that unwinds, as a rule.
void thread::destroyed_joinable() noexcept {
  if (!this_thread::cancel_requested() || std::uncaught_exceptions() == 0) std::terminate();
  request_cancel();
  try {
    static_cast<void>(join_with(never, detail::cancellation::shielded));
  } catch (const std::system_error&) {  // its thread was taken from it while it waited, or it is the calling thread's own
    if (joinable()) detach();
  }
}

void thread::detach() {
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("thread::detach", [this] { detach(); });
  }
  sched::scheduler& s = sched::scheduler_of_caller("thread::detach");
  if (record_ == nullptr) {
    detail::throw_error(std::errc::invalid_argument, "thread::detach: there is no thread to detach (joined, detached or moved)");
  }
  if (record_->home != s.current->home) [[unlikely]] sched::used_by_two_schedulers("thread");
  s.detach(*std::exchange(record_, nullptr));
}

void thread::request_cancel() noexcept {
  if (record_ == nullptr || !detail::on_weft_thread()) return;
  if (detail::current_thread() == nullptr) [[unlikely]] {
    return detail::with_processor("thread::request_cancel", [this] { request_cancel(); });
  }
  sched::scheduler& s = sched::this_scheduler();
  if (record_->home != s.current->home) [[unlikely]] sched::used_by_two_schedulers("thread");
  s.request_cancel(*record_);
}

unsigned thread::hardware_concurrency() noexcept {
  const long n = sysconf(_SC_NPROCESSORS_ONLN);
  return n > 0 ? static_cast<unsigned>(n) : 0;
}

std::ostream& operator<<(std::ostream& out, thread::id id) { return out << id.number(); }

void jthread::end() noexcept {
  if (!thread_.joinable()) return;
  request_stop();
  try {
    static_cast<void>(thread_.join_with(never, detail::cancellation::shielded));
  } catch (const std::system_error&) {  // its thread was taken from it while it waited: nothing is left to join
  }
}

// ---- this_thread ----

namespace this_thread {

namespace {

// Also inside a region of blocking().
detail::thread_record* calling_thread() noexcept {
  const detail::scheduler_face& face = detail::this_scheduler_face();
  return face.current != nullptr ? face.current : face.away;
}

}  // namespace

thread::id get_id() noexcept {
  detail::thread_record* const self = calling_thread();
  return self == nullptr ? thread::id{} : make_id(self->number);
}

std::string_view name() {
  if (!detail::on_weft_thread()) detail::throw_off_weft("this_thread::name");
  return calling_thread()->name();
}

void set_name(std::string_view name) {
  if (detail::current_thread() == nullptr) return detail::with_processor("this_thread::set_name", [=] { set_name(name); });
  sched::scheduler_of_caller("this_thread::set_name").rename(name);
}

bool cancel_requested() noexcept {
  detail::thread_record* const self = calling_thread();
  // atomic: inside a region the one who asks may be on another kernel thread.
  return self != nullptr && (std::atomic_ref(self->flags).load(std::memory_order_relaxed) & sched::flag_cancel) != 0;
}

}  // namespace this_thread

}  // namespace weft

// Here, and not in a file of its own, so that every program that has threads has it.
int weft_this_thread_for_tools(weft_thread_for_tools* into) noexcept {
  const weft::detail::thread_record* const self = weft::this_thread::calling_thread();
  if (self == nullptr || self->number == 0) return 0;  // the activation's own stack has no number
  into->scheduler = self->home;
  into->number = self->number;
  into->name[0] = '\0';
  std::strncat(into->name, self->name(), sizeof into->name - 1);
  return 1;
}
