// Looking at the kernel, sleeping, waking and delivering.
//
// The handshake of wake and wait. A waker sets `woken_`, then looks at `asleep_` and rings only if it is set. The waiter sets
// `asleep_`, then looks at `woken_` and sleeps only if it is clear. All four are sequentially consistent, so at least one of
// the two sees the other: either the waiter does not sleep, or the doorbell rings. The doorbell is an edge of the epoll set,
// never read. Whoever finds `woken_` set already leaves ringing to the one who set it. The end of a wait clears `woken_`:
// what a waker did before is visible to whoever returns from that wait.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

namespace {

constexpr std::chrono::microseconds look_interval{50};
constexpr int rounds_at_once = 16;  // threads run in between, however fast edges arrive

// epoll_pwait2 is newer (Linux 5.11) than some kernels with epoll; milliseconds, rounded up, serve there.
int epoll_sleep(int epoll, epoll_event* events, int room, const timespec* timeout) noexcept {
  const int n = ::epoll_pwait2(epoll, events, room, timeout, nullptr);
  if (n >= 0 || errno != ENOSYS) return n;
  int milliseconds = -1;
  if (timeout != nullptr) {
    const auto longest = static_cast<std::int64_t>(INT32_MAX / 2);
    milliseconds = static_cast<int>(std::min(timeout->tv_sec * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000, longest));
  }
  return ::epoll_wait(epoll, events, room, milliseconds);
}

timespec time_left(time_point deadline, time_point now) noexcept {
  const duration rest = deadline - std::min(deadline, now);
  return {static_cast<time_t>(rest / std::chrono::seconds(1)), static_cast<long>((rest % std::chrono::seconds(1)).count())};
}

}  // namespace

void reactor::poll() {
  flush();
  if (has_left()) [[unlikely]] close_left();
  if (pending_ != 0) {
    if (ring_->in_flight() != 0) reap();
    if (workers_->has_done()) take_worker_results();
    if (finished_count_ == 0 || now() - last_look_ >= look_interval) look();
    if (!retrying_.empty()) retry();
    flush();
  }
  deliver();
}

void reactor::wait(time_point deadline) {
  flush();
  if (has_left()) [[unlikely]] close_left();
  if (ring_->in_flight() != 0) reap();
  if (workers_->has_done()) take_worker_results();
  flush();
  if (finished_count_ != 0) return poll();
  asleep_.store(true, std::memory_order_seq_cst);
  const bool stay = woken_.load(std::memory_order_seq_cst);
  sleep(stay ? time_point::min() : std::min(deadline, next_retry_));
  asleep_.store(false, std::memory_order_seq_cst);
  woken_.exchange(false, std::memory_order_seq_cst);
  if (ring_->in_flight() != 0) reap();
  if (ring_news_) look();
  if (workers_->has_done()) take_worker_results();
  if (has_left()) [[unlikely]] close_left();
  if (!retrying_.empty()) retry();
  flush();
  deliver();
}

// ---- a sleep during which the processor may be taken (sched/region.cpp) ----

bool reactor::prepare_doze(time_point& deadline) {
  flush();
  if (finished_count_ != 0 || bound_here() || workers_->has_done() || has_left()) return false;
  deadline = std::min(deadline, next_retry_);
  asleep_.store(true, std::memory_order_seq_cst);  // stays so: the next holder's moved_to() or wait() clears it
  return !woken_.load(std::memory_order_seq_cst);
}

// The set is looked at, not emptied: whoever holds the processor afterwards takes what is there.
void reactor::doze(time_point deadline, int place) noexcept {
  timespec left{};
  if (deadline != never) left = time_left(deadline, now());
  std::array<pollfd, 2> asked{{{table_.epoll(), POLLIN, 0}, {place, POLLIN, 0}}};
  static_cast<void>(::ppoll(asked.data(), asked.size(), deadline == never ? nullptr : &left, nullptr));
}

void reactor::wake() noexcept {
  if (woken_.exchange(true, std::memory_order_seq_cst)) return;
  if (!asleep_.load(std::memory_order_seq_cst)) return;
  const int before = errno;  // signal handlers call this
  const std::uint64_t one = 1;
  static_cast<void>(!::write(doorbell_, &one, sizeof(one)));
  errno = before;
}

// While something is in flight the ring is the one place that tells of everything; otherwise the epoll set is.
void reactor::sleep(time_point deadline) {
  timespec left{};
  if (deadline != never) left = time_left(deadline, now());
  const bool no_sleep = deadline != never && left.tv_sec == 0 && left.tv_nsec == 0;
  if (no_sleep) return look();  // io_uring_enter with a time-out of zero sleeps 29 µs
  if (ring_->in_flight() == 0) {
    const int n =
        epoll_sleep(table_.epoll(), news_->data(), static_cast<int>(news_->size()), deadline == never ? nullptr : &left);
    for (int i = 0; i < n; ++i) news((*news_)[static_cast<std::size_t>(i)]);
    return;
  }
  while (ring_->full()) submit();
  ring_->watch(table_.epoll());
  __kernel_timespec timeout{left.tv_sec, left.tv_nsec};
  ring_->sleep(deadline == never ? nullptr : &timeout);
}

// ---- readiness ----

void reactor::look() {
  ring_news_ = false;
  last_look_ = now();
  const auto room = static_cast<int>(news_->size());
  for (int n = room, round = 0; n == room && round < rounds_at_once; ++round) {
    n = ::epoll_wait(table_.epoll(), news_->data(), room, 0);
    for (int i = 0; i < n; ++i) news((*news_)[static_cast<std::size_t>(i)]);
  }
}

void reactor::news(const epoll_event& event) {
  descriptor_entry* const entry = table_.find(event.data.fd);
  if (entry == nullptr) return;  // the doorbell
  entry->edge(event.events);
  advance(*entry, direction::read);
  advance(*entry, direction::write);
  if (!entry->watching.empty()) [[unlikely]] recheck_watchers(*entry);
}

// Edges say that something changed, poll(2) says what is.
void reactor::recheck_watchers(descriptor_entry& entry) {
  for (operation* op = entry.watching.front(); op != nullptr;) {
    operation* const next = entry.watching.after(*op);
    pollfd asked{op->fd, static_cast<short>(op->flags), 0};
    if (::poll(&asked, 1, 0) > 0) {
      entry.watching.remove(*op);
      finish(*op, (asked.revents & POLLNVAL) != 0 ? -EBADF : asked.revents);
    }
    op = next;
  }
}

void reactor::take_worker_results() {
  operation_list done = workers_->take_done();
  while (operation* const op = done.pop_front()) {
    const int fd = op->fd;
    left_worker(*op);
    file_done(*op, op->result);
    if (!closing_.empty()) [[unlikely]]
      resume_close(fd);
  }
}

// ---- delivery ----

// The memory of an operation is its thread's again once `handle` was called: nothing of it is touched after that.
void reactor::deliver() {
  while (finished_count_ != 0) {
    const std::size_t n = std::min(finished_count_, events_->size());
    pending_ -= n;
    handler_->handle({events_->data(), n});
    finished_count_ -= n;
    // The others are touched when there is room for their events, and only then: each lies on a stack of its own.
    const std::size_t room_for = std::min(finished_count_, events_->size());
    for (std::size_t i = 0; i < room_for; ++i) (*events_)[i] = upcall_of(*finished_.pop_front());
  }
}

}  // namespace weft::upcall::engine
