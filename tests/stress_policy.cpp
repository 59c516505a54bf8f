// Seeded schedules of threads with priorities and deadlines that change all the time, with mutexes between them. A policy that
// passes everything on to a real one looks at each choice. WEFT_SEED=n repeats one.
#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "sched/policy_node.hpp"
#include "tests/simulated_source.hpp"
#include "weft/mutex.hpp"
#include "weft/policy.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

// One mutex, and who deals with it, by thread number.
struct contended {
  weft::timed_mutex lock;
  std::uint32_t holder = 0;
  std::set<std::uint32_t> waiting;  // from before lock() until it has returned
  std::set<std::uint32_t> patient;  // those among them without a deadline
};

struct world {
  simulated_source& kernel;
  contended locks[3];
  std::map<std::uint32_t, const weft::ready_thread*> known;
  std::set<const weft::ready_thread*> ready;
  long choices = 0;
  long inherited = 0;
  const char* broken = nullptr;
};

// Passes on to `inner`, and checks: what runs is the most urgent of those ready; nobody waits for a mutex in vain: of those who
// have it or are about to, one is as urgent as the waiter; and nobody keeps what it was lent.
class checked : public weft::policy {
 public:
  checked(world& w, std::unique_ptr<weft::policy> inner) : world_(w), inner_(std::move(inner)) {}

  void put(weft::ready_thread& t, came how) noexcept override {
    world_.known[t.number()] = &t;
    if (!world_.ready.insert(&t).second) world_.broken = "put twice";
    inner_->put(t, how);
  }
  void remove(weft::ready_thread& t) noexcept override {
    if (world_.ready.erase(&t) == 0) world_.broken = "removed what was not there";
    inner_->remove(t);
  }
  weft::ready_thread* take() noexcept override {
    weft::ready_thread* const t = inner_->take();
    ++world_.choices;
    if (t == nullptr || world_.ready.count(t) == 0) {
      world_.broken = "chose a thread that is not ready";
      return t;
    }
    for (const weft::ready_thread* const other : world_.ready) {
      if (inner_->more_urgent(*other, *t)) world_.broken = "a more urgent thread was ready";
    }
    for (const contended& c : world_.locks) check(c);
    for (const auto& [number, known] : world_.known) check_loans(number, static_cast<const weft::sched::policy_node&>(*known));
    world_.ready.erase(t);
    return t;
  }
  [[nodiscard]] bool more_urgent(const weft::ready_thread& a, const weft::ready_thread& b) const noexcept override {
    return inner_->more_urgent(a, b);
  }

 private:
  void check(const contended& c) {
    for (const std::uint32_t number : c.patient) {
      const weft::ready_thread* const waiter = find(number);
      if (waiter == nullptr || world_.ready.count(waiter) != 0) continue;  // it was woken
      const weft::ready_thread* const holder = find(c.holder);
      const bool unknown = c.holder != 0 && holder == nullptr;
      bool served = unknown || (holder != nullptr && !inner_->more_urgent(*waiter, *holder));
      for (const std::uint32_t other : c.waiting) {
        const weft::ready_thread* const woken = find(other);
        served |= woken != nullptr && world_.ready.count(woken) != 0 && !inner_->more_urgent(*waiter, *woken);
      }
      if (!served && c.holder != running()) world_.broken = "a waiter's urgency was not inherited";
      world_.inherited += served ? 1 : 0;
    }
  }
  // Who counts for more than it wants itself owes that to somebody who lends to it now.
  void check_loans(std::uint32_t number, const weft::sched::policy_node& n) {
    using weft::sched::thread_state;
    const thread_state state = n.record().state;
    if (n.record().number != number || state == thread_state::finished || state == thread_state::vacant) return;
    bool owed = n.priority() == n.own_priority() && n.deadline() == n.own_deadline();
    for (const weft::sched::policy_node* l = n.lenders; l != nullptr; l = l->next_lender) {
      owed |= n.priority() == l->priority() && n.deadline() == l->deadline();
    }
    if (!owed) world_.broken = "a thread kept what it was lent";
  }
  // Null before it was first put, as with start::now.
  [[nodiscard]] const weft::ready_thread* find(std::uint32_t number) const {
    const auto at = world_.known.find(number);
    return at == world_.known.end() ? nullptr : at->second;
  }
  // Whoever just runs may be anywhere between two lines of the test.
  static std::uint32_t running() { return weft::this_thread::get_id().number(); }

  world& world_;
  std::unique_ptr<weft::policy> inner_;
};

