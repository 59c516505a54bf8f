// The event ring: what every scheduler did, in fixed-size binary records, at the cost of one predicted branch when off.
//
// Set WEFT_TRACE=out.json in the environment of any weft program and open the file in ui.perfetto.dev or
// chrome://tracing: a row per thread, one for the processor, upcalls as instants with their cause. docs/trace.md tells more.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weft/upcall.hpp"

namespace weft::trace {

/// What a record says. Values are part of the file format: append only.
enum class kind : std::uint8_t {
  upcall = 0,   ///< `detail` is the upcall::kind, `cause` its cause, `value` its result
  spawn = 1,    ///< `thread` came to be; `value` is the thread that made it
  run = 2,      ///< `thread` received the processor
  park = 3,     ///< `thread` waits for another thread; `detail` is the waits_for, `value` the object's address
  ready = 4,    ///< `thread` may run again
  yield = 5,    ///< `thread` let others run
  exit = 6,     ///< `thread` ended
  idle = 7,     ///< downcall of Table III: the processor has nothing to run
  busy = 8,     ///< the processor works again
  add_processor = 9,  ///< downcall of Table III: `value` more processors are asked for: an activation, because none is free,
                      ///< or the other schedulers of run_on
};

/// What a parked thread waits for: the `detail` of a `park` record. Values are part of the file format: append only.
enum class waits_for : std::uint8_t {
  other = 0,
  mutex = 1,
  condition_variable = 2,
  semaphore = 3,
  channel_send = 4,
  channel_receive = 5,
  join = 6,
  sleep = 7,
  latch = 8,  ///< a latch or a barrier
  inbox = 9,  ///< something from another kernel thread
  activation = 10,  ///< an activation that can carry the processor while it is in a region
  select = 11,      ///< the first of several things
  shared_mutex = 12,
  once_flag = 13,
  future = 14,      ///< a result, which a thread of any kind may give
  mailbox_send = 15,
  mailbox_receive = 16,
};

/// "mutex", "channel receive", …: what exporters write. "other" for values of a later version.
[[nodiscard]] std::string_view name(waits_for) noexcept;
/// The other way round, for `waiter::what`; `other` when there is no such name. Some comparisons: not for when tracing is off.
[[nodiscard]] waits_for waits_for_named(std::string_view what) noexcept;

/// One event. 32 bytes, the same in memory and in files.
struct record {
  std::uint64_t ticks = 0;       ///< time-stamp counter
  std::uint32_t thread = 0;      ///< number of the thread; 0: the processor itself
  std::uint32_t activation = 0;  ///< number of the activation that held the processor
  kind what = kind::run;
  std::uint8_t detail = 0;
  std::uint8_t cause = 0;
  std::uint8_t reserved[5] = {};
  std::int64_t value = 0;
};
static_assert(sizeof(record) == 32);

/// The time-stamp counter, or a steady clock in nanoseconds where there is none. 5–10 ns.
[[nodiscard]] std::uint64_t ticks() noexcept;

/// The latest `capacity` events of one scheduler: a flight recorder that overwrites its oldest records. One writer, the
/// activation that holds the processor; read it when that is you or the scheduler is at rest.
class ring {
 public:
  /// @param capacity number of records, rounded up to a power of two.
  explicit ring(std::size_t capacity);

  void append(const record& r) noexcept {
    // Member by member: a copy as a whole would first build the record in memory and then wait for its small stores to be
    // readable as large ones. 2 ns instead of 15.
    record& slot = records_[static_cast<std::size_t>(written_) & mask_];
    slot.ticks = r.ticks;
    slot.thread = r.thread;
    slot.activation = r.activation;
    slot.what = r.what;
    slot.detail = r.detail;
    slot.cause = r.cause;
    slot.value = r.value;
    ++written_;
  }
  /// Remembers a thread's name for the reader; "" forgets an earlier one. Allocates: called when a thread starts, never on
  /// a switch. Memory is bounded: a name takes the place of that of the thread 65,536 numbers before it.
  void name_thread(std::uint32_t thread, std::string_view name) noexcept;

  [[nodiscard]] std::uint64_t written() const noexcept { return written_; }  ///< events ever appended
  [[nodiscard]] std::uint64_t lost() const noexcept;                          ///< events that were overwritten
  [[nodiscard]] std::vector<record> snapshot() const;                         ///< what is there, oldest first
  [[nodiscard]] std::string name_of(std::uint32_t thread) const;              ///< "" when it has none
  [[nodiscard]] double nanoseconds_per_tick() const;  ///< measured over the ring's life, and that is made 1 ms at least
  [[nodiscard]] std::uint64_t first_ticks() const noexcept { return start_ticks_; }

  std::string file;  ///< where it is written when its scheduler ends (WEFT_TRACE); empty: nowhere

 private:
  std::unique_ptr<record[]> records_;
  std::size_t mask_ = 0;
  std::uint64_t written_ = 0;
  std::uint64_t start_ticks_ = 0;
  time_point start_time_{};
  std::vector<std::pair<std::uint32_t, std::string>> names_;
};

/// The ring of the calling thread's scheduler, or null when tracing is off.
[[nodiscard]] ring* current();

/// Writes `events` as Chrome trace JSON to `path`. Blocks the kernel thread while it writes.
/// @throws std::system_error when the file cannot be written; the text names it.
void write_chrome(const ring& events, const std::string& path);

/// Draws the processor and the `rows` threads with most events as lines of at most `columns` ASCII characters over a time
/// scale: '#' ran, '.' waits in the kernel or for another thread, '+' ready, ' ' not there. For terminals.
[[nodiscard]] std::string draw(const ring& events, std::size_t rows, std::size_t columns);

}  // namespace weft::trace
