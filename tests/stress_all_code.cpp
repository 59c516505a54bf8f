// both-transfers every-privilege
// Threads that wait in their own code, unmarked, under torture on the real kernel: beside marked regions, time slices, weft
// operations, timers, pipes, files, cancellation, exceptions, fork and exec. Two threads of one scheduler never run at once, no
// call is harmed, nothing is left open. Iterations are counted, never timed. WEFT_SEED=n repeats a choice of actions, not the
// kernel's timing.
#include <doctest/doctest.h>

#include <vector>

#include "tests/all_code.hpp"
#include "tests/skip.hpp"
#include "tests/torture.hpp"
#include "weft/runtime.hpp"

namespace {

// The main thread is left where it waits, and goes on.
void nap_twice() {
  const timespec t{0, 1'000'000};
  for (int i = 0; i < 2; ++i) CHECK(::nanosleep(&t, nullptr) == 0);
}

void torture(weft::options how, int threads, int steps, marks which = marks::some) {
  how.activations = weft::activations::all;
  weft::run(how, nap_twice);  // what libunwind opens with its first walk stays open
  const nothing_left behind;
  weft::run(how, [&] {
    world w;
    std::vector<weft::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back(weft::attributes{.time_slice = i % 3 == 0},
                       [&w, i, steps, which] { actor(w, static_cast<std::uint64_t>(i), which).live(steps); });
    }
    for (std::size_t i = 0; i < all.size(); i += 7) {
      weft::this_thread::sleep_for(200us);
      all[i].request_cancel();
    }
    for (weft::thread& t : all) t.join();
    CHECK(w.collisions == 0);
    CHECK(w.harm() == "none");
    CHECK(w.inside == 0);
    using weft::upcall::cause;
    using weft::upcall::kind;
    const weft::upcall::tally counts = weft::upcall::counts();
    CHECK(counts.of(kind::blocked, cause::region) == counts.of(kind::unblocked, cause::region));
    CHECK(counts.of(kind::blocked, cause::call) == counts.of(kind::unblocked, cause::call));
    CHECK(counts.of(kind::blocked, cause::page_fault) == counts.of(kind::unblocked, cause::page_fault));
    CHECK(counts.of(kind::blocked, cause::call) > 0);
  });
  behind.check();
}

}  // namespace

TEST_CASE("own code under torture harms no call, lets no two threads run at once, and leaves nothing behind") {
  if (!all_code_works()) return skip(no_all_code);
  torture({}, 40, 60);
}

// Who waits for a lock then keeps the processor from who holds it: hence without.
TEST_CASE("the same with few activations, so that some who wait keep the processor") {
  if (!all_code_works()) return skip(no_all_code);
  weft::options few;
  few.max_activations = 3;
  few.switches_per_poll = 5;
  torture(few, 25, 40, marks::some_without_locks);
}

TEST_CASE("the same with time slices") {
  if (!all_code_works()) return skip(no_all_code);
  weft::options sliced;
  sliced.time_slice = 500us;
  torture(sliced, 40, 60);
}
