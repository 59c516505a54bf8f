// The seam between scheduler and kernel: upcalls travel up through `handler`, downcalls travel down through `source`.
//
// After T. Anderson et al., "Scheduler Activations", ACM TOCS 10(1), 1992: the kinds are those of its Table II, and like
// its kernel a source combines events: it delivers batches. A scheduler knows its sources through this header only, so
// tests give it a simulated one with a clock that they turn by hand.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "weft/detail/abi.hpp"
#include "weft/detail/preemption.hpp"
#include "weft/detail/processor.hpp"

namespace weft {

/// The clock of every deadline in weft. A source may replace its reading (`source::now`), never its type.
using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using duration = clock::duration;

/// "No deadline": a time that never comes.
inline constexpr time_point never = time_point::max();

namespace upcall {

/// What the kernel tells the scheduler (Table II of the paper).
///
/// `blocked` and `unblocked` pair up: whoever waits for the kernel (an operation, a sleep, a region that blocks) is blocked once
/// and unblocked once, with the same cause. An operation that its deadline or a cancellation ends is unblocked with its own
/// cause and -ECANCELED. Beside the pairs only `unblocked post` comes: a thread that another kernel thread sent. Waiting for
/// another thread (mutex, channel, join, …) is the scheduler's own affair and no upcall, also when its deadline ends it.
enum class kind : std::uint8_t {
  processor_added,  ///< an activation received the processor
  preempted,        ///< a running thread lost it; it is ready again
  blocked,          ///< a thread waits in or for the kernel
  unblocked,        ///< what it waited for has happened; it is ready again
};
inline constexpr std::size_t kind_count = 4;

/// Why. For `blocked` and `unblocked` it names the operation, or what else ended the wait.
enum class cause : std::uint8_t {
  none, read, write, receive, send, accept, connect, poll, open, close, sync, timer, post, start, time_slice, region, page_fault,
  call,  ///< a system call in a thread's own code (`options::activations`)
};
inline constexpr std::size_t cause_count = 18;

[[nodiscard]] std::string_view name(kind) noexcept;
[[nodiscard]] std::string_view name(cause) noexcept;
/// "clock_nanosleep" for its number on this machine; a phrase for numbers without a name. Scans a table: for reports.
[[nodiscard]] std::string_view system_call_name(int number) noexcept;

struct operation;

/// One upcall.
struct event {
  kind what = kind::unblocked;
  cause why = cause::none;
  std::uint32_t activation = 0;                ///< number of the kernel thread that carried it, from 1; 0: none
  std::uint32_t thread = 0;                    ///< number of the thread concerned (`thread::id`); 0: none
  std::int32_t result = 0;                     ///< of a finished operation: bytes, a descriptor, or a negative errno; of a
                                               ///< region that blocked: the number of its system call, -1 if unknown
  time_point when{};                           ///< when the scheduler took note of it; zero when nobody observes upcalls
  detail::thread_record* record = nullptr;     ///< the scheduler's record of `thread`
};

/// Everything the engines can do for a thread. One operation is one blocking request of one thread.
enum class opcode : std::uint8_t {
  read,     ///< read(2) / pread(2) into one buffer; `offset` -1 for the file position
  write,    ///< write(2) / pwrite(2)
  readv,    ///< `address` is an iovec array of `length` entries
  writev,
  receive,  ///< recv(2), `flags` as there
  send,     ///< send(2), `flags` as there; never raises SIGPIPE
  accept,   ///< accept4(2); `address`, `address_length` may be null; `flags` as there; the result is the descriptor
  connect,  ///< connect(2) to `address` of `length` bytes
  poll,     ///< poll(2) of one descriptor for `flags` (POLLIN, POLLOUT, …); the result is the events that are true
  open,     ///< openat(2) with descriptor `fd` as directory (it must stay open), path `address`, `flags`, `mode`
  close,    ///< close(2); whoever waits on the descriptor is woken with bad_file_descriptor first
  sync,     ///< fsync(2), or fdatasync(2) when `flags` is not zero
};

[[nodiscard]] cause cause_of(opcode) noexcept;

/// A blocking request. It lives on its thread's stack from `source::start` until its completion arrived, and no longer.
struct operation {
  opcode code = opcode::read;
  bool owned = false;   ///< the descriptor belongs to a typed object that tells us when it closes (see reactor.hpp)
  bool portable = false;  ///< never in flight in a way that binds it to this kernel thread, which others will not wait for
  int fd = -1;
  void* address = nullptr;
  std::size_t length = 0;
  std::int64_t offset = -1;
  int flags = 0;
  unsigned mode = 0;
  unsigned* address_length = nullptr;
  bool* fresh = nullptr;  ///< not null: what was known of the number is of an earlier open file; `source::start` clears the mark

