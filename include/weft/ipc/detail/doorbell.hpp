// How two processes that share memory tell each other that there is something new: by looking, and by a bell for who sleeps.
//
// A system call for each message would cost more than the message. So an end that waits says in shared memory that it is about
// to sleep, and only then the other one rings, an eventfd; once for all that its threads did in one round of the ready queue,
// because the thread that rings stands behind them in that queue. Where there is a second core, an end that waits looks a while
// before it sleeps (B. N. Bershad et al., "Lightweight Remote Procedure Call", ACM TOCS 8(1), 1990, avoid the way through the
// kernel in the same case).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "weft/detail/park.hpp"
#include "weft/io.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace weft::ipc::detail {

/// One end's word in shared memory. Any value that a hostile peer writes harms only the peer.
struct alignas(64) bell_word {
  std::atomic<std::uint32_t> asleep{0};  // 1: its end is about to sleep, or sleeps, until somebody rings
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

/// What a bell is made of: each end has all four.
struct bell_rope {
  bell_word* mine = nullptr;    // in shared memory
  bell_word* theirs = nullptr;  //
  io::descriptor my_bell;       // eventfds, one for each end
  io::descriptor their_bell;
  bool guarded = true;  // the peer may be hostile: it could fill its bell's counter and make ringing wait, so that is a region
};

/// One end. Made and used by the threads of one scheduler.
///
/// Invariant, whenever a local thread waits: the listener will look again after anything that the peer publishes, either because
/// it has not gone to sleep, or because the peer sees `asleep` and rings. Pairs: the listener stores `asleep` and then looks; the
/// peer publishes and then loads `asleep`; both with a full barrier in between, so that at least one of the two sees the other.
class doorbell {
 public:
  /// `look` examines the shared memory and wakes local threads; it returns whether it found anything new. It runs in a thread of
  /// the doorbell's, does not block, and must not end the doorbell. @throws std::system_error, std::bad_alloc
  doorbell(bell_rope rope, std::function<bool()> look);
  /// Rings for what was published before, and waits for its own threads. No local thread may wait any more.
  ~doorbell();
  doorbell(const doorbell&) = delete;
  doorbell& operator=(const doorbell&) = delete;

  /// Something was published for the peer. If that sleeps, it will be woken when all threads that are ready now have run.
  void ring() {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // pairs with the listener's store of `asleep`
    if (rope_.theirs->asleep.load(std::memory_order_relaxed) != 0 && !ringing_) [[unlikely]] call_ringer();
  }

  /// While one exists, the calling thread may wait for something that only the peer can bring.
  class attention {
   public:
    explicit attention(doorbell& to) : to_(to) {
      if (to_.waiting_++ == 0) to_.call_listener();
    }
    ~attention() { --to_.waiting_; }
    attention(const attention&) = delete;
    attention& operator=(const attention&) = delete;

   private:
    doorbell& to_;
  };

  /// Calls `gone` once, in a thread of the doorbell's, when `what` is readable or hung up: a pidfd, or the socket over which the
  /// two met. @throws std::system_error, std::bad_alloc
  void watch(io::descriptor what, std::function<void()> gone);

 private:
  void listen();
  bool look_a_while();
  void ring_when_called();
  void ring_now();
  void call_ringer();
  void call_listener();
  static bool take_rings(const io::descriptor& bell) noexcept;

  bell_rope rope_;
  std::function<bool()> look_;
  unsigned waiting_ = 0;  // local threads
  bool ringing_ = false;  // the ringer was called and has not rung yet
  bool in_ring_ = false;  // the ringer rings
  bool ending_ = false;
  bool listener_idle_ = true;
  duration patience_;     // how long to look before sleeping; zero on one core
  counting_semaphore<> calls_ringer_{0};
  counting_semaphore<> calls_listener_{0};
  jthread listener_;
  jthread ringer_;
  std::vector<jthread> watchers_;
};

/// An eventfd. @throws std::system_error
[[nodiscard]] io::descriptor make_bell();
/// What a peer passed for one. @throws std::system_error(invalid_argument) when it is none
[[nodiscard]] io::descriptor adopt_bell(io::descriptor passed);

}  // namespace weft::ipc::detail
