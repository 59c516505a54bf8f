// weft::run and the ways into a running scheduler.
#include "sched/run.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "sched/report.hpp"
#include "sched/scheduler.hpp"
#include "sched/stall.hpp"
#include "sched/trace_file.hpp"
#include "weft/detail/region.hpp"
#include "weft/runtime.hpp"

namespace weft {
namespace detail {

void set_this_scheduler(scheduler_face* face) noexcept;  // park.cpp
[[nodiscard]] bool runs_a_scheduler() noexcept;

namespace {

// Makes the calling kernel thread the scheduler's for as long as it exists.
class occupied {
 public:
  explicit occupied(sched::scheduler& s) noexcept { set_this_scheduler(&s); }
  ~occupied() { set_this_scheduler(nullptr); }
  occupied(const occupied&) = delete;
  occupied& operator=(const occupied&) = delete;
};

// The first throw of a process binds the unwinder's symbols, which takes 3 KiB of stack more than a tiny thread has.
void bind_unwinder() {
  static const bool bound = [] {
    try {
      throw_cancelled();
    } catch (const cancelled&) {
      return true;
    }
  }();
  static_cast<void>(bound);
}

struct discard_start {
  void operator()(start_block* start) const noexcept { start->discard(*start); }
};

}  // namespace

void run(const options& how, start_block* main) {
  sched::run_scheduler("weft::run", how, main, [](sched::scheduler&) {});
}

}  // namespace detail

namespace sched {

void refuse_inside_run(const char* asked_by) {
  if (!detail::runs_a_scheduler()) return;
  detail::throw_error(
      std::errc::operation_not_permitted,
      (std::string(asked_by) + ": this kernel thread already runs a scheduler; spawn a weft::thread instead").c_str());
}

void run_scheduler(const char* asked_by, const options& how, detail::start_block* main,
                   const std::function<void(scheduler&)>& ready) {
  std::unique_ptr<detail::start_block, detail::discard_start> first(main);
  refuse_inside_run(asked_by);
  detail::bind_unwinder();
  std::unique_ptr<upcall::source> own;
  if (how.source == nullptr) own = upcall::make_reactor(how.transfer);
  scheduler made(how, how.source != nullptr ? *how.source : *own);
  const crash_reports reports;
  const trace_file trace(made);
  const detail::occupied here(made);
  const std::unique_ptr<stall_watch> watch = watch_for_stalls(made);
  ready(made);
  made.run(first.release());
}

void end_main_of_caller(const char* asked_by) {
  if (detail::current_thread() == nullptr) return detail::with_processor(asked_by, [=] { end_main_of_caller(asked_by); });
  this_scheduler().end_main();
}

}  // namespace sched

// ---- posting ----

namespace {

// What copies of a poster share.
struct way_in {
  explicit way_in(std::shared_ptr<sched::inbox> to) : inbox(std::move(to)) { inbox->add_poster(); }
  ~way_in() { inbox->remove_poster(); }
  way_in(const way_in&) = delete;
  way_in& operator=(const way_in&) = delete;
  std::shared_ptr<sched::inbox> inbox;
};

}  // namespace

bool poster::post(std::function<void()> fn) const {
  if (state_ == nullptr)
    detail::throw_error(std::errc::invalid_argument, "poster::post: this poster is empty; make_poster gives one");
  if (!fn) detail::throw_error(std::errc::invalid_argument, "poster::post: the function is empty");
  return static_cast<way_in&>(*static_cast<way_in*>(state_.get())).inbox->push(std::move(fn));
}

poster sched::poster_to(const std::shared_ptr<inbox>& to) {
  poster made;
  made.state_ = std::make_shared<way_in>(to);
  return made;
}

poster make_poster() {
  if (detail::current_thread() == nullptr) return detail::with_processor("make_poster", [] { return make_poster(); });
  return sched::poster_to(sched::scheduler_of_caller("make_poster").mail());
}

std::string dump_threads() {
  if (detail::current_thread() == nullptr) return detail::with_processor("dump_threads", [] { return dump_threads(); });
  return sched::thread_report(sched::scheduler_of_caller("dump_threads"));
}

// ---- upcalls seen from above ----

namespace upcall {

tally counts() {
  if (detail::current_thread() == nullptr) return detail::with_processor("upcall::counts", [] { return counts(); });
  return sched::scheduler_of_caller("upcall::counts").tally();
}

subscription subscribe(std::function<void(std::span<const event>)> observer) {
  if (detail::current_thread() == nullptr) {
    return detail::with_processor("upcall::subscribe", [&] { return subscribe(std::move(observer)); });
  }
  sched::scheduler& s = sched::scheduler_of_caller("upcall::subscribe");
  if (!observer) detail::throw_error(std::errc::invalid_argument, "upcall::subscribe: the observer is empty");
  auto kept = std::make_shared<sched::scheduler::observer>(std::move(observer));
  s.observe(kept);
  subscription made;
  made.state_ = std::move(kept);
  return made;
}

subscription::subscription(subscription&& other) noexcept = default;
subscription& subscription::operator=(subscription&& other) noexcept = default;
subscription::~subscription() = default;

}  // namespace upcall
}  // namespace weft
