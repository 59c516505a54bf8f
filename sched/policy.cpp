// The policies there are. `fifo` and `child_first` are built into the scheduler, which recognises them.
#include "weft/policy.hpp"

#include <array>
#include <bit>
#include <boost/intrusive/set.hpp>
#include <cstdint>

#include "sched/built_in_order.hpp"
#include "sched/policy_node.hpp"

namespace weft {
namespace {

// One list a level, and a word that tells which are not empty.
class by_priority final : public policy {
 public:
  void put(ready_thread& t, came how) noexcept override {
    const unsigned at = level(t);
    if (how == came::displaced) {
      levels_[at].push_front(t);
    } else {
      levels_[at].push_back(t);
    }
    filled_ |= std::uint64_t{1} << at;
  }
  ready_thread* take() noexcept override {
    if (filled_ == 0) return nullptr;
    ready_thread& t = *levels_[static_cast<unsigned>(63 - std::countl_zero(filled_))].front();
    remove(t);
    return &t;
  }
  void remove(ready_thread& t) noexcept override {
    const unsigned at = level(t);
    levels_[at].remove(t);
    if (levels_[at].empty()) filled_ &= ~(std::uint64_t{1} << at);
  }
  [[nodiscard]] bool more_urgent(const ready_thread& a, const ready_thread& b) const noexcept override {
    return a.priority() > b.priority();
  }

 private:
  static_assert(most_priority - least_priority == 63);
  static unsigned level(const ready_thread& t) noexcept { return static_cast<unsigned>(t.priority() - least_priority); }

  std::array<ready_list, 64> levels_;
  std::uint64_t filled_ = 0;
};

// A balanced tree: also what is in the middle of it is taken out in logarithmic time, and nothing is allocated.
class by_deadline final : public policy {
 public:
  by_deadline() = default;
  ~by_deadline() override { tree_.clear(); }

  void put(ready_thread& t, came how) noexcept override {
    sched::policy_node& n = sched::policy_node::of(t);
    n.turn = how == came::displaced ? --first_turn_ : ++last_turn_;
    tree_.insert(n);
  }
  ready_thread* take() noexcept override {
    if (tree_.empty()) return nullptr;
    sched::policy_node& n = *tree_.begin();
    tree_.erase(tree_.begin());
    return &n;
  }
  void remove(ready_thread& t) noexcept override { tree_.erase(tree_.iterator_to(sched::policy_node::of(t))); }
  [[nodiscard]] bool more_urgent(const ready_thread& a, const ready_thread& b) const noexcept override {
    return a.deadline() < b.deadline();
  }

 private:
  struct earlier {
    bool operator()(const sched::policy_node& a, const sched::policy_node& b) const noexcept {
      return a.deadline() != b.deadline() ? a.deadline() < b.deadline() : a.turn < b.turn;
    }
  };
  using node = sched::policy_node;
  using hook = boost::intrusive::member_hook<node, decltype(node::in_tree), &node::in_tree>;

  boost::intrusive::multiset<sched::policy_node, hook, boost::intrusive::compare<earlier>> tree_;
  std::int64_t first_turn_ = 0;
  std::int64_t last_turn_ = 0;
};

class newest_first final : public policy {
 public:
  void put(ready_thread& t, came how) noexcept override {
    if (how == came::yielded) {
      list_.push_back(t);
    } else {
      list_.push_front(t);
    }
  }
  ready_thread* take() noexcept override { return list_.pop_front(); }
  void remove(ready_thread& t) noexcept override { list_.remove(t); }

 private:
  ready_list list_;
};

}  // namespace

std::unique_ptr<policy> policies::fifo() { return std::make_unique<sched::built_in_order>(false); }
std::unique_ptr<policy> policies::child_first() { return std::make_unique<sched::built_in_order>(true); }
std::unique_ptr<policy> policies::priority() { return std::make_unique<by_priority>(); }
std::unique_ptr<policy> policies::deadline() { return std::make_unique<by_deadline>(); }
std::unique_ptr<policy> policies::lifo() { return std::make_unique<newest_first>(); }

}  // namespace weft