void linger(world& w) {
  switch (w.kernel.below(4)) {
    case 0:
      return;
    case 1:
    case 2:
      return weft::this_thread::yield();
    default:
      return weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(10)));
  }
}

void change(world& w) {
  const int priority = static_cast<int>(w.kernel.below(64)) + weft::least_priority;
  const weft::time_point when = weft::time_point{} + std::chrono::seconds(w.kernel.below(1000));
  weft::this_thread::set_priority(priority);
  weft::this_thread::set_deadline(w.kernel.chance(5) ? weft::never : when);
}

// While one exists, its thread holds the mutex.
struct held {
  contended& of;
  explicit held(contended& c) : of(c) {
    if (of.holder != 0) throw std::logic_error("two threads hold a mutex");
    of.holder = weft::this_thread::get_id().number();
  }
  ~held() {
    of.holder = 0;
    of.lock.unlock();
  }
};
// While one exists, its thread may wait for the mutex.
struct waiting {
  contended& of;
  const std::uint32_t self = weft::this_thread::get_id().number();
  waiting(contended& c, bool is_patient) : of(c) {
    of.waiting.insert(self);
    if (is_patient) of.patient.insert(self);
  }
  ~waiting() {
    of.waiting.erase(self);
    of.patient.erase(self);
  }
};

bool take(world& w, contended& c) {
  switch (w.kernel.below(5)) {
    case 0:
      return c.lock.try_lock();
    case 1: {
      const waiting here(c, false);
      return c.lock.try_lock_for(std::chrono::microseconds(w.kernel.below(20)));
    }
    default: {
      const waiting here(c, true);
      c.lock.lock();
      return true;
    }
  }
}

// Takes mutexes in the order of their numbers, so that nobody waits for ever.
void go_deeper(world& w, std::size_t from) {
  if (from >= std::size(w.locks)) return;
  contended& c = w.locks[from + w.kernel.below(std::size(w.locks) - from)];
  if (!take(w, c)) return;
  const held here(c);
  linger(w);
  if (w.kernel.chance(3)) change(w);
  go_deeper(w, static_cast<std::size_t>(&c - w.locks) + 1);
  linger(w);
}

void act(world& w) {
  switch (w.kernel.below(4)) {
    case 0:
      return change(w);
    case 1:
      return linger(w);
    default:
      return go_deeper(w, 0);
  }
}

void try_seed(std::uint64_t seed, const weft::policy_maker& by, world& w, bool cancels) {
  weft::options how;
  how.source = &w.kernel;
  how.switches_per_poll = 1 + static_cast<unsigned>(seed % 13);
  how.policy = [&] { return std::make_unique<checked>(w, by()); };
  weft::run(how, [&] {
    std::vector<weft::thread> threads;
    for (int i = 0; i < 8; ++i) {
      const weft::start when = w.kernel.chance(4) ? weft::start::now : weft::start::later;
      threads.emplace_back(weft::attributes{.start = when, .priority = i - 4}, [&w] {
        for (int step = 0; step < 15; ++step) act(w);
      });
    }
    for (int i = 0; i < 20; ++i) {
      weft::this_thread::sleep_for(std::chrono::microseconds(w.kernel.below(10)));
      weft::thread& one = threads[w.kernel.below(threads.size())];
      one.set_priority(static_cast<int>(w.kernel.below(64)) + weft::least_priority);
      one.set_deadline(weft::time_point{} + std::chrono::seconds(w.kernel.below(1000)));
      if (cancels && w.kernel.chance(4)) one.request_cancel();
    }
    for (weft::thread& t : threads) t.join();
    for (contended& c : w.locks) {
      CHECK(c.lock.try_lock());
      c.lock.unlock();
    }
  });
}

}  // namespace

TEST_CASE("what runs is always the most urgent, and mutexes pass urgency on, for every schedule") {
  long choices = 0;
  long inherited = 0;
  const std::vector<weft::policy_maker> both{weft::policies::priority, weft::policies::deadline};
  for (const weft::policy_maker& by : both) {
    for (const std::uint64_t seed : seeds(600)) {
      CAPTURE(seed);
      simulated_source source(seed);
      world w{source, {}, {}, {}};
      try_seed(seed, by, w, seed % 2 == 0);
      CHECK(w.broken == nullptr);
      CHECK(w.ready.empty());
      choices += w.choices;
      inherited += w.inherited;
    }
  }
  CHECK(choices > 0);
  CHECK(inherited > 0);
}
