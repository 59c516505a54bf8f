// Thread dumps and deadlock reports.
#include "sched/report.hpp"

#include <algorithm>
#include <array>
#include <compare>
#include <map>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "sched/scheduler.hpp"
#include "sched/thread_text.hpp"
#include "sched/unwind.hpp"
#include "weft/call_once.hpp"
#include "weft/mutex.hpp"
#include "weft/shared_mutex.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t most_told_apart = 1000;  // more threads than these are told in groups
constexpr std::size_t most_numbers = 12;       // of a group
constexpr std::size_t most_walked = 100'000;   // a backtrace costs 10 µs: nobody waits longer than a second for a report
constexpr std::size_t most_circles = 5;

using std::to_string;

bool is_waiting(const thread_record& t) noexcept {
  return (t.state == thread_state::parked || t.state == thread_state::in_kernel) && t.waits_on != nullptr;
}

// Who holds a lock now, or makes the call that a once_flag waits for: what a circle is made of. Null when nobody does, or when
// many share it. The address of a standard-layout object is that of its first member, and the lowest bit of that one is no part
// of the record's address.
const thread_record* owner_of(const waiter& w) noexcept {
  static_assert(std::is_standard_layout_v<mutex> && sizeof(mutex) == 2 * sizeof(void*), "the holder is its first member");
  static_assert(std::is_standard_layout_v<once_flag> && sizeof(once_flag) == 2 * sizeof(void*), "the caller is its first member");
  if (w.what == std::string_view("shared_mutex")) return detail::only_holder(*static_cast<const shared_mutex*>(w.object));
  const std::uintptr_t holder = *static_cast<const std::uintptr_t*>(w.object);
  return reinterpret_cast<const thread_record*>(holder & ~std::uintptr_t{1});
}

bool has_owner(std::string_view what) noexcept { return what == "mutex" || what == "shared_mutex" || what == "once_flag"; }

// The thread that another one waits for; null when it waits for something else.
const thread_record* awaited_by(const thread_record& t) noexcept {
  if (!is_waiting(t)) return nullptr;
  const std::string_view what = t.waits_on->what;
  if (has_owner(what)) return owner_of(*t.waits_on);
  if (what == "join") return static_cast<const thread_record*>(t.waits_on->object);
  return nullptr;
}

std::string wait_text(const thread_record& t) {
  const waiter& w = *t.waits_on;
  const std::string_view what = w.what;
  if (w.operation != nullptr) return operation_text(*w.operation, what);
  if (what == "sleep") return "sleep";
  if (what == "join") return "join of " + who(*awaited_by(t));
  if (what == "select") return text_of_select(w);
  std::string text = std::string(what) + " " + address_text(w.object);
  const thread_record* const owner = has_owner(what) ? owner_of(w) : nullptr;
  if (owner == nullptr) return text;
  text += (what == "once_flag" ? " called by " : " held by ") + who(*owner);
  return owner->state == thread_state::finished ? text + ", which has ended" : text;
}

// What groups of threads have in common: the place in the program where they are.
struct place {
  thread_state state;
  std::string_view what;  // they wait for; "" when for nothing
  std::vector<std::uintptr_t> frames;
  auto operator<=>(const place&) const = default;
};

struct group {
  call_stack stack;
  std::size_t count = 0;
  std::string numbers;  // of the first ones
};

}  // namespace

// Writes the reports of one scheduler. Its own frames, those not above `hidden`, are left out of them.
class report_writer {
 public:
  report_writer(scheduler& s, const void* hidden);
  std::string threads();
  std::string deadlock();

 private:
  using circle = std::vector<const thread_record*>;

  std::string headline() const;
  std::string each();
  std::string groups();
  std::map<place, group> grouped();
  std::string circles() const;
  std::string stackless() const;
  std::string region_text(const thread_record& t) const;
  call_stack stack_of(const thread_record& t);

  scheduler& scheduler_;
  const void* hidden_;
  std::vector<const thread_record*> threads_;
  frame_namer names_;
};

report_writer::report_writer(scheduler& s, const void* hidden) : scheduler_(s), hidden_(hidden) {
  s.records_.for_each([this](const thread_record& t) { threads_.push_back(&t); });
  std::sort(threads_.begin(), threads_.end(), [](auto* a, auto* b) { return a->number < b->number; });
}

std::string report_writer::headline() const {
  std::map<thread_state, std::size_t> counts;
  for (const thread_record* const t : threads_) ++counts[t->state];
  std::string text = "scheduler \"" + scheduler_.options_.name + "\": " + plural(threads_.size(), "thread");
  const char* before = ": ";
  for (const auto& [state, count] : counts) {
    text += before + to_string(count) + " " + name(state);
    before = ", ";
  }
  return text + "\n";
}

std::string report_writer::threads() {
  return headline() + stackless() + (threads_.size() > most_told_apart ? groups() : each());
}

