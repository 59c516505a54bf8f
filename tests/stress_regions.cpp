// both-transfers every-privilege
// Regions under torture, on the real kernel: threads that block in regions, call weft from inside, are cancelled, throw, fork
// and exec, beside timers, pipes and files. Two threads of one scheduler never run at once, no call is harmed, nothing is left
// open. Iterations are counted, never timed. WEFT_SEED=n repeats a choice of actions, not the kernel's timing.
#include <doctest/doctest.h>

#include <vector>

#include "tests/torture.hpp"
#include "weft/runtime.hpp"

namespace {

void torture(const weft::options& how, int threads, int steps) {
  const nothing_left behind;
  weft::run(how, [&] {
    world w;
    std::vector<weft::thread> all;
    for (int i = 0; i < threads; ++i) {
      all.emplace_back([&w, i, steps] { actor(w, static_cast<std::uint64_t>(i)).live(steps); });
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
  });
  behind.check();
}

}  // namespace

TEST_CASE("regions under torture harm no call, let no two threads run at once, and leave nothing behind") { torture({}, 40, 60); }

TEST_CASE("the same with few activations, so that regions queue for them") {
  weft::options few;
  few.max_activations = 3;
  few.switches_per_poll = 5;
  torture(few, 25, 40);
}
