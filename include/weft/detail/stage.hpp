// What pipelines are made of: a stage, the threads of which fill its outlets, and an inlet, which reads one outlet.
//
// A chain of stages is a chain of ownership against the stream: an inlet owns the stage it reads from, which owns its own
// inlets. Values, ends and errors go down the stream, "nobody reads any more" goes up. See weft/pipeline.hpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "weft/channel.hpp"
#include "weft/nursery.hpp"

namespace weft::detail {

class inlet_base;

/// Threads that fill outlets. Whatever fails in one of them ends the stage, those before it and those behind it.
///
/// Invariant: a stage that is stopped is told of nothing: it has left its inlets, and no error of theirs reaches it any more.
/// So it may be taken apart while they still run. Chains may be longer than stacks are deep: what goes along one is a loop.
class stage {
 public:
  explicit stage(std::size_t outlets) : outlets_(outlets), open_(outlets) { threads_.emplace(); }
  virtual ~stage() = default;
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  /// The first failure of a stage that is not stopped: stops it and is what its readers get; stages among them fail, too.
  void fail(std::exception_ptr why) noexcept;
  /// Throws what the stage failed with, if it did.
  void check() const {
    if (failed_.load(std::memory_order_acquire)) [[unlikely]]
      std::rethrow_exception(error_);  // pairs with set_failed()
  }
  /// Ends the stage, then whatever only it has owned: stops it, waits until its threads have ended, whatever is asked of the
  /// calling thread meanwhile, and destroys it.
  static void end(stage* made) noexcept;

 protected:
  /// Starts `count` threads that each call `work(i)`. When the last one has returned, the outlets are closed. Once.
  template <class F> void start(std::size_t count, const attributes& how, const F& work) {
    running_ = count;
    for (std::size_t i = 0; i < count; ++i) {
      threads_->spawn(how, [this, i, work] { run([&] { work(i); }); });
    }
  }

 private:
  friend class inlet_base;
  // Stages that are to be looked at, each once.
  class list {
   public:
    void push(stage& s) noexcept {
      s.next_ = first_;
      first_ = &s;
    }
    stage* pop() noexcept {
      stage* const s = first_;
      if (s != nullptr) first_ = s->next_;
      return s;
    }

   private:
    stage* first_ = nullptr;
  };
  struct exit {
    stage* reader = nullptr;  // who is told of a failure at once: its threads may wait elsewhere than at the outlet
    bool left = false;
  };

  template <class F> void run(F&& work) {
    try {
      work();
    } catch (...) {  // of a stage that is stopped: its threads were asked to end
      fail(std::current_exception());
    }
    thread_ended();
  }
  void set_failed(const std::exception_ptr& why) noexcept;
  void stop_into(list& stopped) noexcept;
  void leave(std::size_t outlet, list& stopped) noexcept;
  static void spread(list& stopped) noexcept;
  void thread_ended() noexcept;

  virtual void close_outlet(std::size_t outlet) noexcept = 0;
  virtual void each_inlet(const std::function<void(inlet_base&)>& visit) noexcept = 0;

  std::vector<exit> outlets_;
  std::size_t open_;         // outlets that nobody has left
  std::size_t running_ = 0;  // threads that have not ended
  bool stopped_ = false;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  std::optional<nursery> threads_;
  stage* next_ = nullptr;   // in a list
  list* doomed_ = nullptr;  // where to go, instead of being ended, when the last owner lets go
};

/// Makes a stage that ends before it is destroyed: its threads use what the derived class holds.
template <class S, class... Args> std::shared_ptr<S> make_stage(Args&&... args) {
  return std::shared_ptr<S>(new S(std::forward<Args>(args)...), [](S* made) { stage::end(made); });
}

[[noreturn]] void throw_no_pipeline();

/// Reads one outlet, and owns the stage together with the readers of the others.
class inlet_base {
 public:
  inlet_base() = default;
  inlet_base(std::shared_ptr<stage> from, std::size_t outlet) noexcept : from_(std::move(from)), outlet_(outlet) {}
  inlet_base(inlet_base&&) noexcept = default;
  inlet_base& operator=(inlet_base&&) = delete;

  void read_by(stage& reader) noexcept { from_->outlets_[outlet_].reader = &reader; }
  /// Reads no more. Does not wait.
  void leave() noexcept;

 protected:
  ~inlet_base() = default;
  void swap(inlet_base& other) noexcept {
    from_.swap(other.from_);
    std::swap(outlet_, other.outlet_);
  }
  // Before it is destroyed. May wait.
  void let_go() noexcept;

  std::shared_ptr<stage> from_;
  std::size_t outlet_ = 0;

 private:
  friend class stage;
  virtual void drop_rest() noexcept = 0;
};

template <class T> class inlet final : public inlet_base {
 public:
  inlet() = default;
  inlet(std::shared_ptr<stage> from, channel<T>& out, std::size_t outlet = 0) noexcept
      : inlet_base(std::move(from), outlet), out_(&out) {}
  inlet(inlet&&) noexcept = default;
  inlet& operator=(inlet&& other) noexcept {
    inlet before(std::move(other));
    swap(before);
    std::swap(out_, before.out_);
    return *this;
  }
  ~inlet() { let_go(); }

  /// @throws std::system_error(invalid_argument) when it reads nothing
  [[nodiscard]] channel<T>& out() const {
    if (from_ == nullptr) [[unlikely]]
      throw_no_pipeline();
    return *out_;
  }
  /// The next value by `take(channel)`, or what the stage failed with: that comes before values that are still there.
  template <class Take> std::optional<T> receive_by(Take take) {
    channel<T>& from = out();
    from_->check();
    std::optional<T> got = take(from);
    if (!got.has_value()) from_->check();
    return got;
  }
  std::optional<T> receive() {
    return receive_by([](channel<T>& from) { return from.receive(); });
  }

 private:
  // Readers of other outlets keep the stage alive: what waits here would wait with it. Where moving throws, it does.
  void drop_rest() noexcept override {
    try {
      while (out_->try_receive().has_value()) continue;
    } catch (...) {
    }
  }

  channel<T>* out_ = nullptr;
};

}  // namespace weft::detail
