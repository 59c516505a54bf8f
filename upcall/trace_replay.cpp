#include "upcall/trace_replay.hpp"

#include <algorithm>
#include <unordered_map>

namespace weft::trace {
namespace {

constexpr std::string_view unknown_wait = "waiting";

std::string_view wait_of(const record& park) noexcept {
  const auto what = static_cast<waits_for>(park.detail);
  return what == waits_for::other ? unknown_wait : name(what);
}

std::string_view wait_of_upcall(const record& r) noexcept {
  return static_cast<upcall::cause>(r.cause) == upcall::cause::none ? unknown_wait : cause_told_by(r);
}

class replayer {
 public:
  explicit replayer(listener& to) : to_(to) {}

  void take(const record& r, std::uint64_t at);
  void finish();

 private:
  struct row {
    life state = life::absent;
    std::string_view why{};
    std::int64_t object = 0;
    std::uint64_t since = 0;
  };

  // The row of a thread. One met for the first time was alive before the first record, and `before` is what it did.
  row& meet(std::uint32_t thread, life before, std::string_view why = {}) {
    return rows_.try_emplace(thread, row{before, why, 0, 0}).first->second;
  }
  // Who gives the processor away had it; but it had it since before the first record only if nobody else was given it.
  [[nodiscard]] life if_it_ran() const noexcept { return processor_known_ ? life::absent : life::running; }

  void close(std::uint32_t thread, const row& r) {
    const bool shown = r.state == life::running || (r.state != life::absent && r.since != now_);
    if (shown) to_.lived({thread, r.state, r.why, r.object, r.since, now_});
  }
  void enter(std::uint32_t thread, row& r, life next, std::string_view why = {}, std::int64_t object = 0) {
    close(thread, r);
    r = {next, why, object, now_};
    if (running_ == thread && next != life::running) running_ = 0;
  }

  void take_of_thread(const record& r);
  void receive_upcall(const record& r);
  void run(std::uint32_t thread);
  void lose(std::uint32_t thread);
  void wait(std::uint32_t thread, std::string_view why, std::int64_t object = 0);
  void wake(std::uint32_t thread, std::string_view why);
  void go_idle();
  void end_idle();

  listener& to_;
  std::unordered_map<std::uint32_t, row> rows_;
  std::uint64_t now_ = 0;
  std::uint64_t idle_since_ = 0;
  std::uint32_t running_ = 0;
  bool idle_ = false;
  bool processor_known_ = false;  // a record has told what the processor does
};

void replayer::take(const record& r, std::uint64_t at) {
  now_ = std::max(now_, at);
  if (r.what == kind::idle) go_idle();
  if (r.what == kind::busy) end_idle();
  if (r.thread != 0) take_of_thread(r);
  to_.happened(r, now_);
}

void replayer::take_of_thread(const record& r) {
  switch (r.what) {
    case kind::upcall:
      return receive_upcall(r);
    case kind::spawn:
      return enter(r.thread, meet(r.thread, life::absent), life::ready);
    case kind::run:
      return run(r.thread);
    case kind::park:
      return wait(r.thread, wait_of(r), r.value);
    case kind::ready:
      return wake(r.thread, unknown_wait);
    case kind::yield:
      return lose(r.thread);
    case kind::exit:
      return enter(r.thread, meet(r.thread, if_it_ran()), life::absent);
    case kind::idle:
    case kind::busy:
    case kind::add_processor:
      return;
  }
}

void replayer::finish() {
  std::vector<std::uint32_t> threads;  // in order, so that one trace always makes one file
  threads.reserve(rows_.size());
  for (const auto& [thread, r] : rows_) {
    if (r.state != life::absent) threads.push_back(thread);
  }
  std::sort(threads.begin(), threads.end());
  for (const std::uint32_t thread : threads) close(thread, rows_[thread]);
  if (idle_) to_.idled(idle_since_, now_);
}

void replayer::receive_upcall(const record& r) {
  const std::string_view why = wait_of_upcall(r);
  switch (static_cast<upcall::kind>(r.detail)) {
    case upcall::kind::blocked:
      return wait(r.thread, why);
    case upcall::kind::unblocked:
      return wake(r.thread, why);
    case upcall::kind::preempted:
      return lose(r.thread);
    case upcall::kind::processor_added:
      return;
  }
}

void replayer::run(std::uint32_t thread) {
  if (idle_) end_idle();
  row& r = meet(thread, life::ready);
  if (running_ == thread) return;
  if (running_ != 0) lose(running_);  // no record said how it gave the processor away: it did not wait for anything
  enter(thread, r, life::running);
  running_ = thread;
  processor_known_ = true;
}

void replayer::lose(std::uint32_t thread) {
  row& r = meet(thread, if_it_ran());
  if (r.state == life::running) enter(thread, r, life::ready);
}

// An operation may be recorded twice, as a blocked upcall and as a park: the first one that says what for names the wait.
void replayer::wait(std::uint32_t thread, std::string_view why, std::int64_t object) {
  row& r = meet(thread, if_it_ran());
  if (r.state != life::waiting) return enter(thread, r, life::waiting, why, object);
  if (r.why == unknown_wait) r.why = why;
}

void replayer::wake(std::uint32_t thread, std::string_view why) {
  row& r = meet(thread, life::waiting, why);
  if (r.state == life::waiting) enter(thread, r, life::ready);
}

void replayer::go_idle() {
  if (idle_) return;
  if (running_ != 0) wait(running_, unknown_wait);
  idle_ = processor_known_ = true;
  idle_since_ = now_;
}

// A `busy` that comes first ends an idleness whose beginning is lost.
void replayer::end_idle() {
  if (idle_ || !processor_known_) to_.idled(idle_since_, now_);
  idle_ = false;
  processor_known_ = true;
}

}  // namespace

std::string_view cause_told_by(const record& upcall) noexcept {
  const auto why = static_cast<upcall::cause>(upcall.cause);
  const bool region_blocked = why == upcall::cause::region && static_cast<upcall::kind>(upcall.detail) == upcall::kind::blocked;
  return region_blocked && upcall.value >= 0 ? upcall::system_call_name(static_cast<int>(upcall.value)) : upcall::name(why);
}

void replay(std::span<const record> records, listener& to) {
  replayer story(to);
  for (const record& r : records) story.take(r, r.ticks > records[0].ticks ? r.ticks - records[0].ticks : 0);
  story.finish();
}

}  // namespace weft::trace
