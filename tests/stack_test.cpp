// Stacks one by one: their bounds, their guards, what an address says about them, and the order in which they come back.
#include "sched/stack.hpp"

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/skip.hpp"
#include "tests/stack_test.hpp"

using namespace weft::sched;
using stack_test::fault_watch;
using stack_test::in_child;

namespace {

constexpr std::size_t kib = 1024;

std::byte* bytes(void* at) { return static_cast<std::byte*>(at); }

std::vector<stack_slot*> take_many(stack_pool& pool, const stack_class& wanted, std::size_t count) {
  std::vector<stack_slot*> slots(count);
  for (stack_slot*& slot : slots) slot = pool.take(wanted);
  return slots;
}

}  // namespace

TEST_CASE("the stack given last is the one taken first") {
  stack_pool pool;
  const stack_class wanted = pool.classify({.size = 64 * kib});
  CHECK(pool.try_take(wanted) == nullptr);
  const auto slots = take_many(pool, wanted, 3);
  for (stack_slot* slot : slots) pool.give(slot);
  CHECK(pool.take(wanted) == slots[2]);
  CHECK(pool.try_take(wanted) == slots[1]);
  CHECK(pool.take(wanted) == slots[0]);
  CHECK(pool.try_take(wanted) == nullptr);
  CHECK(pool.statistics().made == 3);
}

TEST_CASE("requests of one shape share a class, and shapes are rounded up") {
  stack_pool pool;
  const stack_class wanted = pool.classify({.size = 64 * kib, .guard = 4 * kib});
  CHECK(wanted == pool.classify({.size = 33 * kib, .guard = 1}));
  CHECK_FALSE(wanted == pool.classify({.size = 65 * kib, .guard = 4 * kib}));
  CHECK_FALSE(wanted == pool.classify({.size = 64 * kib, .guard = 0}));
  CHECK(pool.classify({}).shape() == stack_shape{256 * kib, 16 * kib, false});
  CHECK(pool.classify({.tiny = true}).shape() == stack_shape{4 * kib, 0, true});
  CHECK(pool.classify({.size = 0, .tiny = true}).shape() == stack_shape{4 * kib, 0, true});
  CHECK(pool.classify({.size = 1000, .tiny = true}).shape() == stack_shape{2 * kib, 0, true});
}

TEST_CASE("a request that makes no stack is refused with the reason") {
  stack_pool pool;
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.classify({.size = 16 * kib})), doctest::Contains("leaves no room above it"),
                       std::system_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.classify({.size = 8 * kib, .tiny = true})), doctest::Contains("2 KiB or 4 KiB"),
                       std::system_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.classify({.size = ~std::size_t{0}})), doctest::Contains("1 TiB"),
                       std::system_error);
}

TEST_CASE("stacks of a class do not overlap, and each slot names its bounds") {
  stack_pool pool;
  for (const stack_request& request : {stack_request{}, stack_request{.size = 16 * kib, .guard = 4 * kib},
                                       stack_request{.size = 8 * kib, .guard = 0}, stack_request{.tiny = true}}) {
    const stack_class wanted = pool.classify(request);
    auto slots = take_many(pool, wanted, 500);
    for (stack_slot* slot : slots) {
      CHECK(reinterpret_cast<std::uintptr_t>(slot->usable_top()) % 16 == 0);
      CHECK(bytes(slot->lowest()) + slot->usable_size() == slot->usable_top());
      CHECK(slot->usable_size() >= slot->shape().size - slot->shape().guard - 2048);
      std::memset(slot->lowest(), 0x5a, slot->usable_size());
    }
    std::sort(slots.begin(), slots.end());
    for (std::size_t i = 1; i < slots.size(); ++i) {
      CHECK(bytes(slots[i - 1]->usable_top()) + sizeof(stack_slot) <= bytes(slots[i]->lowest()) - wanted.shape().guard);
      CHECK(slots[i]->in_use());
    }
  }
}

