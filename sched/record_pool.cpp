#include "sched/record_pool.hpp"

#include <algorithm>
#include <atomic>
#include <new>
#include <system_error>

#include "sched/policy_node.hpp"

namespace weft::sched {

const char* name(thread_state s) noexcept {
  switch (s) {
    case thread_state::vacant:
      return "vacant";
    case thread_state::created:
      return "created";
    case thread_state::ready:
      return "ready";
    case thread_state::running:
      return "running";
    case thread_state::parked:
      return "parked";
    case thread_state::in_kernel:
      return "in kernel";
    case thread_state::away:
      return "in a region";
    case thread_state::finished:
      return "finished";
  }
  return "unknown";
}

namespace {

[[noreturn]] void throw_no_memory() {
  detail::throw_error(std::errc::not_enough_memory,
                      "weft: there is no memory for the record of another thread (a limit of RLIMIT_AS, of the container, or the "
                      "machine's own); let threads end first");
}

}  // namespace

std::uint16_t record_pool::next_home() noexcept {
  static std::atomic<std::uint16_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed);
}

constexpr std::align_val_t line{alignof(thread_record)};

record_pool::~record_pool() {
  for (const slab& s : slabs_) ::operator delete(s.memory, line);  // neither records nor nodes have anything to destroy
}

void record_pool::make_room_for_nodes() noexcept { stride_ = sizeof(thread_record) + room_for_node; }

// Slabs double up to 4,096 records (256 KiB), so ten threads cost little and a million few allocations.
void record_pool::grow() try {
  const std::size_t count = slabs_.empty() ? 64 : std::min<std::size_t>(slabs_.back().count * 2, 4096);
  slabs_.reserve(slabs_.size() + 1);
  slabs_.push_back({static_cast<std::byte*>(::operator new(count * stride_, line)), count});
  for (std::size_t i = count; i > 0; --i) {  // lowest address first out: neighbours in time are neighbours in memory
    auto* const made = ::new (slabs_.back().memory + (i - 1) * stride_) thread_record;
    if (stride_ != sizeof(thread_record)) ::new (static_cast<void*>(made + 1)) policy_node;
    made->next = vacant_;
    made->home = home_;
    vacant_ = made;
  }
} catch (const std::bad_alloc&) {
  throw_no_memory();
}

void* start_pool::allocate(std::size_t bytes) try {
  return ::operator new(bytes);
} catch (const std::bad_alloc&) {
  throw_no_memory();
}

start_pool::~start_pool() {
  for (free_block* block : shelves_) {
    while (block != nullptr) {
      free_block* const next = block->next;
      ::operator delete(block);
      block = next;
    }
  }
}

}  // namespace weft::sched

namespace weft::detail {

const char* thread_record::name() const noexcept {
  switch (state) {
    case sched::thread_state::created:
      return start->name;
    case sched::thread_state::vacant:
    case sched::thread_state::finished:
      return "";
    default:
      return extension->name;
  }
}

}  // namespace weft::detail