std::string report_writer::each() {
  std::string out;
  for (const thread_record* const t : threads_) {
    out += who(*t) + " " + state_text(t->state);
    if (is_waiting(*t)) {
      out += (t->state == thread_state::parked ? " in " : ": ") + wait_text(*t);
      if (t->waits_on->timer != 0 && t->waits_on->what != std::string_view("sleep")) out += ", with a deadline";
    }
    if (t->state == thread_state::away) out += region_text(*t);
    if (t->has(flag_cancel)) out += ", asked to end";
    out += "\n" + names_.lines(stack_of(*t));
  }
  return out;
}

// Where a thread in a region is, as far as the kernel says.
std::string report_writer::region_text(const thread_record& t) const {
  const std::uint32_t number = t.extension->away_on.load(std::memory_order_relaxed);
  if (number == 0) return ", on its way to a kernel thread of its own";
  const int call = scheduler_.pool_->system_call_of(number);
  return " on kernel thread " + to_string(scheduler_.pool_->kernel_thread_of(number)) +
         (call < 0 ? "" : ", in " + std::string(upcall::system_call_name(call)));
}

std::map<place, group> report_writer::grouped() {
  std::map<place, group> found;
  std::size_t walked = 0;
  for (const thread_record* const t : threads_) {
    const call_stack stack = walked++ < most_walked ? stack_of(*t) : call_stack{};
    place here{t->state, is_waiting(*t) ? t->waits_on->what : "", {}};
    here.frames.assign(stack.address.begin(), stack.address.begin() + static_cast<std::ptrdiff_t>(stack.kept));
    group& g = found[std::move(here)];
    g.stack = stack;
    if (++g.count <= most_numbers) g.numbers += (g.count == 1 ? "" : ", ") + to_string(t->number);
  }
  return found;
}

// As Go and gdb do: threads that are at the same place are told once, the largest group first.
std::string report_writer::groups() {
  const std::map<place, group> found = grouped();
  std::vector<const std::pair<const place, group>*> order;
  for (const auto& entry : found) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->second.count > b->second.count; });

  std::string out;
  if (threads_.size() > most_walked) {
    out += "backtraces of the first " + to_string(most_walked) + " threads only\n";
  }
  for (const auto* const entry : order) {
    const auto& [where, g] = *entry;
    out += plural(g.count, "thread") + " " + name(where.state);
    if (!where.what.empty()) out += (where.state == thread_state::parked ? " in " : ": ") + std::string(where.what);
    out += " (" + g.numbers + (g.count > most_numbers ? ", …" : "") + ")\n" + names_.lines(g.stack);
  }
  return out;
}

call_stack report_writer::stack_of(const thread_record& t) {
  switch (t.state) {
    case thread_state::vacant:
    case thread_state::created:
    case thread_state::away:  // it runs, on another kernel thread
    case thread_state::finished:
      return {};
    case thread_state::running:
      return walk_here(hidden_, bounds_of(t));
    case thread_state::ready:
    case thread_state::parked:
    case thread_state::in_kernel:
      break;
  }
  if (t.has(flag_pinned)) return {};  // its kernel thread waits on its stack
  const stack_bounds bounds = bounds_of(t);
  const auto saved = reinterpret_cast<std::uintptr_t>(t.context);
  if (saved < bounds.low || saved >= bounds.high) return {};
  call_stack stack = walk_saved(t.context, bounds);
  names_.drop_scheduler(stack);
  return stack;
}

std::string report_writer::stackless() const {
  if (scheduler_.stackless_.empty()) return {};
  return "some of those that have not run yet wait for a stack, which could not be made: " + scheduler_.stackless_why_ + "\n";
}

// Every thread waits for one other at most, so whoever follows these arrows from each thread meets all circles. A walk that
// comes to a thread of an earlier walk has nothing new before it.
std::string report_writer::circles() const {
  std::unordered_map<const thread_record*, std::size_t> walk_of;
  std::string out;
  std::size_t told = 0;
  for (std::size_t walk = 0; walk < threads_.size() && told < most_circles; ++walk) {
    const thread_record* t = threads_[walk];
    while (t != nullptr && walk_of.try_emplace(t, walk).second) t = awaited_by(*t);
    if (t == nullptr || walk_of[t] != walk) continue;
    ++told;
    out += "These wait for one another in a circle:\n";
    const thread_record* const first = t;
    do {
      out += "  " + who(*t) + " waits in " + wait_text(*t) + "\n";
      t = awaited_by(*t);
    } while (t != first);
  }
  return out;
}

std::string report_writer::deadlock() {
  return "weft: deadlock: every thread waits, and nothing is left that could wake one: no operation in the kernel, no deadline, "
         "no weft::poster.\n" +
         circles() + threads() +
         "If another kernel thread is to wake them, keep a weft::poster (weft::make_poster) alive while they wait.\n";
}

std::string thread_report(scheduler& s) { return report_writer(s, __builtin_frame_address(0)).threads(); }

std::string deadlock_report(scheduler& s) { return report_writer(s, __builtin_frame_address(0)).deadlock(); }

}  // namespace weft::sched