TEST_CASE("tops are staggered by cache lines, and below each the topmost page has room for the first frames") {
  stack_pool pool;
  std::set<std::uintptr_t> offsets;
  for (stack_slot* slot : take_many(pool, pool.classify({.size = 64 * kib}), 1000)) {
    const auto offset = reinterpret_cast<std::uintptr_t>(slot->usable_top()) % 4096;
    CHECK(offset >= 2048);
    CHECK((4096 - offset - sizeof(stack_slot)) % 64 == 0);
    offsets.insert(offset);
  }
  CHECK(offsets.size() == 2048 / 64);
}

TEST_CASE("every guard faults at the address touched, and the byte above it does not, whatever lays the guards") {
  for (const guard_method method : {guard_method::batched, guard_method::single, guard_method::protect}) {
    CAPTURE(to_string(method));
    const int result = in_child([method] {
      stack_pool pool({}, method);
      const auto slots = take_many(pool, pool.classify({.size = 64 * kib}), 3000);
      fault_watch watch;
      for (stack_slot* slot : slots) {
        if (!watch.faults(bytes(slot->lowest()) - 1)) return 1;
        if (!watch.faults(bytes(slot->lowest()) - 16 * kib)) return 2;
        if (watch.faults(slot->lowest())) return 3;
      }
      return 0;
    });
    CHECK(result == 0);
  }
}

TEST_CASE("each method lays the guards it is asked for, or the next best the kernel has") {
  const auto method_of = [](guard_method wanted) {
    stack_pool pool({}, wanted);
    static_cast<void>(take_many(pool, pool.classify({}), 100));
    const stack_statistics now = pool.statistics();
    CHECK((now.protected_guards >= 100) == (now.guards == guard_method::protect));
    return now.guards;
  };
  CHECK(method_of(guard_method::protect) == guard_method::protect);
  const guard_method best = method_of(guard_method::automatic);
  CHECK(best != guard_method::automatic);
  if (best == guard_method::protect) return skip("this kernel has no MADV_GUARD_INSTALL (Linux 6.13)");
  CHECK(method_of(guard_method::single) == guard_method::single);
}

TEST_CASE("guards still fault after their stacks were trimmed and taken again") {
  const int result = in_child([] {
    stack_pool pool;
    const stack_class wanted = pool.classify({.size = 32 * kib});
    auto slots = take_many(pool, wanted, 200);
    for (std::size_t i = 1; i < slots.size(); ++i) pool.give(slots[i]);
    if (pool.trim() == 0) return 1;
    fault_watch watch;
    for (stack_slot* slot : take_many(pool, wanted, 199)) {
      if (!watch.faults(bytes(slot->lowest()) - 1)) return 2;
    }
    return 0;
  });
  CHECK(result == 0);
}

TEST_CASE("memory locked by mlockall has guards too") {
  if (stack_test::sanitized()) return skip("sanitizers make mlockall do nothing");
  const int result = in_child([] {
    rlimit limit{};
    const bool bounded = getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
    if (bounded && geteuid() != 0) return 77;  // what is mapped from here on would not fit
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) return 77;
    stack_pool pool;
    const stack_class wanted = pool.classify({.size = 16 * kib, .guard = 4 * kib});
    const auto slots = take_many(pool, wanted, 300);
    fault_watch watch;
    for (stack_slot* slot : slots) {
      if (!watch.faults(bytes(slot->lowest()) - 1)) return 1;
    }
    if (pool.statistics().protected_guards < 300) return 2;
    if (pool.statistics().mapped_bytes > 400 * 16 * kib) return 3;  // all of it is in memory: no doubling
    for (stack_slot* slot : slots) pool.give(slot);
    static_cast<void>(pool.take(wanted));
    return pool.trim() > 0 ? 0 : 4;  // what is unmapped comes back even so
  });
  if (result == 77) return skip("this user may not lock memory (ulimit -l)");
  CHECK(result == 0);
}