  std::int32_t result = 0;  ///< filled by the source: ≥ 0, or a negative errno

  detail::thread_record* thread = nullptr;  ///< filled by the scheduler before `start`
  operation* next = nullptr;                ///< links and state of the source that holds it
  operation* previous = nullptr;
  std::uint32_t stage = 0;
  bool begun = false;
};

/// Receives upcalls: the scheduler. All of it runs on the activation's own stack and never blocks, but for `serve` and `take`.
class handler {
 public:
  /// Takes a batch of events in the order in which they happened.
  virtual void handle(std::span<const event> batch) = 0;
  /// True while other threads could run now: a source then prefers to collect work rather than to do it at once.
  [[nodiscard]] virtual bool others_ready() const noexcept = 0;

  // What activations do, each on its own kernel thread. A scheduler without an activation pool is never asked.

  /// A new kernel thread is activation `number`; called once before anything else on it.
  virtual void begin_activation(std::uint32_t number) { static_cast<void>(number); }
  /// Before that, on the holder's kernel thread: takes the memory that activation `number` will need. @throws std::bad_alloc
  virtual void prepare_activation(std::uint32_t number) { static_cast<void>(number); }
  /// Upcall "processor added" for an activation that stood by: takes the processor if its word is still `seen`, and carries
  /// it until it is lost. @returns whether it was taken.
  virtual bool take(std::uint32_t number, detail::processor::word seen) {
    static_cast<void>(number), static_cast<void>(seen);
    return false;
  }
  /// The same after the word was swapped already.
  virtual void took(std::uint32_t number, detail::processor::word seen) { static_cast<void>(number), static_cast<void>(seen); }
  /// An activation that stood by was called: carries a thread that waits for a kernel thread of its own, or takes the
  /// processor if it is offered.
  virtual void serve(std::uint32_t number) { static_cast<void>(number); }
  // Threads that wait in their own code (`activations::all`).

  /// Whether the thread in whose own code activation `where` waits at `at` may be left there. Asked by activation `by`, which
  /// will take the processor then; nothing else may be touched, and `where` may go on at any moment.
  virtual bool may_displace(std::uint32_t by, std::uint32_t where, const whereabouts& at) {
    static_cast<void>(by), static_cast<void>(where), static_cast<void>(at);
    return false;
  }
  /// In a signal handler with every signal blocked: the kernel thread of activation `number` is about to go on after it waited.
  /// Where the processor was taken meanwhile, `context` is changed so that it does not, or the kernel thread waits for the
  /// processor: where a handler of the program's has come in between, above the stack pointer `waited_at`.
  virtual void returns(std::uint32_t number, void* context, std::uintptr_t waited_at) noexcept {
    static_cast<void>(number), static_cast<void>(context), static_cast<void>(waited_at);
  }
  /// The same without a signal (simulations): returns when the thread has the processor.
  virtual void come_back(std::uint32_t number) noexcept { static_cast<void>(number); }

  /// The kernel thread of activation `number` is about to end; called on it.
  virtual void end_activation(std::uint32_t number) { static_cast<void>(number); }

 protected:
  ~handler() = default;
};

/// Kernel threads that stand by to carry the processor, and what watches the one that has lent it. "Free" are those that stand
/// by or will in a moment. All members are called by the holder of the processor unless they say otherwise.
class activation_pool {
 public:
  virtual ~activation_pool() = default;

