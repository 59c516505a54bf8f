// A scheduler that lives on a kernel thread of its own and takes work from outside.
//
// Its main thread does nothing but wait for the end. While nobody joins, the object's own poster keeps the scheduler from being
// taken for a deadlock. A join drops that poster and waits for the work to be done: from then on a deadlock is found, as in run.
//
// Invariant: `work_` counts the work that was accepted and has not ended, and its lowest bit says that no more is. Who gives work
// counts it first, by a compare-and-swap that finds the bit not set, and has then done everything that may fail: so there is no
// moment at which main finds no work and somebody believes to have given some.
#include "weft/scheduler.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>

#include "sched/report.hpp"
#include "sched/run.hpp"
#include "sched/scheduler.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/detail/region.hpp"
#include "weft/detail/waiting_room.hpp"
#include "weft/thread.hpp"

namespace weft {

class detail::scheduler_object : public std::enable_shared_from_this<scheduler_object> {
 public:
  explicit scheduler_object(const options& how) : how_(how) {}

  /// @throws what kept the scheduler from starting
  void start();
  [[nodiscard]] bool post(std::function<void()> fn);
  void request_stop() noexcept;
  /// Lets it end when its work is done.
  void finish() noexcept;
  /// Waits for the end of scheduler and kernel thread. @throws weft::cancelled unless shielded
  void await_end(cancellation mode);
  void rethrow() const {
    if (error_ != nullptr) std::rethrow_exception(error_);
  }

  /// Whether the caller is one of its own threads.
  [[nodiscard]] bool runs_caller() const noexcept;
  /// Whether this is a child that has the object's memory, but not its kernel thread.
  [[nodiscard]] bool left_behind() const noexcept { return ::getpid() != process_; }
  [[nodiscard]] const std::shared_ptr<sched::inbox>& mail() const noexcept { return mail_; }
  [[nodiscard]] bool joined() const noexcept { return joined_.load(std::memory_order_relaxed); }

 private:
  enum class stage : std::uint8_t { starting, running, ended };
  static constexpr std::uint64_t no_more = 1;
  static constexpr std::uint64_t one = 2;

  // One piece of work, in the thread that was made for it.
  struct work {
    std::shared_ptr<scheduler_object> of;
    std::function<void()> fn;
    void operator()() {
      const struct ending {
        scheduler_object& of;
        ~ending() { of.ended_one(); }
      } at_the_end{*of};
      fn();
    }
  };

  void run() noexcept;
  void main_thread();
  void ended_one() noexcept;
  void begin_to_finish();
  void enter(stage s) noexcept;
  wake_reason await(bool (*over)(void*) noexcept, const char* what, cancellation mode);

  const options how_;
  const pid_t process_ = ::getpid();
  std::atomic<std::uint64_t> work_{0};
  std::atomic<bool> stop_asked_{false};
  std::atomic<bool> joined_{false};
  std::unique_ptr<sched::inbox::post> stop_ = std::make_unique<sched::inbox::post>();  // made before they are needed
  std::unique_ptr<sched::inbox::post> finish_ = std::make_unique<sched::inbox::post>();

  waiting_room room_;  // of those who wait for a stage, and the lock of all that follows
  std::atomic<stage> stage_{stage::starting};
  std::exception_ptr error_;
  std::shared_ptr<sched::inbox> mail_;  // written before the stage is running
  std::int32_t home_ = -1;               // likewise

  // Of the scheduler's threads.
  poster kept_;
  bool finishing_ = false;
  wait_queue main_waits_;

  kernel_thread vessel_;
};

namespace detail {

void scheduler_object::start() {
  // Not the object itself: a stop that comes late may find it gone.
  stop_->fn = [] { sched::end_main_of_caller("scheduler::request_stop"); };
  finish_->fn = [self = weak_from_this()] {
    if (const auto object = self.lock()) object->begin_to_finish();
  };
  vessel_ = kernel_thread("weft::scheduler", how_.name, signals::as_here, [this] { run(); });
  const auto begun = [](void* of) noexcept { return static_cast<scheduler_object*>(of)->stage_ != stage::starting; };
  static_cast<void>(await(begun, "start of a scheduler", cancellation::shielded));
  if (mail_ != nullptr) return;
  vessel_.join();
  rethrow();
}

// On its kernel thread, from beginning to end.
void scheduler_object::run() noexcept {
  std::exception_ptr error;
  try {
    sched::run_scheduler("weft::scheduler", how_, make_start([this] { main_thread(); }), [this](sched::scheduler& s) {
      kept_ = sched::poster_to(s.mail());
      mail_ = s.mail();
      home_ = s.records().home();  // not by main: where there is a policy, work may run before it
      enter(stage::running);
    });
  } catch (...) {
    error = std::current_exception();
  }
  work_.fetch_or(no_more, std::memory_order_relaxed);
  kept_ = {};
  error_ = std::move(error);
  enter(stage::ended);
}

void scheduler_object::main_thread() {
  for (;;) {
    std::uint64_t none = 0;
    if (finishing_ && work_.compare_exchange_strong(none, no_more, std::memory_order_acq_rel)) return;
    if (finishing_ && none == no_more) return;
    waiter self;
    self.what = finishing_ ? "end of the work that was given" : "inbox";
    if (park(main_waits_, self) == wake_reason::cancelled) break;
  }
  work_.fetch_or(no_more, std::memory_order_relaxed);
}

// On one of the scheduler's threads.
void scheduler_object::ended_one() noexcept {
  if (current_thread() == nullptr) return with_processor("scheduler::post", [this] { ended_one(); });
  if (work_.fetch_sub(one, std::memory_order_acq_rel) / one == 1 && finishing_) grant_first(main_waits_);
}

void scheduler_object::begin_to_finish() {
  if (current_thread() == nullptr) return with_processor("scheduler::join", [this] { begin_to_finish(); });
  finishing_ = true;
  kept_ = {};
  grant_first(main_waits_);
}

void scheduler_object::enter(stage s) noexcept {
  waiting_room::chosen all;
  {
    const std::lock_guard hold(room_);
    stage_.store(s, std::memory_order_release);
    room_.choose_all(all);
  }
  waiting_room::wake(all);
}

wake_reason scheduler_object::await(bool (*over)(void*) noexcept, const char* what, cancellation mode) {
  waiting_room::verdict how;
  room_.wait({.call = "weft::scheduler", .what = what, .object = this, .over = over, .of = this, .mode = mode}, how);
  return how.reason;
}

namespace {

// While one exists, work is on its way: between counting it and leaving it there the scheduler, which waits for what was counted,
// must not find itself deadlocked.
class on_the_way {
 public:
  explicit on_the_way(sched::inbox& to) noexcept : to_(to) { to_.add_poster(); }
  ~on_the_way() { to_.remove_poster(); }
  on_the_way(const on_the_way&) = delete;
  on_the_way& operator=(const on_the_way&) = delete;