TEST_CASE("an address tells its stack, and whether it lies in the guard") {
  std::array<void*, 2> gone{};
  {
    stack_pool pool;
    stack_pool other;
    const auto slots = take_many(pool, pool.classify({.size = 64 * kib}), 100);
    const auto tiny = take_many(other, other.classify({.size = 2 * kib, .tiny = true}), 100);
    for (stack_slot* slot : slots) {
      const auto low = stack_pool::find(slot->lowest());
      REQUIRE(low);
      CHECK(low->slot == slot);
      CHECK(low->lowest == slot->lowest());
      CHECK_FALSE(low->in_guard);
      const auto guard = stack_pool::find(low->bottom);
      REQUIRE(guard);
      CHECK(guard->slot == slot);
      CHECK(guard->in_guard);
      CHECK(stack_pool::find(low->top - 1)->slot == slot);
    }
    for (stack_slot* slot : tiny) CHECK(stack_pool::find(slot->lowest())->slot == slot);
    int local = 0;
    CHECK_FALSE(stack_pool::find(&local));
    CHECK_FALSE(stack_pool::find(nullptr));
    const auto last = stack_pool::find((*std::max_element(slots.begin(), slots.end()))->lowest());
    CHECK_FALSE(stack_pool::find(last->top));  // mapped, but no stack was made there yet
    gone = {slots[0]->lowest(), tiny[0]->lowest()};
  }
  CHECK_FALSE(stack_pool::find(gone[0]));
  CHECK_FALSE(stack_pool::find(gone[1]));
}

TEST_CASE("the handler of an overflow learns which stack overflowed") {
  const int result = in_child([] {
    stack_pool pool;
    const auto slots = take_many(pool, pool.classify({}), 100);
    fault_watch watch;
    for (stack_slot* slot : slots) {
      if (!watch.faults(bytes(slot->lowest()) - 8)) return 1;
      if (!watch.location() || watch.location()->slot != slot || !watch.location()->in_guard) return 2;
    }
    return 0;
  });
  CHECK(result == 0);
}

TEST_CASE("another kernel thread may look for addresses while slabs come and go") {
  stack_pool lasting;
  stack_slot* const there = lasting.take(lasting.classify({}));
  std::atomic<bool> done = false;
  std::atomic<unsigned> wrong = 0;
  std::thread searcher([&] {
    do {
      const auto found = stack_pool::find(there->lowest());
      if (!found || found->slot != there) ++wrong;
    } while (!done);
  });
  for (int round = 0; round < 100; ++round) {
    stack_pool pool;
    const stack_class wanted = pool.classify({.size = 32 * kib});
    for (stack_slot* slot : take_many(pool, wanted, 200)) pool.give(slot);
    pool.trim();
  }
  done = true;
  searcher.join();
  CHECK(wrong == 0);
}

TEST_CASE("a thread that forks goes on in the child, on its own stack") {
  stack_pool pool;
  const auto slots = take_many(pool, pool.classify({.size = 2048 * kib}), 3);  // ThreadSanitizer wants 1 MiB
  int result = -1;
  const auto body = [](void* to) -> void* {
    *static_cast<int*>(to) = in_child([] { return stack_pool::find(__builtin_frame_address(0)) ? 42 : 1; });
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setstack(&attributes, slots[1]->lowest(), slots[1]->usable_size()) == 0);
  pthread_t thread{};
  REQUIRE(pthread_create(&thread, &attributes, body, &result) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  CHECK(result == 42);
  void* const other = slots[2]->lowest();
  CHECK(in_child([&] { return fault_watch().faults(other) ? 0 : 1; }) == 0);  // other stacks stay behind
}

TEST_CASE("a pool that a child inherited unmaps nothing there") {
  auto pool = std::make_unique<stack_pool>();
  stack_slot* const slot = pool->take(pool->classify({.size = 64 * kib}));
  void* const page = bytes(slot->lowest()) - 16 * kib;
  const int result = in_child([&] {
    if (mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page) return 77;
    pool.reset();
    return fault_watch().faults(page) ? 2 : 0;
  });
  if (result == 77) return skip("the address is not free in the child (valgrind)");
  CHECK(result == 0);
}
