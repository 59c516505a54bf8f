// Stacks by the hundred thousand: what they cost, how their memory comes back, and which limit ends it.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <system_error>
#include <vector>

#include "sched/stack.hpp"
#include "tests/skip.hpp"
#include "tests/stack_test.hpp"

using namespace weft::sched;
using stack_test::in_child;
using stack_test::memory;

namespace {

constexpr std::size_t kib = 1024;

std::byte* bytes(void* at) { return static_cast<std::byte*>(at); }

// Takes stacks and uses them as parked threads do: some frames below the top.
std::vector<stack_slot*> park_many(stack_pool& pool, const stack_class& wanted, std::size_t count) {
  std::vector<stack_slot*> slots(count);
  for (stack_slot*& slot : slots) {
    slot = pool.take(wanted);
    std::memset(bytes(slot->usable_top()) - 1024, 1, 1024);
  }
  return slots;
}

void give_all(stack_pool& pool, const std::vector<stack_slot*>& slots) {
  for (stack_slot* slot : slots) pool.give(slot);
}

// Memory with page tables that each of 100,000 parked threads costs.
double cost_of(const stack_request& request) {
  constexpr std::size_t count = 100'000;
  std::vector<stack_slot*> room(count, nullptr);
  stack_pool pool;
  const double before = memory("VmRSS:") + memory("VmPTE:");
  room = park_many(pool, pool.classify(request), count);
  const double cost = (memory("VmRSS:") + memory("VmPTE:") - before - sizeof(void*) * count) / count;
  MESSAGE("bytes per parked thread: " << cost);
  return cost;
}

// what() of the error that ends taking stacks, empty if nothing ends it before `most`.
std::string first_error(stack_pool& pool, const stack_class& wanted, std::size_t most) {
  try {
    for (std::size_t i = 0; i < most; ++i) static_cast<void>(pool.take(wanted));
  } catch (const std::system_error& error) {
    return error.code() == std::errc::resource_unavailable_try_again ? error.what() : "wrong code";
  }
  return {};
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a thread parked on a 64 KiB stack with its guard costs one page and its share of a page table") {
  if (stack_test::sanitized()) return skip("sanitizers keep memory about memory");
  CHECK(cost_of({.size = 64 * kib}) <= 4300);
  CHECK(cost_of({.size = 64 * kib, .guard = 0}) <= 4300);
}

TEST_CASE("a thread parked on a 2 KiB stack costs its 2 KiB") {
  if (stack_test::sanitized()) return skip("sanitizers keep memory about memory");
  CHECK(cost_of({.size = 2 * kib, .tiny = true}) <= 2100);
}

TEST_CASE("100,000 stacks used and trimmed, again and again, leave memory flat") {
  if (stack_test::sanitized()) return skip("sanitizers keep memory about memory");
  stack_pool pool;
  const stack_class wanted = pool.classify({.size = 64 * kib});
  double after_first = 0;
  for (int round = 0; round < 3; ++round) {
    stack_slot* const used = pool.take(wanted);  // so that one slab stays
    give_all(pool, park_many(pool, wanted, 100'000));
    CHECK(pool.trim() >= 100'000 * 4096);
    pool.give(used);
    const double now = memory("VmRSS:") + memory("VmPTE:");
    if (round == 0) after_first = now;
    CHECK(now - after_first < 1024 * kib);
  }
  pool.trim();
  CHECK(pool.statistics().slabs == 0);
}

TEST_CASE("trim keeps the stacks given last, without their deeper pages") {
  stack_pool pool;
  const stack_class wanted = pool.classify({});
  const auto slots = park_many(pool, wanted, 100);
  for (stack_slot* slot : slots) std::memset(bytes(slot->usable_top()) - 64 * kib, 7, 60 * kib);
  give_all(pool, slots);
  const std::size_t dropped = pool.trim(10);
  CHECK(dropped >= (10 * 60 + 90 * 64) * kib);
  CHECK(dropped <= 100 * 68 * kib);
  CHECK(pool.trim(10) == 0);
  CHECK(pool.statistics().free == 10);
  CHECK(pool.statistics().made == 10);
  for (std::size_t i = 100; i-- > 90;) {
    stack_slot* const slot = pool.try_take(wanted);
    CHECK(slot == slots[i]);
    CHECK(bytes(slot->usable_top())[-1] == std::byte{1});
    CHECK(bytes(slot->usable_top())[-8 * 1024] == std::byte{0});
  }
  CHECK(pool.try_take(wanted) == nullptr);
}

TEST_CASE("released stacks are used again before new ones are made") {
  stack_pool pool;
  const stack_class wanted = pool.classify({.size = 32 * kib});
  auto slots = park_many(pool, wanted, 60);
  for (std::size_t i = 0; i < slots.size(); i += 2) pool.give(slots[i]);
  pool.trim();
  auto again = park_many(pool, wanted, 30);
  for (std::size_t i = 1; i < slots.size(); i += 2) again.push_back(slots[i]);
  std::sort(again.begin(), again.end());
  std::sort(slots.begin(), slots.end());
  CHECK(again == slots);
  CHECK(pool.statistics().released == 0);
}

TEST_CASE("neighbouring tiny stacks never lose memory to each other's trim") {
  stack_pool pool;
  const stack_class wanted = pool.classify({.size = 2 * kib, .tiny = true});
  const auto slots = park_many(pool, wanted, 5000);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (i % 7 != 0) pool.give(slots[i]);
  }
  pool.trim();
  for (std::size_t i = 0; i < slots.size(); i += 7) CHECK(bytes(slots[i]->usable_top())[-1024] == std::byte{1});
  CHECK(pool.statistics().made == (5000 + 6) / 7);
}

TEST_CASE("shrink drops what parked threads used below their present depth") {
  stack_pool pool;
  std::vector<parked_stack> parked;
  for (stack_slot* slot : park_many(pool, pool.classify({}), 50)) {
    std::memset(bytes(slot->usable_top()) - 36 * kib, 1, 36 * kib);
    parked.push_back({slot, bytes(slot->usable_top()) - 512});
  }
  const std::size_t dropped = pool.shrink(parked);
  CHECK(dropped >= 50 * 32 * kib);
  CHECK(dropped <= 50 * 36 * kib);
  CHECK(pool.shrink(parked) == 0);
  for (const parked_stack& each : parked) CHECK(static_cast<const char*>(each.stack_pointer)[0] == 1);
}

TEST_CASE("a scheduler's own limit of stacks is named, and stacks that end make room") {
  stack_pool pool({.max_stacks = 1000});
  const stack_class wanted = pool.classify({.size = 32 * kib});
  const auto slots = park_many(pool, wanted, 1000);
  const std::string error = first_error(pool, wanted, 1);
  CHECK(contains(error, "weft: no stack for another thread: all 1000 that this scheduler may have are in use"));
  CHECK(contains(error, "max_stacks"));
  pool.give(slots[17]);
  CHECK(pool.take(wanted) == slots[17]);
  pool.give(slots[17]);
  CHECK(pool.take(pool.classify({})) != nullptr);  // the free one of the other class gives way
  CHECK(contains(first_error(pool, wanted, 1), "max_stacks"));
}

TEST_CASE("a scheduler's own limit of bytes is named") {
  stack_pool pool({.max_bytes = 1024 * kib});
  CHECK(first_error(pool, pool.classify({}), 4).empty());
  const std::string error = first_error(pool, pool.classify({.size = 32 * kib}), 1);
  CHECK(contains(error, "32 KiB more would pass the 1024 KiB of addresses"));
  CHECK(contains(error, "max_bytes; 4 in use"));
}

TEST_CASE("RLIMIT_AS is named when it is reached, nearly to the last stack, and the pool goes on") {
  if (stack_test::sanitized()) return skip("sanitizers need more address space than any limit here");
  const int result = in_child([] {
    stack_pool pool;
    const stack_class wanted = pool.classify({.size = 64 * kib});
    constexpr std::size_t room = 256 * 1024 * kib;
    const rlimit limit{room, room};
    setrlimit(RLIMIT_AS, &limit);
    std::vector<stack_slot*> slots;
    slots.reserve(10'000);
    for (int round = 0; round < 2; ++round) {
      try {
        while (true) slots.push_back(pool.take(wanted));
      } catch (const std::system_error& error) {
        if (!contains(error.what(), "RLIMIT_AS of 256 MiB")) return 1;
        if (error.code() != std::errc::resource_unavailable_try_again) return 2;
      }
      if (slots.size() < room / (64 * kib) * 3 / 4) return 3;
      give_all(pool, slots);
      slots.clear();
      pool.give(pool.take(pool.classify({.size = 1024 * kib})));  // idle stacks of another class give way
    }
    return 0;
  });
  CHECK(result == 0);
}

TEST_CASE("vm.max_map_count is named when mprotect guards have used it up, and the process keeps some mappings") {
  const int result = in_child([] {
    stack_pool pool({}, guard_method::protect);
    const std::string error = first_error(pool, pool.classify({.size = 16 * kib, .guard = 4 * kib}), 40'000);
    if (error.empty()) return 77;
    if (!contains(error, "vm.max_map_count") || !contains(error, "mprotect")) return 1;
    if (mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) return 2;
    return pool.statistics().made > 30'000 ? 0 : 3;
  });
  if (result == 77) return skip("vm.max_map_count is large here");
  CHECK(result == 0);
}

TEST_CASE("whoever is promised one stack more than mprotect can guard hears of it, and all that were promised can be had") {
  const int result = in_child([] {
    stack_pool pool({}, guard_method::protect);
    const stack_class wanted = pool.classify({.size = 16 * kib, .guard = 4 * kib});
    std::size_t promised = 0;
    std::string error;
    try {
      for (; promised < 40'000; ++promised) pool.promise(wanted);
    } catch (const std::system_error& refused) {
      error = refused.what();
    }
    if (error.empty()) return 77;
    if (!contains(error, "vm.max_map_count") || !contains(error, "mprotect")) return 1;
    if (!first_error(pool, wanted, promised).empty()) return 2;
    return promised > 30'000 ? 0 : 3;
  });
  if (result == 77) return skip("vm.max_map_count is large here");
  CHECK(result == 0);
}
