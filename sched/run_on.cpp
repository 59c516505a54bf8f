// Several schedulers that begin together and end together.
//
// Invariants.
//   1. Nobody's `fn` begins before all schedulers are there; if one cannot be made, nobody's does.
//   2. The first error stays. Whoever has it tells all others by posts that were made in advance, so that it needs no memory.
//   3. The group keeps a poster to each scheduler that any of the others could still wake, so that none of these is taken for a
//      deadlock; to the last one that is left it keeps none.
#include "weft/run_on.hpp"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "sched/run.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/thread.hpp"

namespace weft {

// What all `processors` of a group share: filled before the first of them is used.
struct detail::ways_in {
  std::vector<std::shared_ptr<sched::inbox>> inboxes;

  static processors seen_from(std::shared_ptr<const ways_in> all, std::size_t index) noexcept {
    return processors(std::move(all), index);
  }
};

namespace sched {
namespace {

constexpr std::size_t most_schedulers = 4096;

// Thrown where a scheduler is there and another one cannot be made.
struct given_up {};

class group {
 public:
  group(std::size_t count, const options& how, const std::function<void(const processors&)>& fn);
  /// Runs all of them. @throws the first error
  void run();

 private:
  struct member {
    std::unique_ptr<inbox::post> end;  // asks its main thread to end
    poster kept;                       // see invariant 3
  };

  void run_member(std::size_t index) noexcept;
  void run_scheduler_of(std::size_t index, std::exception_ptr& cancelled_by);
  void call(std::size_t index, std::exception_ptr& cancelled_by);
  void meet(std::size_t index, scheduler& s);
  void fail(std::exception_ptr why) noexcept;
  void leave(std::size_t index) noexcept;

  const std::size_t count_;
  const options& how_;
  const std::function<void(const processors&)>& fn_;
  std::shared_ptr<detail::ways_in> ways_;

  std::mutex lock_;  // of all that follows, and of what `ways_` points to until all are there
  std::condition_variable all_there_;
  std::vector<member> members_;
  std::size_t there_ = 0;
  std::size_t ended_ = 0;
  std::exception_ptr error_;
};

group::group(std::size_t count, const options& how, const std::function<void(const processors&)>& fn)
    : count_(count), how_(how), fn_(fn), ways_(std::make_shared<detail::ways_in>()), members_(count) {
  ways_->inboxes.resize(count);
  for (member& m : members_) m.end = std::make_unique<inbox::post>(inbox::post{.fn = [] { end_main_of_caller("run_on"); }});
}

void group::run() {
  {
    std::vector<detail::kernel_thread> vessels;
    try {
      vessels.reserve(count_ - 1);
      for (std::size_t i = 1; i < count_; ++i) {
        vessels.emplace_back("weft::run_on", "weft-run-" + std::to_string(i), detail::signals::as_here,
                             [this, i] { run_member(i); });
      }
      run_member(0);
    } catch (...) {
      fail(std::current_exception());
    }
  }
  if (error_ != nullptr) std::rethrow_exception(error_);
}

// A main thread that was asked to end ends by weft::cancelled: what made somebody ask says more.
void group::run_member(std::size_t index) noexcept {
  std::exception_ptr cancelled_by;
  try {
    run_scheduler_of(index, cancelled_by);
    if (cancelled_by != nullptr) fail(cancelled_by);
  } catch (const given_up&) {
  } catch (...) {
    fail(std::current_exception());
  }
  leave(index);
}

void group::run_scheduler_of(std::size_t index, std::exception_ptr& cancelled_by) {
  options how = how_;
  if (count_ > 1) how.name += " " + std::to_string(index);
  run_scheduler("weft::run_on", how, detail::make_start([&, index] { call(index, cancelled_by); }),
                [&, index](scheduler& s) { meet(index, s); });
}

// On the main thread. Told at once: what is left of this scheduler may wait for another one.
void group::call(std::size_t index, std::exception_ptr& cancelled_by) {
  try {
    fn_(detail::ways_in::seen_from(ways_, index));
  } catch (const cancelled&) {
    cancelled_by = std::current_exception();
  } catch (...) {
    const no_preemption while_locked;
    fail(std::current_exception());
  }
}

// A scheduler is there: waits for the others.
void group::meet(std::size_t index, scheduler& s) {
  if (index == 0 && count_ > 1) s.record(trace::kind::add_processor, s.holder().record, static_cast<std::int64_t>(count_ - 1));
  poster kept = count_ > 1 ? poster_to(s.mail()) : poster();
  std::unique_lock hold(lock_);
  members_[index].kept = std::move(kept);
  ways_->inboxes[index] = s.mail();
  if (++there_ == count_) all_there_.notify_all();
  all_there_.wait(hold, [this] { return there_ == count_ || error_ != nullptr; });
  if (there_ < count_) throw given_up();
}

void group::fail(std::exception_ptr why) noexcept {
  const std::lock_guard hold(lock_);
  if (error_ != nullptr) return;
  error_ = std::move(why);
  all_there_.notify_all();
  if (there_ < count_) return;
  for (std::size_t i = 0; i < count_; ++i) static_cast<void>(ways_->inboxes[i]->push(std::move(members_[i].end)));
}

void group::leave(std::size_t index) noexcept {
  const std::lock_guard hold(lock_);
  members_[index].kept = {};
  if (++ended_ + 1 < count_) return;
  for (member& m : members_) m.kept = {};
}

}  // namespace
}  // namespace sched

void detail::run_on(std::size_t count, const options& how, const std::function<void(const processors&)>& fn) {
  sched::refuse_inside_run("weft::run_on");
  if (count == 0)
    throw_error(std::errc::invalid_argument, "weft::run_on: no scheduler is asked for; at least one runs something");
  if (count > sched::most_schedulers) {
    throw_error(std::errc::invalid_argument,
                "weft::run_on: more than 4096 schedulers are asked for; one for each core is enough");
  }
  if (how.source != nullptr && count > 1)
    throw_error(std::errc::invalid_argument, "weft::run_on: options::source serves one scheduler, and several are asked for");
  sched::group(count, how, fn).run();
}

std::size_t processors::count() const noexcept { return ways_->inboxes.size(); }

poster processors::operator[](std::size_t index) const {
  if (index >= count()) {
    detail::throw_error(std::errc::invalid_argument,
                        "weft::processors: there is no scheduler of that number; count() says how many");
  }
  return sched::poster_to(ways_->inboxes[index]);
}

}  // namespace weft
