// The values of weft::local. A thread's table hangs in its extension, at the top of its stack; only the thread itself touches
// it, with or without the processor, so nothing here takes a lock, and a time slice may end anywhere.
//
// A local has a slot in all tables while it lives, and a key for good. Where a table has a value under another key, that is one
// of a local that is gone: it is not found any more, and destroyed with its thread.
#include "weft/detail/local_value.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <new>
#include <vector>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "sched/thread_record.hpp"

namespace weft::detail {

constinit std::atomic<bool> locals_are_inherited{false};

namespace {

// ---- names ----

constexpr std::uint32_t words = 64;
constinit std::array<std::atomic<std::uint64_t>, words> taken{};  // a bit for each slot
constinit std::atomic<std::uint64_t> last_key{0};

// Without a lock: a child made by fork destroys globals, too.
std::uint32_t take_slot() {
  for (std::uint32_t word = 0; word < words; ++word) {
    std::uint64_t seen = taken[word].load(std::memory_order_relaxed);
    while (~seen != 0) {
      const auto bit = static_cast<std::uint32_t>(std::countr_one(seen));
      if (taken[word].compare_exchange_weak(seen, seen | std::uint64_t{1} << bit, std::memory_order_relaxed)) {
        return word * 64 + bit;
      }
    }
  }
  throw_error(std::errc::resource_unavailable_try_again,
              "weft::local: there are 4096 locals already; make them globals, or one local of a struct");
}

// ---- tables ----

thread_record* calling_thread() noexcept {
  const scheduler_face& face = this_scheduler_face();
  return face.current != nullptr ? face.current : face.away;
}

// Makes room for `slot` in the table at `all`, which may not be there yet. @throws std::bad_alloc
void reserve(local_values*& all, std::uint32_t slot) {
  const std::uint32_t before = all == nullptr ? 0 : all->size;
  if (slot < before) return;
  const std::uint32_t size = std::max({std::uint32_t{4}, slot + 1, before * 2});
  auto* const made = ::new (::operator new(sizeof(local_values) + size * sizeof(local_value*))) local_values;
  if (all != nullptr) *made = *all;
  made->size = size;
  for (std::uint32_t i = 0; i < size; ++i) made->slots()[i] = i < before ? all->slots()[i] : nullptr;
  ::operator delete(all);
  all = made;
}

// The calling thread's table, with room for `of`.
local_values& table_for(const local_name& of, const char* call) {
  thread_record* const self = calling_thread();
  if (self == nullptr) throw_off_weft(call);
  reserve(self->extension->locals, of.slot);
  return *self->extension->locals;
}

// The end of its thread destroys it.
void own(local_values& all, local_value& value) noexcept {
  value.made = all.made++;
  value.older = all.newest;
  all.newest = &value;
  all.slots()[value.slot] = &value;
}

void destroy_all(local_values*& all) noexcept {
  while (all != nullptr && all->newest != nullptr) {
    local_value& last = *all->newest;
    all->newest = last.older;
    if (all->slots()[last.slot] == &last) all->slots()[last.slot] = nullptr;
    last.destroy(last);  // may make others, in a larger table
  }
  ::operator delete(std::exchange(all, nullptr));
}

}  // namespace

local_name::local_name(bool inherited) : key(last_key.fetch_add(1, std::memory_order_relaxed) + 1), slot(take_slot()) {
  if (inherited) locals_are_inherited.store(true, std::memory_order_relaxed);
}

local_name::~local_name() { taken[slot / 64].fetch_and(~(std::uint64_t{1} << slot % 64), std::memory_order_relaxed); }

local_values* local_values_of_caller() noexcept {
  const thread_record* const self = calling_thread();
  return self == nullptr ? nullptr : self->extension->locals;
}

// ---- making, binding ----

local_making::local_making(const local_name& of) : name_(of) {
  local_value*& place = table_for(of, "local::get").slots()[of.slot];
  if (place != nullptr && place->key == 0 && static_cast<mark*>(place)->of == of.key) {
    throw_error(std::errc::resource_deadlock_would_occur, "weft::local: what makes a thread's value asks for that value");
  }
  mark_.of = of.key;
  place = &mark_;
}

// In a child made by fork() meanwhile nobody has values, and the one that was made is nobody's.
local_making::~local_making() {
  local_values* const all = local_values_of_caller();
  if (all != nullptr && all->slots()[name_.slot] == &mark_) all->slots()[name_.slot] = nullptr;
}

void local_making::done(local_value& made) noexcept {
  made.key = name_.key;
  made.slot = name_.slot;
  if (local_values* const all = local_values_of_caller(); all != nullptr) own(*all, made);
}

void bind_local_value(const local_name& of, local_value& value) {
  local_values& all = table_for(of, "weft::bound");
  value.key = of.key;
  value.slot = of.slot;
  value.made = all.made++;
  value.older = std::exchange(all.slots()[of.slot], &value);
}

// Nothing is to be restored in a child made by fork().
void unbind_local_value(local_value& value) noexcept {
  local_values* const all = local_values_of_caller();
  if (all == nullptr && !on_weft_thread()) return;
  if (all == nullptr || value.slot >= all->size || all->slots()[value.slot] != &value) {
    sched::fatal(
        "weft: a weft::bound ended before a later one of the same local, after the local, or in another thread; make it an "
        "object of a block");
  }
  all->slots()[value.slot] = value.older;
}

// ---- the thread's beginning and end ----

namespace {

// A start that brings values along, and stands before the thread's own.
struct heir_start : start_block {
  start_block* own = nullptr;
  local_values* values = nullptr;

