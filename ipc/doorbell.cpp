#include "weft/ipc/detail/doorbell.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "weft/blocking.hpp"
#include "weft/cancel.hpp"

namespace weft::ipc::detail {
namespace {

constexpr std::chrono::microseconds most_patience{50};
constexpr std::chrono::microseconds least_patience{2};

// On one core the peer cannot run while we look.
bool peer_may_run_beside_us() noexcept {
  cpu_set_t may_run_on;
  return ::sched_getaffinity(0, sizeof may_run_on, &may_run_on) == 0 && CPU_COUNT(&may_run_on) > 1;
}

}  // namespace

io::descriptor make_bell() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "weft: no eventfd is to be had for a doorbell");
  return io::descriptor(fd);
}

io::descriptor adopt_bell(io::descriptor passed) {
  const std::string name = "/proc/self/fd/" + std::to_string(passed.get());
  char target[64] = {};
  const ssize_t length = ::readlink(name.c_str(), target, sizeof target - 1);
  if (length > 0 && std::string_view(target) == "anon_inode:[eventfd]") return passed;
  throw std::system_error(std::make_error_code(std::errc::invalid_argument),
                          "weft: a doorbell from a peer is refused: it is no eventfd (or /proc is not there to tell)");
}

doorbell::doorbell(bell_rope rope, std::function<bool()> look)
    : rope_(std::move(rope)),
      look_(std::move(look)),
      patience_(peer_may_run_beside_us() ? duration(most_patience) : duration::zero()),
      listener_({.name = "doorbell listener"}, [this] { listen(); }) {
  try {
    ringer_ = jthread({.name = "doorbell ringer"}, [this] { ring_when_called(); });
  } catch (...) {
    listener_.request_cancel();
    throw;
  }
}

doorbell::~doorbell() {
  const shield whole;
  listener_.request_cancel();
  for (jthread& t : watchers_) t.request_cancel();
  ending_ = true;
  calls_ringer_.release();  // it rings for the last words, if there are any
  while (!ringer_.try_join_for(std::chrono::milliseconds(1))) {
    if (in_ring_) take_rings(rope_.their_bell);  // the peer filled it: make room
  }
}

void doorbell::call_ringer() {
  ringing_ = true;
  calls_ringer_.release();
}

void doorbell::ring_when_called() {
  const shield whole;  // no cancellation comes between the word and the bell
  do {
    calls_ringer_.acquire();
    if (std::exchange(ringing_, false)) ring_now();
  } while (!ending_);
}

// A counter that is full is a bell that rings. The peer can make the write wait, though, by filling the counter and clearing
// O_NONBLOCK, which is not ours alone: then it holds up this thread, no other one, until end_ring() makes room.
void doorbell::ring_now() {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the listener's store of `asleep`
  if (rope_.theirs->asleep.exchange(0, std::memory_order_acq_rel) == 0) return;
  const auto ring = [fd = rope_.their_bell.get()] {
    const std::uint64_t one = 1;
    static_cast<void>(::write(fd, &one, sizeof one));
  };
  if (rope_.guarded) {
    in_ring_ = true;
    blocking(ring);
    in_ring_ = false;
  } else {
    ring();
  }
}

// Takes what the bell counted; never waits, whatever the peer does to the descriptor.
bool doorbell::take_rings(const io::descriptor& bell) noexcept {
  std::uint64_t rings = 0;
  const iovec into{&rings, sizeof rings};
  return ::preadv2(bell.get(), &into, 1, -1, RWF_NOWAIT) == sizeof rings;
}

void doorbell::call_listener() {
  if (!listener_idle_) return;
  listener_idle_ = false;
  calls_listener_.release();
}

// Sleeps for good while no local thread waits: then the peer need not ring.
void doorbell::listen() {
  for (;;) {
    if (waiting_ == 0) {
      listener_idle_ = true;
      calls_listener_.acquire();
      continue;
    }
    if (look_() || look_a_while()) {
      this_thread::yield();  // those who were woken run before it looks again
      continue;
    }
    rope_.mine->asleep.store(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the one in the peer's ring()
    if (!look_() && !take_rings(rope_.my_bell)) {
      static_cast<void>(io::poll(rope_.my_bell, POLLIN));
      take_rings(rope_.my_bell);
    }
    rope_.mine->asleep.store(0, std::memory_order_relaxed);
  }
}

// Other threads run meanwhile. What helped once is tried as long the next time, what did not half as long.
bool doorbell::look_a_while() {
  if (patience_ == duration::zero()) return false;
  const time_point end = weft::detail::now() + patience_;
  do {
    for (int i = 0; i < 16; ++i) {
      if (look_()) {
        patience_ = most_patience;
        return true;
      }
      weft::detail::relax_processor();
    }
    this_thread::yield();
    if (waiting_ == 0) return true;
  } while (weft::detail::now() < end);
  patience_ = std::max<duration>(patience_ / 2, least_patience);
  return false;
}

void doorbell::watch(io::descriptor what, std::function<void()> gone) {
  watchers_.emplace_back(attributes{.name = "peer watch"}, [what = std::move(what), gone = std::move(gone)] {
    std::error_code ignored;
    static_cast<void>(io::poll(what, POLLIN | POLLRDHUP, ignored));
    gone();
  });
}

}  // namespace weft::ipc::detail
