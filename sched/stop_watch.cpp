// A stop is requested by whoever likes, in the middle of anything. A thread that holds our processor tells who listens; everybody
// else, a thread of our own in a region too, leaves a post in the inbox, which was made in advance, and waits for nothing: our
// kernel thread may itself be waiting in ~stop_callback, with the processor, until that caller is through.
#include "weft/detail/stop_watch.hpp"

#include <memory>
#include <utility>

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"
#include "weft/thread.hpp"

namespace weft::detail {

// What the watch, the stop's caller and the post share. `listener_` and `stopped_` are for the holder of the processor; what
// `request` uses stays as it is while the stop_callback exists.
class stop_relay {
 public:
  explicit stop_relay(sched::scheduler& home) : home_(home), mail_(home.mail()) { mail_->add_poster(); }
  ~stop_relay() = default;
  stop_relay(const stop_relay&) = delete;
  stop_relay& operator=(const stop_relay&) = delete;

  static std::shared_ptr<stop_relay> make(sched::scheduler& home, stop_listener* listener) {
    auto made = std::make_shared<stop_relay>(home);
    made->listener_ = listener;
    try {
      made->post_ = std::make_unique<sched::inbox::post>(sched::inbox::post{nullptr, [made] { made->arrived(); }});
    } catch (...) {
      made->end();
      throw;
    }
    return made;
  }

  /// The watch is over. Breaks the circle of this and a post that was not needed.
  void end() noexcept {
    mail_->remove_own_poster();
    post_.reset();
  }

  /// From any kernel thread. The watch's thread lives, and with it its scheduler, so that the post is taken.
  void request() noexcept {
    if (current_thread() != nullptr && &sched::this_scheduler() == &home_) return stop();
    static_cast<void>(mail_->push(std::move(post_)));
  }

  void tell(stop_listener* whom) noexcept { listener_ = whom; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  void arrived() {
    if (current_thread() == nullptr) return with_processor("a stop request", [this] { stop(); });
    stop();
  }
  void stop() noexcept {
    stopped_ = true;
    if (listener_ != nullptr) listener_->stop();
  }

  sched::scheduler& home_;
  const std::shared_ptr<sched::inbox> mail_;
  std::unique_ptr<sched::inbox::post> post_;
  stop_listener* listener_ = nullptr;
  bool stopped_ = false;
};

void stop_watch::request::operator()() const noexcept { to->request(); }

stop_watch::stop_watch(const char* call, const std::stop_token& token, stop_listener* first) {
  if (current_thread() == nullptr) {
    with_processor(call, [&] { relay_ = stop_relay::make(sched::this_scheduler(), first); });
  } else {
    relay_ = stop_relay::make(sched::this_scheduler(), first);
  }
  const no_preemption while_locked;  // the standard library's lock spins
  callback_.emplace(token, request{relay_.get()});
}

stop_watch::~stop_watch() {
  {
    const no_preemption while_locked;
    callback_.reset();
  }
  relay_->end();
}

void stop_watch::tell(stop_listener* whom) noexcept { relay_->tell(whom); }
bool stop_watch::stopped() const noexcept { return relay_->stopped(); }

}  // namespace weft::detail