  static void run_heir(start_block& b) {
    start_block& own = *static_cast<heir_start&>(b).own;
    sched::thread_extension& extension = *calling_thread()->extension;
    extension.locals = std::exchange(static_cast<heir_start&>(b).values, nullptr);
    extension.runs = reinterpret_cast<std::uintptr_t>(own.run);
    free_start(&b, sizeof(heir_start));
    own.run(own);
  }
  static void discard_heir(start_block& b) {
    auto& self = static_cast<heir_start&>(b);
    destroy_all(self.values);
    self.own->discard(*self.own);
    free_start(&b, sizeof(heir_start));
  }
};

// The parent's values that go to children, the one that was made first first.
std::vector<local_value*> heritable(local_values& parents) {
  std::vector<local_value*> all;
  for (std::uint32_t i = 0; i < parents.size; ++i) {
    local_value* const v = parents.slots()[i];
    if (v != nullptr && v->key != 0 && !v->heritage.expired()) all.push_back(v);
  }
  std::sort(all.begin(), all.end(), [](const local_value* a, const local_value* b) { return a->made < b->made; });
  return all;
}

// What it derives is the program's own code, which may make values in the parent meanwhile: but those that are there stay.
void derive(const std::vector<local_value*>& parents, local_values*& into) {
  for (const local_value* const v : parents) {
    const auto heritage = v->heritage.lock();
    if (heritage == nullptr) continue;
    reserve(into, v->slot);
    local_value& made = *heritage->derive(*v);
    made.key = v->key;
    made.slot = v->slot;
    made.heritage = heritage;
    own(*into, made);
  }
}

}  // namespace

start_block* start_with_heritage(start_block* start) {
  local_values* const parents = local_values_of_caller();
  if (parents == nullptr) return start;
  local_values* values = nullptr;
  try {
    const std::vector<local_value*> all = heritable(*parents);
    if (all.empty()) return start;
    derive(all, values);
    auto* const heir = ::new (allocate_start(sizeof(heir_start))) heir_start;
    heir->run = heir_start::run_heir;
    heir->discard = heir_start::discard_heir;
    heir->bytes = sizeof(heir_start);
    heir->own = start;
    heir->values = values;
    return heir;
  } catch (...) {
    destroy_all(values);
    start->discard(*start);
    throw;
  }
}

void destroy_local_values(thread_record& self) noexcept {
  local_values*& all = self.extension->locals;
  if (all != nullptr) destroy_all(all);
}

}  // namespace weft::detail
