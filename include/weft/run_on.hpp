// More cores: several schedulers in one program, each many-to-one on a kernel thread of its own, that talk by mailboxes and
// posters.
//
//   weft::run_on(4, [](const weft::processors& all) {
//     if (all.index() == 0) all[3].post([] { std::cout << "hello from the first scheduler\n"; });
//   });
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include "weft/runtime.hpp"

namespace weft {
namespace detail {
struct ways_in;
}

/// The schedulers of one `run_on`, as one of them sees them. Copies are equal, may be kept, and may outlive the schedulers (posts
/// are then refused). Any kernel thread may use one.
class processors {
 public:
  /// How many schedulers there are.
  [[nodiscard]] std::size_t count() const noexcept;
  /// Which of them this one is, from 0: the calling kernel thread of `run_on` is the first.
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  /// The way into one of them, itself included. While it exists, that one is not reported as a deadlock. Cost: one allocation.
  /// @throws std::system_error(invalid_argument) when there is no such scheduler; std::bad_alloc.
  [[nodiscard]] poster operator[](std::size_t index) const;

 private:
  friend struct detail::ways_in;
  processors(std::shared_ptr<const detail::ways_in> ways, std::size_t index) noexcept : ways_(std::move(ways)), index_(index) {}
  std::shared_ptr<const detail::ways_in> ways_;
  std::size_t index_ = 0;
};

namespace detail {
/// Runs `fn` on `count` schedulers.
void run_on(std::size_t count, const options& how, const std::function<void(const processors&)>& fn);
}  // namespace detail

/// Runs `fn` on `count` schedulers at once, each on a kernel thread of its own, the first on the caller's; returns when all of
/// them have ended. Each calls `fn(all)` as its first thread ("main"), where `all` says which of them it is and is the way into
/// each of the others; all are there before any `fn` begins. A thread never changes its scheduler, and mutexes, channels and
/// other things of weft belong to one: schedulers talk by posters,
/// mailboxes and futures.
///
/// It is one `fn`, called on all kernel threads **in parallel**: what it captures is shared as among kernel threads. As in
/// `weft::run`, threads that are left when an `fn` returns are asked to end and waited for; their scheduler then refuses posts.
///
/// An exception that leaves one `fn`, or a deadlock, asks the main threads of all others to end, as `thread::request_cancel`
/// does: their next wait throws `weft::cancelled`. The first exception is rethrown when all have ended. A scheduler in which
/// everything waits is a deadlock only once all others have ended, because any of them might post; schedulers that all wait for
/// one another wait for ever.
///
/// @param how of each of them; reports call them `how.name` and their number. `how.source` serves one scheduler only.
/// @throws what the first `fn` throws that throws; weft::deadlock; std::system_error as `weft::run`, also when a scheduler or a
///         kernel thread for one is not to be had (no `fn` is called then); invalid_argument when `count` is 0 or more than 4096;
///         operation_not_permitted when this kernel thread already runs a scheduler.
/// Callable from any kernel thread that runs no scheduler. Cost: for each scheduler a kernel thread and a handful of
/// descriptors.
/// Source: T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992, Table III ("add this many processors").
template <class F>
requires std::invocable<F&, const processors&>
void run_on(std::size_t count, const options& how, F&& fn) {
  static_assert(std::is_void_v<std::invoke_result_t<F&, const processors&>>,
                "weft::run_on: several calls have no one result; return nothing, and write to what you capture");
  detail::run_on(count, how, std::ref(fn));
}

/// The same with default options.
template <class F>
requires std::invocable<F&, const processors&>
void run_on(std::size_t count, F&& fn) { run_on(count, options{}, std::forward<F>(fn)); }

}  // namespace weft
