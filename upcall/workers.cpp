#include "upcall/workers.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "upcall/direct.hpp"

namespace weft::upcall::engine {

namespace {

constexpr std::chrono::seconds idle_life{2};

}  // namespace

workers::~workers() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    static_cast<void>(queue_.take());
    queued_ = 0;
  }
  work_.notify_all();
  for (slot& s : slots_) s.thread.join();
}

void workers::submit(operation& op) noexcept {
  std::unique_lock lock(mutex_);
  if (idle_ <= queued_ && running_ < most && !grow() && running_ == 0) {
    op.begun = true;
    lock.unlock();
    op.result = call_and_wait(op);
    lock.lock();
    done_.push_back(op);
    has_done_.store(true, std::memory_order_release);
    return;
  }
  op.begun = false;
  queue_.push_back(op);
  ++queued_;
  lock.unlock();
  work_.notify_one();
}

bool workers::drop(operation& op) noexcept {
  const std::lock_guard lock(mutex_);
  if (op.begun) return false;
  queue_.remove(op);
  --queued_;
  return true;
}

operation_list workers::drop_all(int fd) noexcept {
  operation_list dropped;
  const std::lock_guard lock(mutex_);
  for (operation* op = queue_.front(); op != nullptr;) {
    operation* const next = queue_.after(*op);
    if (op->fd == fd && op->code != opcode::open) {
      queue_.remove(*op);
      --queued_;
      dropped.push_back(*op);
    }
    op = next;
  }
  return dropped;
}

operation_list workers::take_done() noexcept {
  const std::lock_guard lock(mutex_);
  has_done_.store(false, std::memory_order_relaxed);
  return done_.take();
}

bool workers::grow() noexcept {
  slot& free = *std::find_if(slots_.begin(), slots_.end(), [](const slot& s) { return s.state != slot_state::running; });
  free.thread.join();  // it has ended: it took the lock for the last time when it said so
  try {
    const std::string name = "weft-worker-" + std::to_string(&free - slots_.data() + 1);
    free.thread = detail::kernel_thread("weft::run", name, detail::signals::blocked, [this, &free] { run(free); });
  } catch (const std::exception&) {
    free.state = slot_state::vacant;
    return false;
  }
  free.state = slot_state::running;
  ++running_;
  return true;
}

// Waits until there is work. @returns false when this worker is to end.
bool workers::next_or_end(std::unique_lock<std::mutex>& lock, slot& self) noexcept {
  ++idle_;
  work_.wait_for(lock, idle_life, [this] { return stopping_ || !queue_.empty(); });
  --idle_;
  if (!queue_.empty()) return true;
  self.state = slot_state::ended;
  --running_;
  return false;
}

void workers::run(slot& self) noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty() && !next_or_end(lock, self)) return;
    operation& op = *queue_.pop_front();
    op.begun = true;
    --queued_;
    lock.unlock();
    const std::int32_t result = call_and_wait(op);
    lock.lock();
    op.result = result;
    const bool first = done_.empty();
    done_.push_back(op);
    // release: who sees it finds the operation in done_ (the lock would do; the flag is read without it).
    has_done_.store(true, std::memory_order_release);
    if (!first) continue;
    lock.unlock();
    source_->wake();
    lock.lock();
  }
}

}  // namespace weft::upcall::engine
