// How a stall is seen. Every switch, every look at upcalls and every operation that was complete at once changes the scheduler's
// `progress`: two relaxed counters that the scheduler has anyway. So nothing is added to a switch. The watch compares. When the
// number has stayed for the whole limit, the holder is either waiting in the kernel, which the kernel tells, or is asked where
// it is; it answers only if it is still where the watch saw it. The watch writes the report: there malloc and C++ names are no
// risk, which they were in the handler.
//
// What the holder may change at any time is read from outside only for a thread that waits in the kernel, by the kernel, which
// minds neither races nor addresses that are gone. It is believed only if the thread then still waits at the same place.
#include "sched/stall.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_text.hpp"

namespace weft::sched {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr int looks_per_limit = 8;
constexpr int looks_before_sleeping = 20;
constexpr std::size_t words_copied = 8192;  // of a stack: 64 KiB
constexpr std::size_t frames_told = 20;
constexpr std::size_t most_sites = 256;  // then it is quiet: such a program is not helped by one report more

milliseconds interval_for(duration limit) noexcept {
  return std::clamp(duration_cast<milliseconds>(limit / looks_per_limit), milliseconds(1), milliseconds(50));
}

using upcall::peek;

// A call that the kernel began anew is told of by that only; the first frame of the backtrace names it.
std::string call_text(int call) {
  if (call < 0) return "a page fault";
  return std::string(call == SYS_restart_syscall ? "the kernel" : upcall::system_call_name(call));
}

milliseconds limit_in_environment() {
  const char* const text = std::getenv("WEFT_STALL");
  if (text == nullptr || *text == '\0') return milliseconds(0);
  unsigned count = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), count);
  if (error == std::errc{} && *end == '\0') return milliseconds(count);
  print_report(std::string("weft: WEFT_STALL=") + text + " is not a number of milliseconds; stalls are not reported\n");
  return milliseconds(0);
}

}  // namespace

stall_watch::stall_watch(scheduler& of, duration limit, int signal)
    : scheduler_(&of), limit_(limit), signal_(signal), copy_(words_copied) {
  thread_ = detail::kernel_thread("options::stall_report", "weft-stalls", detail::signals::blocked, [this] { run(); });
  scheduler_->set_watch(this);
}

stall_watch::~stall_watch() {
  scheduler_->set_watch(nullptr);
  {
    const std::lock_guard guard(lock_);
    stopping_ = true;
  }
  news_.notify_one();
  thread_.join();
}

void stall_watch::wake() noexcept {
  {
    const std::lock_guard guard(lock_);
    woken_ = true;
  }
  news_.notify_one();
}

void stall_watch::run() {
  const milliseconds interval = interval_for(limit_);
  std::unique_lock guard(lock_);
  while (!stopping_) {
    if (quiet_ < looks_before_sleeping) {
      news_.wait_for(guard, interval, [this] { return stopping_; });
    } else {
      woken_ = false;
      asleep_.store(true, std::memory_order_seq_cst);
      news_.wait(guard, [this] { return stopping_ || woken_ || scheduler_->progress() != 0; });
      asleep_.store(false, std::memory_order_seq_cst);
      quiet_ = 0;
    }
    guard.unlock();
    look();
    guard.lock();
  }
}

void stall_watch::look() {
  const std::uint64_t progress = scheduler_->progress();
  const time_point now = clock::now();
  quiet_ = progress == 0 ? quiet_ + 1 : 0;
  if (progress == 0 || progress != seen_) {
    seen_ = progress;
    since_ = now;
    core_time_ = upcall::core_time_of(scheduler_->kernel_thread());
    told_ = false;
    asked_.store(0, std::memory_order_relaxed);
    question_.reset();
    return;
  }
  if (!told_ && now - since_ >= limit_) look_at(progress);
}

// Somebody has kept the processor for too long.
void stall_watch::look_at(std::uint64_t progress) {
  if (answered_.load(std::memory_order_acquire) == progress) return tell(answer_, ". It was here:\n");
  const int kernel_thread = scheduler_->kernel_thread();
  if (kernel_thread == 0 || look_at_waiting(progress, kernel_thread) || question_) return;
  asked_.store(progress, std::memory_order_release);
  question_.emplace(kernel_thread, signal_);
}

