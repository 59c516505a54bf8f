#include "weft/nursery.hpp"

#include "sched/scheduler.hpp"
#include "weft/detail/region.hpp"

namespace weft {

namespace {

template <class Operation> decltype(auto) as_thread(const char* call, Operation operation) {
  if (detail::current_thread() == nullptr) [[unlikely]] return detail::with_processor(call, operation);
  return operation();
}

void wake_all(detail::wait_queue& queue) noexcept {
  while (detail::grant_first(queue)) {
  }
}

// Links a waiter and waits. @returns false when the wait was ended by a cancellation.
bool wait_in(detail::wait_queue& queue, const void* object, detail::cancellation mode) {
  detail::waiter self;
  self.what = "nursery";
  self.object = object;
  return detail::park(queue, self, never, mode) != detail::wake_reason::cancelled;
}

// As jthread::request_stop.
void request(std::stop_source stop) noexcept {
  const no_preemption whole;
  static_cast<void>(stop.request_stop());
}

}  // namespace

nursery::~nursery() {
  if (alive_ == 0 || !detail::on_weft_thread()) return;
  request_cancel();
  wait(detail::cancellation::shielded);
}

nursery::place nursery::add() {
  return as_thread("nursery::spawn", [this] {
    if (std::exchange(joined_, false)) errors_.clear();
    place at = first_free_;
    if (at == nowhere) {
      at = static_cast<place>(children_.size());
      children_.emplace_back();
    } else {
      first_free_ = children_[at].next_free;
    }
    ++alive_;
    return at;
  });
}

void nursery::adopt(place at, thread made) noexcept {
  as_thread("nursery::spawn", [&] {
    child& here = children_[at];
    here.handle = std::move(made);
    if (here.over) return ended(at);
    if (asked_) here.handle.request_cancel();
  });
}

void nursery::remove(place at) noexcept {
  as_thread("nursery::spawn", [&] {
    children_[at].over = false;
    children_[at].next_free = std::exchange(first_free_, at);
    if (--alive_ == 0) wake_all(waiters_);
  });
}

// On the child's own stack, at its very end: nobody will join it.
void nursery::ended(place at) noexcept {
  as_thread("nursery", [&] {
    child& here = children_[at];
    here.over = true;
    if (!here.handle.joinable()) return;  // a child that ran first: adopt() comes
    here.handle.detach();
    remove(at);
  });
}

void nursery::fail(std::exception_ptr why) noexcept {
  as_thread("nursery", [&] {
    try {
      errors_.push_back(std::move(why));
    } catch (const std::bad_alloc&) {
      if (errors_.empty()) std::terminate();  // the first one must not be lost
    }
    request_cancel();
    if (body_ != nullptr) body_->request_cancel();
  });
}

void nursery::request_cancel() noexcept {
  const std::stop_source stop = stop_;
  as_thread("nursery::request_cancel", [this] {
    asked_ = true;
    for (child& each : children_) each.handle.request_cancel();
  });
  request(stop);
}

std::stop_token nursery::stop_token() {
  if (!stop_.stop_possible()) stop_ = std::stop_source();
  if (asked_) request(stop_);
  return stop_.get_token();
}

void nursery::wait(detail::cancellation mode) {
  as_thread("nursery::join", [&] {
    while (alive_ != 0) {
      if (wait_in(waiters_, this, mode)) continue;
      request_cancel();
      mode = detail::cancellation::shielded;
    }
  });
}

void nursery::join() {
  wait(detail::cancellation::allowed);
  asked_ = false;
  if (stop_.stop_requested()) stop_ = std::stop_source(std::nostopstate);
  joined_ = true;
  if (!errors_.empty()) std::rethrow_exception(errors_.front());
  detail::end_if_cancelled();
}

// What the body throws comes first if it was first.
void nursery::join_body(cancel_scope& body, const std::function<void()>& call) {
  body_ = &body;
  const auto not_in_it = [&] { body_ = nullptr; };
  run([&] {
    try {
      static_cast<void>(body.run([&] { call(); }));
    } catch (...) {
      not_in_it();
      request_cancel();
      throw;
    }
    not_in_it();
  });
  join();
}

namespace detail {

void child_outcome_base::await() {
  as_thread("nursery::result::get", [this] {
    while (!ended_) {
      if (!wait_in(waiters_, this, cancellation::allowed)) throw_cancelled();
    }
  });
  if (why_ != nullptr) std::rethrow_exception(why_);
}

void child_outcome_base::end(std::exception_ptr why) noexcept {
  as_thread("nursery", [&] {
    why_ = std::move(why);
    ended_ = true;
    wake_all(waiters_);
  });
}

}  // namespace detail
}  // namespace weft
