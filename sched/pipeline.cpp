#include "weft/pipeline.hpp"

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft::detail {

namespace {

template <class Operation> void as_thread(Operation operation) {
  if (current_thread() == nullptr) [[unlikely]]
    return with_processor("pipeline", operation);
  operation();
}

}  // namespace

// None of these gives the processor away: closing a channel and asking a thread to end only make others ready. So a failure has
// reached every stage before one of them can find its neighbour's channel closed, and take that for the end of the stream.

void stage::fail(std::exception_ptr why) noexcept {
  as_thread([&] {
    if (stopped_) return;
    error_ = why;
    failed_.store(true, std::memory_order_release);  // pairs with check(), which may be called in a region
    stop();
    for (exit& each : outlets_) {
      if (each.reader != nullptr) each.reader->fail(why);
    }
  });
}

void stage::leave(std::size_t outlet) noexcept {
  as_thread([&] {
    outlets_[outlet].reader = nullptr;
    if (std::exchange(outlets_[outlet].left, true)) return;
    close_outlet(outlet);
    if (--open_ == 0) stop();
  });
}

void stage::stop() noexcept {
  if (std::exchange(stopped_, true)) return;
  threads_->request_cancel();
  for (std::size_t i = 0; i < outlets_.size(); ++i) close_outlet(i);
  leave_inlets();
}

void stage::thread_ended() noexcept {
  as_thread([this] {
    if (--running_ != 0) return;
    for (std::size_t i = 0; i < outlets_.size(); ++i) close_outlet(i);
  });
}

void stage::end() noexcept {
  if (on_weft_thread()) as_thread([this] { stop(); });
  threads_.reset();
}

void throw_no_pipeline() {
  throw_error(std::errc::invalid_argument, "weft: this pipeline holds nothing: it was moved into a stage, or was made empty");
}

void check_workers(const stage_options& how) {
  if (how.workers == 0) throw_error(std::errc::invalid_argument, "weft: a stage needs one worker at least");
}

void check_branches(std::size_t count) {
  if (count == 0) throw_error(std::errc::invalid_argument, "weft: a tee needs one branch at least: nobody would read it");
}

}  // namespace weft::detail
