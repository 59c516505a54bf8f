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

// Nothing here gives the processor away, but for end() and let_go(): closing a channel and asking a thread to end only make
// others ready. So a failure has reached every stage before one of them can find its neighbour's channel closed, and take that
// for the end of the stream.

void stage::fail(std::exception_ptr why) noexcept {
  as_thread([&] {
    if (stopped_) return;
    list stopped;
    set_failed(why);
    stop_into(stopped);
    spread(stopped);
  });
}

void stage::set_failed(const std::exception_ptr& why) noexcept {
  error_ = why;
  failed_.store(true, std::memory_order_release);  // pairs with check(), which may be called in a region
}

void stage::stop_into(list& stopped) noexcept {
  stopped_ = true;
  stopped.push(*this);
}

// Stops what was put into the list, and whatever must stop because of that.
void stage::spread(list& stopped) noexcept {
  while (stage* const s = stopped.pop()) {
    s->threads_->request_cancel();
    for (std::size_t i = 0; i < s->outlets_.size(); ++i) {
      s->close_outlet(i);
      stage* const reader = s->outlets_[i].reader;
      if (reader == nullptr || reader->stopped_ || s->error_ == nullptr) continue;
      reader->set_failed(s->error_);
      reader->stop_into(stopped);
    }
    s->each_inlet([&](inlet_base& in) { in.from_->leave(in.outlet_, stopped); });
  }
}

void stage::leave(std::size_t outlet, list& stopped) noexcept {
  exit& here = outlets_[outlet];
  here.reader = nullptr;
  if (std::exchange(here.left, true)) return;
  close_outlet(outlet);
  if (--open_ == 0 && !stopped_) stop_into(stopped);
}

void stage::thread_ended() noexcept {
  as_thread([this] {
    if (--running_ != 0) return;
    for (std::size_t i = 0; i < outlets_.size(); ++i) close_outlet(i);
  });
}

void stage::end(stage* made) noexcept {
  list* const waiting = made->doomed_;
  if (waiting != nullptr) return waiting->push(*made);
  list doomed;
  doomed.push(*made);
  while (stage* const s = doomed.pop()) {
    if (on_weft_thread()) {
      as_thread([s] {
        list stopped;
        if (!s->stopped_) s->stop_into(stopped);
        spread(stopped);
      });
    }
    s->threads_.reset();
    s->each_inlet([&](inlet_base& in) {
      stage& from = *in.from_;
      if (in.from_.use_count() > 1) in.drop_rest();
      from.doomed_ = &doomed;
      in.from_.reset();
      from.doomed_ = nullptr;
    });
    delete s;
  }
}

void inlet_base::leave() noexcept {
  if (from_ == nullptr || !on_weft_thread()) return;
  as_thread([this] {
    stage::list stopped;
    from_->leave(outlet_, stopped);
    stage::spread(stopped);
  });
}

void inlet_base::let_go() noexcept {
  leave();
  if (from_.use_count() > 1 && on_weft_thread()) drop_rest();
  from_.reset();
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