 private:
  sched::inbox& to_;
};

}  // namespace

bool scheduler_object::post(std::function<void()> fn) {
  if (!fn) throw_error(std::errc::invalid_argument, "scheduler::post: the function is empty");
  if (left_behind()) return false;
  auto node = std::make_unique<sched::inbox::post>(sched::inbox::post{.fn = work{shared_from_this(), std::move(fn)}});
  const on_the_way here(*mail_);
  std::uint64_t seen = work_.load(std::memory_order_relaxed);
  do {
    if ((seen & no_more) != 0) return false;
  } while (!work_.compare_exchange_weak(seen, seen + one, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (mail_->push(std::move(node))) return true;
  work_.fetch_sub(one, std::memory_order_relaxed);  // it has ended by a stop or a deadlock: main waits for no work
  return false;
}

void scheduler_object::request_stop() noexcept {
  if (left_behind()) return;
  work_.fetch_or(no_more, std::memory_order_relaxed);
  if (!stop_asked_.exchange(true, std::memory_order_acq_rel)) static_cast<void>(mail_->push(std::move(stop_)));
}

void scheduler_object::finish() noexcept {
  if (finish_ != nullptr) static_cast<void>(mail_->push(std::move(finish_)));
  finish_ = nullptr;
}

void scheduler_object::await_end(cancellation mode) {
  const auto over = [](void* of) noexcept { return static_cast<scheduler_object*>(of)->stage_ == stage::ended; };
  if (await(over, "end of a scheduler", mode) == wake_reason::cancelled) throw_cancelled();
  vessel_.join();  // it has nothing left to do
  joined_.store(true, std::memory_order_relaxed);
}

bool scheduler_object::runs_caller() const noexcept {
  const scheduler_face& face = this_scheduler_face();
  const thread_record* const caller = face.current != nullptr ? face.current : face.away;
  return caller != nullptr && caller->home == home_;
}

}  // namespace detail

// The standard library's own locks are taken here and there: no tick comes in between.
scheduler::scheduler(const options& how) {
  const no_preemption whole;
  object_ = std::make_shared<detail::scheduler_object>(how);
  object_->start();
}

scheduler::~scheduler() {
  if (!joinable()) return;
  const no_preemption whole;
  if (object_->left_behind()) {
    static_cast<void>(new std::shared_ptr<detail::scheduler_object>(std::move(object_)));  // its kernel thread is none of ours
    return;
  }
  if (object_->runs_caller()) {
    sched::fatal(
        "weft: a weft::scheduler was destroyed by one of its own threads, which would wait for its own end; destroy it on "
        "another kernel thread, and use request_stop() to end it from inside");
  }
  object_->request_stop();
  object_->await_end(detail::cancellation::shielded);
}

detail::scheduler_object& scheduler::object(const char* call) const {
  if (object_ == nullptr) {
    detail::throw_error(std::errc::invalid_argument,
                        (std::string(call) + ": this scheduler was moved from; use the one it was moved to").c_str());
  }
  return *object_;
}

bool scheduler::post(std::function<void()> fn) { return object("scheduler::post").post(std::move(fn)); }

void scheduler::request_stop() noexcept {
  if (object_ == nullptr) return;
  const no_preemption whole;
  object_->request_stop();
}

bool scheduler::joinable() const noexcept { return object_ != nullptr && !object_->joined(); }

void scheduler::join() {
  detail::scheduler_object& joined = object("scheduler::join");
  if (joined.joined()) detail::throw_error(std::errc::invalid_argument, "scheduler::join: this scheduler was joined before");
  if (joined.left_behind()) {
    detail::throw_error(
        std::errc::operation_not_permitted,
        "scheduler::join: the scheduler runs in the process that this one was forked from; only that one can join it");
  }
  if (joined.runs_caller()) {
    detail::throw_error(std::errc::resource_deadlock_would_occur,
                        "scheduler::join: one of its own threads would wait for its own end; use request_stop()");
  }
  const no_preemption whole;
  joined.finish();
  joined.await_end(detail::cancellation::allowed);
  joined.rethrow();
}

poster scheduler::way_in() const { return sched::poster_to(object("scheduler::way_in").mail()); }

}  // namespace weft
