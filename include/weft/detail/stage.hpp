// What pipelines are made of: a stage, the threads of which fill its outlets, and an inlet, which reads one outlet.
//
// A chain of stages is a chain of ownership against the stream: an inlet owns the stage it reads from, which owns its own
// inlets. Values, ends and errors go down the stream, "nobody reads any more" goes up. See weft/pipeline.hpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "weft/channel.hpp"
#include "weft/nursery.hpp"

namespace weft::detail {

/// Threads that fill outlets. Whatever fails in one of them ends the stage, those before it and those behind it.
///
/// Invariant: a stage that is stopped calls nobody: it has left its inlets, and no error of theirs reaches it any more. So
/// it may be taken apart while they still run.
class stage {
 public:
  explicit stage(std::size_t outlets) : outlets_(outlets), open_(outlets) { threads_.emplace(); }
  virtual ~stage() = default;
  stage(const stage&) = delete;
  stage& operator=(const stage&) = delete;

  /// The first failure of a stage that is not stopped: stops it and is what its readers get; stages among them fail, too.
  void fail(std::exception_ptr why) noexcept;
  /// The reader of this outlet reads no more. When the last one has left, the stage is stopped.
  void leave(std::size_t outlet) noexcept;
  /// Who is told of a failure at once, because its threads may wait elsewhere than at the outlet.
  void read_by(std::size_t outlet, stage& reader) noexcept { outlets_[outlet].reader = &reader; }
  /// Throws what the stage failed with, if it did.
  void check() const {
    if (failed_.load(std::memory_order_acquire)) [[unlikely]]
      std::rethrow_exception(error_);  // pairs with fail()
  }
  /// Stops the stage and waits until its threads have ended, whatever is asked of the calling thread meanwhile.
  void end() noexcept;

 protected:
  /// Starts `count` threads that each call `work()`. When the last one has returned, the outlets are closed. Once.
  template <class F> void start(std::size_t count, const attributes& how, const F& work) {
    running_ = count;
    for (std::size_t i = 0; i < count; ++i) {
      threads_->spawn(how, [this, i, work] { run([&] { work(i); }); });
    }
  }

 private:
  struct exit {
    stage* reader = nullptr;
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
  void stop() noexcept;
  void thread_ended() noexcept;
  virtual void close_outlet(std::size_t outlet) noexcept = 0;
  virtual void leave_inlets() noexcept = 0;

  std::vector<exit> outlets_;
  std::size_t open_;         // outlets that nobody has left
  std::size_t running_ = 0;  // threads that have not ended
  bool stopped_ = false;
  std::atomic<bool> failed_{false};
  std::exception_ptr error_;
  std::optional<nursery> threads_;
};

/// Makes a stage that ends before it is destroyed: its threads use what the derived class holds.
template <class S, class... Args> std::shared_ptr<S> make_stage(Args&&... args) {
  return std::shared_ptr<S>(new S(std::forward<Args>(args)...), [](S* made) {
    made->end();
    delete made;
  });
}

[[noreturn]] void throw_no_pipeline();

/// Reads one outlet, and owns the stage together with the readers of the others.
template <class T> class inlet {
 public:
  inlet() = default;
  inlet(std::shared_ptr<stage> from, channel<T>& out, std::size_t outlet = 0) noexcept
      : from_(std::move(from)), out_(&out), outlet_(outlet) {}
  inlet(inlet&&) noexcept = default;
  inlet& operator=(inlet&& other) noexcept {
    inlet before(std::move(other));
    std::swap(from_, before.from_);
    std::swap(out_, before.out_);
    std::swap(outlet_, before.outlet_);
    return *this;
  }
  ~inlet() {
    leave();
    if (from_.use_count() > 1 && on_weft_thread()) drop_rest();
  }

  [[nodiscard]] explicit operator bool() const noexcept { return from_ != nullptr; }
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

  void read_by(stage& reader) noexcept { from_->read_by(outlet_, reader); }
  /// Reads no more. Does not wait.
  void leave() noexcept {
    if (from_ != nullptr && on_weft_thread()) from_->leave(outlet_);
  }

 private:
  // Readers of other outlets keep the stage alive: what waits here would wait with it. Where moving throws, it does.
  void drop_rest() noexcept {
    try {
      while (out_->try_receive().has_value()) continue;
    } catch (...) {
    }
  }

  std::shared_ptr<stage> from_;
  channel<T>* out_ = nullptr;
  std::size_t outlet_ = 0;
};

}  // namespace weft::detail
