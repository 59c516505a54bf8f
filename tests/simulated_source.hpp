// The kernel as a toy: a source with a clock that only moves when everybody waits, and completions in an order that a seed
// decides. The scheduler under test is the real one, so what it does can be compared event by event, and every order of
// completions can be tried without a real file, socket or second.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "sched/scheduler.hpp"
#include "weft/detail/park.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"
#include "weft/trace.hpp"
#include "weft/upcall.hpp"

/// Seed 0: one completion at a time, in the order of submission. Any other: random batches in random order, some operations
/// complete at once, cancelled ones sometimes still succeed.
class simulated_source : public weft::upcall::source {
 public:
  explicit simulated_source(std::uint64_t seed) : seed_(seed), random_(seed) {}

  void attach(weft::upcall::handler& receiver) override { handler_ = &receiver; }

  bool start(weft::upcall::operation& request) override {
    request.result = static_cast<std::int32_t>(request.length);
    if (seed_ != 0 && chance(8)) return true;
    request.stage = waiting;
    held_.push_back(&request);
    return false;
  }

  void cancel(weft::upcall::operation& request) override {
    if (request.stage != waiting) return;
    request.stage = cancelling;
    if (seed_ == 0 || !chance(4)) request.result = -ECANCELED;  // otherwise it had finished just before
  }

  void poll() override {
    if (seed_ != 0 && chance(2)) complete(pick_count());
  }

  void wait(weft::time_point deadline) override {
    if (!held_.empty()) return complete(seed_ == 0 ? 1 : pick_count());  // the kernel is faster than any clock
    if (woken_.exchange(false)) return;
    if (deadline != weft::never) {
      now_ = std::max(now_, deadline);
    } else {
      wait_for_wake();
    }
  }

  void wake() noexcept override {
    woken_ = true;
    woken_.notify_one();
  }

  [[nodiscard]] std::size_t pending() const noexcept override { return held_.size(); }
  [[nodiscard]] bool wants_poll() const noexcept override { return !held_.empty(); }
  [[nodiscard]] weft::time_point now() const noexcept override { return now_; }
  [[nodiscard]] std::string_view name() const noexcept override { return "simulation"; }

  void advance(weft::duration by) { now_ += by; }
  [[nodiscard]] bool chance(unsigned one_in) { return random_() % one_in == 0; }
  [[nodiscard]] std::size_t below(std::size_t bound) { return static_cast<std::size_t>(random_() % bound); }

 protected:
  // Only another kernel thread can help.
  virtual void wait_for_wake() {
    woken_.wait(false);
    woken_ = false;
  }
  weft::upcall::handler& handler() { return *handler_; }

 private:
  static constexpr std::uint32_t waiting = 1;
  static constexpr std::uint32_t cancelling = 2;

  std::size_t pick_count() { return held_.empty() ? 0 : 1 + below(held_.size()); }

  void complete(std::size_t count) {
    std::vector<weft::upcall::event> batch;
    for (; count > 0 && !held_.empty(); --count) {
      const std::size_t at = seed_ == 0 ? 0 : below(held_.size());
      weft::upcall::operation* const done = held_[at];
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(at));
      done->stage = 0;
      batch.push_back({.what = weft::upcall::kind::unblocked,
                       .why = weft::upcall::cause_of(done->code),
                       .activation = 1,
                       .thread = 0,
                       .result = done->result,
                       .when = {},
                       .record = done->thread});
    }
    if (!batch.empty()) handler_->handle(batch);
  }

  std::uint64_t seed_;
  std::mt19937_64 random_;
  weft::upcall::handler* handler_ = nullptr;
  std::vector<weft::upcall::operation*> held_;
  weft::time_point now_{std::chrono::hours(1)};
  std::atomic<bool> woken_{false};
};

/// A scheduler on a simulated kernel, and the story of what it did.
class simulation {
 public:
  explicit simulation(std::uint64_t seed = 0) : source(seed), ring_(1 << 16) { how.source = &source; }

  /// Threads to start before the clock moves; they run in this order.
  void spawn(std::string name, std::function<void()> body) { threads_.emplace_back(std::move(name), std::move(body)); }

  /// Waits, as if in the kernel, for something called `what`.
  std::int32_t block_on(const std::string& what, weft::time_point deadline = weft::never) {
    weft::upcall::operation request;
    request.code = weft::upcall::opcode::poll;
    request.fd = static_cast<int>(labels_.size()) + 1;
    labels_[weft::this_thread::get_id().number()] = what;
    request.length = 1;
    return weft::detail::perform(request, deadline);
  }

  void run() {
    weft::run(how, [this] {
      auto& scheduler = static_cast<weft::sched::scheduler&>(weft::detail::this_scheduler_face());
      scheduler.trace_to(&ring_);
      std::vector<weft::thread> started;
      for (auto& [name, body] : threads_) started.emplace_back(weft::attributes{.name = name}, body);
      for (weft::thread& t : started) t.join();
      scheduler.trace_to(nullptr);
    });
  }

  /// What the threads other than main did: "run reader | blocked reader disk | run other | exit other | …".
  [[nodiscard]] std::string trace() const {
    std::string out;
    for (const weft::trace::record& r : ring_.snapshot()) {
      const std::string name = ring_.name_of(r.thread);
      if (name.empty() || name == "main") continue;
      const std::string what = say(r, name);
      if (what.empty()) continue;
      if (!out.empty()) out += " | ";
      out += what;
    }
    return out;
  }

  simulated_source source;
  weft::options how;

 private:
  [[nodiscard]] std::string say(const weft::trace::record& r, const std::string& name) const {
    using weft::trace::kind;
    switch (r.what) {
      case kind::run:
        return "run " + name;
      case kind::park:
        return "park " + name;
      case kind::yield:
        return "yield " + name;
      case kind::exit:
        return "exit " + name;
      case kind::upcall: {
        const auto label = labels_.find(r.thread);
        const std::string text = std::string(weft::upcall::name(static_cast<weft::upcall::kind>(r.detail))) + " " + name;
        const bool labelled = label != labels_.end() && r.cause == static_cast<std::uint8_t>(weft::upcall::cause::poll);
        return text + " " +
               (labelled ? label->second : std::string(weft::upcall::name(static_cast<weft::upcall::cause>(r.cause))));
      }
      default:
        return "";
    }
  }

  weft::trace::ring ring_;
  std::vector<std::pair<std::string, std::function<void()>>> threads_;
  std::map<std::uint32_t, std::string> labels_;
};

/// Runs `body` as the main thread of a scheduler on a simulated kernel; returns what it returns.
template <class Body> auto simulate(std::uint64_t seed, Body body) {
  simulated_source source(seed);
  weft::options how;
  how.source = &source;
  return weft::run(how, std::move(body));
}
template <class Body> auto simulate(Body body) { return simulate(0, std::move(body)); }

/// Seeds to try: WEFT_SEED=n tries one, otherwise 1 … count.
inline std::vector<std::uint64_t> seeds(std::uint64_t count) {
  if (const char* const one = std::getenv("WEFT_SEED")) return {std::strtoull(one, nullptr, 10)};
  std::vector<std::uint64_t> all;
  for (std::uint64_t s = 1; s <= count; ++s) all.push_back(s);
  return all;
}