// @returns whether it waits in the kernel: then it need not be asked.
bool stall_watch::look_at_waiting(std::uint64_t progress, int kernel_thread) {
  const upcall::whereabouts place = upcall::whereabouts_of(kernel_thread);
  if (!place.waits) return false;
  sighting found;
  describe_holder(*scheduler_, found);
  const bool on_its_stack = place.stack_pointer >= found.bounds.low && place.stack_pointer < found.bounds.high;
  const std::size_t words = on_its_stack ? (found.bounds.high - place.stack_pointer) / sizeof(std::uintptr_t) : 0;
  const std::size_t wanted = std::min(words, copy_.size()) * sizeof(std::uintptr_t);
  const std::size_t got = upcall::read_memory(reinterpret_cast<const void*>(place.stack_pointer), copy_.data(), wanted);
  const std::span<std::uintptr_t> copy(copy_.data(), got / sizeof(std::uintptr_t));
  if (upcall::whereabouts_of(kernel_thread) != place || scheduler_->progress() != progress) return true;
  found.stack = walk_copied(place.instruction, place.stack_pointer, found.bounds, copy);
  tell(found,
       ", waiting in " + call_text(place.call) + "; put calls that wait into weft::blocking, or use weft's. It is here:\n");
  return true;
}

// Also from outside, while it waits: see the top of this file.
void stall_watch::describe_holder(const scheduler& of, sighting& into) noexcept {
  thread_record* current = nullptr;
  std::uint32_t number = 0;
  thread_extension* extension = nullptr;
  stack_slot* slot = nullptr;
  alignas(stack_slot) std::array<std::byte, sizeof(stack_slot)> slot_copy{};
  if (!peek(&of.current, current) || current == nullptr) return;
  if (!peek(&current->number, number) || !peek(&current->extension, extension) || extension == nullptr) return;
  if (!peek(&extension->name, into.name) || !peek(&extension->slot, slot) || slot == nullptr) return;
  if (upcall::read_memory(slot, slot_copy.data(), slot_copy.size()) != slot_copy.size()) return;
  into.thread = number;
  into.name[sizeof into.name - 1] = '\0';
  into.bounds = {reinterpret_cast<std::uintptr_t>(std::bit_cast<stack_slot>(slot_copy).lowest()),
                 reinterpret_cast<std::uintptr_t>(slot->usable_top())};
}

void stall_watch::answer(void* context) noexcept {
  const std::uint64_t asked = asked_.load(std::memory_order_acquire);
  if (asked == 0 || scheduler_->progress() != asked || answered_.load(std::memory_order_relaxed) == asked) return;
  answer_ = {};
  describe_holder(*scheduler_, answer_);
  if (answer_.thread != 0) answer_.stack = walk_interrupted(context, {0, answer_.bounds.high});
  answered_.store(asked, std::memory_order_release);
}

// ---- the report ----

// Once for each function of the program. What it calls in libraries is a matter of chance.
bool stall_watch::is_new(const call_stack& stack) {
  if (stack.kept == 0) return true;
  std::size_t innermost = 0;
  while (innermost < stack.kept && !program_.contains(stack.address[innermost])) ++innermost;
  const std::uintptr_t site = function_of(stack, innermost < stack.kept ? innermost : 0);
  if (sites_.size() >= most_sites || std::find(sites_.begin(), sites_.end(), site) != sites_.end()) return false;
  sites_.push_back(site);
  return true;
}

void stall_watch::tell(const sighting& found, const std::string& how) {
  told_ = true;
  if (found.thread == 0 || !is_new(found.stack)) return;
  const auto held = duration_cast<milliseconds>(clock::now() - since_).count();
  const std::int64_t ran = (upcall::core_time_of(scheduler_->kernel_thread()) - core_time_) / 1'000'000;
  std::string text = "weft: thread " + std::to_string(found.thread);
  if (found.name[0] != '\0') text.append(" \"").append(found.name).append("\"");
  text += " has kept the processor for " + std::to_string(held) + " ms (" + std::to_string(ran) + " ms of them on a core)" + how;
  call_stack stack = found.stack;
  stack.kept = std::min(stack.kept, frames_told);
  print_report(text + frame_namer().lines(stack));
}

// ---- setting up ----

std::unique_ptr<stall_watch> watch_for_stalls(scheduler& of) {
  const options& wanted = of.settings();
  const milliseconds limit = wanted.stall_report.count() > 0 ? wanted.stall_report : limit_in_environment();
  if (limit.count() <= 0) return nullptr;
  return std::make_unique<stall_watch>(of, limit, upcall::take_signal(wanted.preemption_signal, on_interruption));
}

void on_interruption(upcall::interruption why, void* whom, void* context) noexcept {
  if (why == upcall::interruption::tick) return scheduler::on_tick(*static_cast<carrier*>(whom), context);
  scheduler* const s = detail::current_thread() != nullptr ? &this_scheduler() : scheduler_outside();
  if (s == nullptr) return;
  if (stall_watch* const watch = s->watch(); watch != nullptr) watch->answer(context);
}

}  // namespace weft::sched