  /// Makes sure that an activation is free, starting a kernel thread if need be. @returns false when the limit is reached.
  /// @throws std::system_error when the kernel refuses a kernel thread and there is no other than the caller's.
  virtual bool provide() = 0;
  /// Has the calling kernel thread watched from here on while it lends the processor. `watched` is its number afterwards.
  virtual void watch(std::uint32_t number) noexcept = 0;
  /// The holder, activation `number`, is about to sleep: what it does is of no interest.
  virtual void rest(std::uint32_t number) noexcept = 0;
  /// A descriptor that becomes readable when its sleeper is roused; -1 if none is to be had. Back with `vacate`, which the
  /// sleeper calls, whether or not it still holds the processor.
  [[nodiscard]] virtual int sleeping_place() noexcept = 0;
  virtual void vacate(int place) noexcept = 0;
  /// Has the sleeper at `place`, from which the processor was taken, stand by.
  virtual void rouse(int place) noexcept = 0;
  /// Wakes the watchdog, which found nothing to do for a while.
  virtual void wake_watchdog() noexcept = 0;
  /// Calls a free activation to `handler::serve`. From any activation.
  virtual void call() noexcept = 0;
  /// Stands by on the calling kernel thread, which is activation `number`, until `end` was called. Any activation.
  virtual void stand_by(std::uint32_t number) = 0;
  /// Everything has ended: those who stand by return. Any activation, once.
  virtual void end() noexcept = 0;
  /// After that: waits until no kernel thread of the pool is left. Only activation 1.
  virtual void join() noexcept = 0;
  /// The system call in which the kernel thread of `number` waits; -1 when it does not, or nobody can say. Any kernel thread.
  [[nodiscard]] virtual int system_call_of(std::uint32_t number) const noexcept = 0;
  /// Kernel id of the kernel thread of activation `number`; 0 if there is none.
  [[nodiscard]] virtual int kernel_thread_of(std::uint32_t number) const noexcept = 0;
  /// Waits until `flag` is not zero, and sets it to zero / makes it one and wakes who waits. Any activation.
  virtual void await(std::atomic<std::uint32_t>& flag) noexcept = 0;
  virtual void alert(std::atomic<std::uint32_t>& flag) noexcept = 0;
  /// A step of the protocol was made, or is about to be; called only while `steps` is set (simulations).
  virtual void step(const char* what) noexcept { static_cast<void>(what); }

  // Read on the way into every region, so they are plain members.
  std::atomic<std::int32_t> free{0};           ///< activations that stand by or will in a moment
  std::atomic<bool> watchdog_asleep{false};
  std::atomic<std::uint32_t> watched{0};       ///< number of the activation that is watched; 0: none
  bool steps = false;
  bool all_code = false;                       ///< threads that wait in their own code can be told of, and stopped
  std::uint32_t limit = 1;                     ///< activations there may be, that of the processor's first holder included
};

/// Makes upcalls out of kernel mechanisms and carries out downcalls. All members but `wake` are called only by the
/// activation that holds the processor.
class source {
 public:
  virtual ~source() = default;

  /// Names the receiver of all upcalls to come. Called once, before anything else.
  virtual void attach(handler& receiver) = 0;

  /// Downcall: starts `request`. True: it is already complete (`request.result` is filled) and no upcall will follow.
  /// False: exactly one `unblocked` event with `event.record == request.thread` follows, from a later `poll` or `wait`.
  virtual bool start(operation& request) = 0;

  /// Downcall: asks for the early end of a started request. Its one completion still follows, with whatever result it
  /// had time to reach, or ECANCELED. Idempotent.
  virtual void cancel(operation& request) = 0;

  /// Does what was collected and delivers what has happened, without waiting.
  virtual void poll() = 0;

  /// Downcall "this processor is idle": waits for an event, a `wake` or `deadline`, then delivers what has happened.
  /// May return early and without events.
  virtual void wait(time_point deadline) = 0;

  /// Ends a `wait` in progress, or the next one. From any kernel thread and from signal handlers.
  virtual void wake() noexcept = 0;

  /// Number of started operations whose completion was not delivered yet. Zero, with no timer and no poster, and every
  /// thread parked, is a deadlock.
  [[nodiscard]] virtual std::size_t pending() const noexcept = 0;

