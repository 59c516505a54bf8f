// What a switch costs under each scheduling policy, beside the rows of the one that is built in.
#include <weft/policy.hpp>
#include <weft/thread.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "thread_rows.hpp"
#include "weft_rows.hpp"

namespace bench {
namespace {

struct yielding {
  using thread = weft::thread;
  static void yield() { weft::this_thread::yield(); }
  template <class Body> static thread spawn(Body body) { return thread(body); }
};

// The least that a program's own policy can do.
class own_policy final : public weft::policy {
  void put(weft::ready_thread& t, came) noexcept override { list_.push_back(t); }
  weft::ready_thread* take() noexcept override { return list_.pop_front(); }
  void remove(weft::ready_thread& t) noexcept override { list_.remove(t); }
  weft::ready_list list_;
};

row yield_under(weft::policy_maker policy, const std::string& name, long threads) {
  return {"yield-" + std::to_string(threads) + "-" + name, [policy = std::move(policy), threads] {
            return weft::run({.policy = policy}, [threads] { return yield<yielding>(threads); });
          }};
}

}  // namespace

std::vector<row> weft_policy_rows() {
  std::vector<row> rows;
  for (const long threads : {2L, 1000L}) {
    rows.push_back(yield_under(weft::policies::fifo, "fifo", threads));
    rows.push_back(yield_under(weft::policies::priority, "priority", threads));
    rows.push_back(yield_under(weft::policies::deadline, "deadline", threads));
    rows.push_back(yield_under([] { return std::make_unique<own_policy>(); }, "own-policy", threads));
  }
  return rows;
}

}  // namespace bench