  /// True when `poll` would have something to do or to ask the kernel: the scheduler skips it otherwise.
  [[nodiscard]] virtual bool wants_poll() const noexcept = 0;

  [[nodiscard]] virtual time_point now() const noexcept { return clock::now(); }
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  // Activations, for sources that have them (marked regions: weft/blocking.hpp).

  /// Makes the pool of kernel threads that can carry `word`; at most `limit`, the calling one, number 1, included.
  /// Null: this source has none, and regions hold the processor.
  /// `all_code`: threads that wait in their own code are wanted too; the pool says whether it can.
  [[nodiscard]] virtual std::unique_ptr<activation_pool> make_activations(detail::processor& word, std::uint32_t limit,
                                                                          bool all_code) {
    static_cast<void>(word), static_cast<void>(limit), static_cast<void>(all_code);
    return nullptr;
  }
  /// True while operations are in flight that only the calling kernel thread can collect.
  [[nodiscard]] virtual bool bound_here() const noexcept { return false; }
  /// Activation `number` is about to get a kernel thread; called by the holder. @throws std::bad_alloc
  virtual void enters(std::uint32_t number) { static_cast<void>(number); }
  /// The kernel thread of activation `number`, which calls, is about to end. It does not hold the processor.
  virtual void leaves(std::uint32_t number) noexcept { static_cast<void>(number); }
  /// Activation `number`, whose kernel thread calls, holds the processor from now on.
  virtual void moved_to(std::uint32_t number) noexcept { static_cast<void>(number); }
  /// Prepares a sleep during which another activation may take the processor; may bring `deadline` forward. @returns false
  /// when `wait` is to be called instead. After true: `doze`, and if the processor was not taken meanwhile, `wait`.
  [[nodiscard]] virtual bool prepare_doze(time_point& deadline) {
    static_cast<void>(deadline);
    return false;
  }
  /// Sleeps as `wait` does, or until the descriptor `place` is readable, and touches nothing that belongs to the holder of
  /// the processor.
  virtual void doze(time_point deadline, int place) noexcept { static_cast<void>(deadline), static_cast<void>(place); }
};

/// How file and socket transfers reach the kernel.
enum class transfer : std::uint8_t {
  automatic,  ///< `ring` where this kernel and container allow it; the environment's WEFT_TRANSFER decides first
  ring,       ///< batches through io_uring. Some 20 ms after such a scheduler has ended, the kernel interrupts what its kernel
              ///< thread does then, once: a plain epoll_wait returns EINTR (most calls are restarted, and see nothing)
  direct,     ///< plain non-blocking calls; worker kernel threads for what cannot be polled
};

/// Makes the source for real kernels: epoll, and io_uring or direct calls.
/// @throws std::system_error when the kernel refuses even epoll, or `ring` is demanded and refused; the text says why.
[[nodiscard]] std::unique_ptr<source> make_reactor(transfer wanted);

/// Upcalls delivered so far by the calling thread's scheduler, by kind and cause.
struct tally {
  std::array<std::array<std::uint64_t, cause_count>, kind_count> by{};
  [[nodiscard]] std::uint64_t of(kind k) const noexcept;
  [[nodiscard]] std::uint64_t of(kind k, cause c) const noexcept {
    return by[static_cast<std::size_t>(k)][static_cast<std::size_t>(c)];
  }
};
[[nodiscard]] tally counts();

/// Ends a subscription when destroyed.
class subscription {
 public:
  subscription() = default;
  subscription(subscription&& other) noexcept;
  subscription& operator=(subscription&& other) noexcept;
  ~subscription();

 private:
  friend subscription subscribe(std::function<void(std::span<const event>)> observer);
  std::shared_ptr<void> state_;
};

/// Calls `observer` with every batch of upcalls of the calling thread's scheduler from now on, in order, until the subscription
/// ends.
/// The observer runs on the activation's stack between threads: it must not block or throw (an exception terminates).
/// While nobody observes, upcalls carry no time and cost one predicted branch more than nothing.
/// @throws std::system_error(operation_not_permitted) off a weft thread.
[[nodiscard]] subscription subscribe(std::function<void(std::span<const event>)> observer);

}  // namespace upcall
}  // namespace weft
