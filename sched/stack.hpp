// Stacks for user-level threads: any number of them, each with a real guard below it, one page of memory each while parked.
//
// Words: a *class* is all stacks of one size and guard; a *slab* is one large mapping cut into stacks of one class; a stack
// is *made* when its slot is written, *free* when it was given back and waits on its class's list, *released* when its memory
// went back to the kernel and only its addresses remain.
//
//   slab:  | guard | ........ usable ........ slot | stagger | guard | ........ usable ........ slot | stagger | …
//            lowest ^                   usable_top ^           (guards are touched from above: stacks grow down)
//
// A free stack keeps its memory: taking it again is a pop of a list, and the last one given is the first one taken, because
// its page is the warmest. Who wants the memory back calls trim(). What the kernel is asked for and why: stack_slab.cpp.
#pragma once

#include <sys/types.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace weft::sched {

inline constexpr std::size_t default_stack_size = 256 * 1024;
inline constexpr std::size_t default_guard_size = 16 * 1024;  // less, and one large frame jumps over it into the neighbour
inline constexpr std::size_t default_tiny_size = 4 * 1024;

/// What a spawning thread asks for.
///
/// `size` is address space with the guard included, rounded up to a power of two so that few classes exist; `guard` is rounded
/// up to pages, 0 means none. Memory is used page by page, so a large size costs addresses, not memory.
///
/// `tiny` is for parked threads by the million and **dangerous**: no guard (`guard` is ignored), so an overflow silently
/// overwrites the neighbour. `size` is then 2 KiB or 4 KiB (rounded up; 0 or the default size means 4 KiB) and there is no
/// room for printf, for an exception, for a signal handler off the alternate stack, nor for lazy symbol binding, whose
/// resolver alone saves 3.2 KiB of registers: bind at load (`-z now`) whatever a tiny thread calls.
struct stack_request {
  std::size_t size = default_stack_size;
  std::size_t guard = default_guard_size;
  bool tiny = false;
};

/// What a pool may hold; 0 = as the kernel allows. Counted are made stacks, with `max_bytes` their whole virtual size; before
/// a limit refuses, free stacks of other classes are released to make room.
struct stack_limits {
  std::size_t max_stacks = 0;
  std::size_t max_bytes = 0;
};

/// How guards are laid, best first. Anything the kernel refuses falls back to the next one.
enum class guard_method : std::uint8_t {
  automatic,  ///< the best one this kernel has
  batched,    ///< MADV_GUARD_INSTALL for up to 1,024 stacks in one process_madvise (Linux ≥ 6.15)
  single,     ///< MADV_GUARD_INSTALL by one madvise per stack (Linux ≥ 6.13; valgrind)
  protect,    ///< mprotect: two kernel mappings per stack, so vm.max_map_count ends it near 32,000 stacks
};
[[nodiscard]] std::string_view to_string(guard_method method) noexcept;

/// The geometry shared by all stacks of a class.
struct stack_shape {
  std::size_t size;   // distance from one stack to the next, guard included
  std::size_t guard;  // bytes at its low end that fault; 0 = none
  bool tiny;

  bool operator==(const stack_shape&) const = default;

  /// How far below its end the stack with this index begins. Equal alignment would put the hot lines of all parked threads
  /// into the same few cache sets. Less than 2 KiB, so that the slot and the first frames still share the topmost page.
  [[nodiscard]] std::size_t stagger(std::size_t index) const noexcept {
    return tiny ? 0 : ((index * 0x9E3779B97F4A7C15u) >> 40) * 64 % 2048;
  }
};

class stack_slot;

// The hot end of a class: its free stacks, last in first out.
struct stack_shelf {
  stack_slot* free = nullptr;
  std::size_t free_count = 0;
  std::size_t promised = 0;  // threads that have a stack or may yet take one
  std::size_t capacity = 0;  // stacks in all slabs, made or not
  stack_shape shape{};
};

/// One stack, described by 32 bytes at its own top: no lookup leads from a thread to its stack and back.
class alignas(32) stack_slot {
 public:
  /// Where the owner's data and frames begin, downwards; a multiple of 32.
  [[nodiscard]] void* usable_top() noexcept { return this; }
  /// First byte above the guard.
  [[nodiscard]] void* lowest() const noexcept { return lowest_; }
  [[nodiscard]] std::size_t usable_size() const noexcept {
    return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(this) - lowest_);
  }
  [[nodiscard]] const stack_shape& shape() const noexcept { return shelf_->shape; }
  /// Between take() and give().
  [[nodiscard]] bool in_use() const noexcept { return in_use_; }

 private:
  friend class stack_pool;
  friend class stack_slab;
  stack_slot(stack_shelf& shelf, std::byte* lowest, std::uint32_t slab) noexcept : lowest_(lowest), shelf_(&shelf), slab_(slab) {}

  stack_slot* next_ = nullptr;  // on the shelf's list while free
  std::byte* lowest_;
  stack_shelf* shelf_;
  std::uint32_t slab_;  // index into its class's slabs
  bool in_use_ = false;
};
static_assert(sizeof(stack_slot) == 32);

/// Handle of a class, for take(): look it up once per kind of thread with stack_pool::classify and keep it. Copy freely; valid
/// as long as its pool.
class stack_class {
 public:
  stack_class() = default;
  [[nodiscard]] const stack_shape& shape() const noexcept { return shelf_->shape; }
  bool operator==(const stack_class&) const = default;

 private:
  friend class stack_pool;
  explicit stack_class(stack_shelf& shelf) noexcept : shelf_(&shelf) {}
  stack_shelf* shelf_ = nullptr;
};

/// What find() knows about an address, by arithmetic alone.
struct stack_location {
  stack_slot* slot;   // readable in the process that made it; all zero when the stack is released
  std::byte* bottom;  // first byte of the guard
  std::byte* lowest;  // first byte above the guard
  std::byte* top;     // end of the stack, above slot and stagger
  std::size_t index;  // in its slab
  bool in_guard;      // the address lies in the guard: an overflow of this stack
};

/// A parked thread's stack and where its frames end, for shrink().
struct parked_stack {
  const stack_slot* slot;
  const void* stack_pointer;
};

/// Counts of now, not of ever.
struct stack_statistics {
  std::size_t slabs = 0;
  std::size_t mapped_bytes = 0;      // address space of the slabs
  std::size_t made = 0;              // in use or free
  std::size_t free = 0;              // given back, memory kept
  std::size_t released = 0;          // given back, memory gone
  std::size_t protected_guards = 0;  // guards laid by mprotect, whatever the method in force
  guard_method guards = guard_method::automatic;
};

struct stack_store;    // a class with its slabs (stack.cpp)
class stack_memory;    // what the pool asks of the kernel (stack_memory.hpp)
struct stack_refusal;  // what the kernel refused (stack_error.hpp)

/// The stacks of one scheduler. Only the scheduler's kernel thread may call it, except find().
class stack_pool {
 public:
  /// `guards` is for tests: no better method than this is used. What the kernel has is found out here, once per process.
  explicit stack_pool(stack_limits limits = {}, guard_method guards = guard_method::automatic);
  /// Unmaps every stack: nobody may be running on one. In a forked child nothing is unmapped.
  ~stack_pool();
  stack_pool(const stack_pool&) = delete;
  stack_pool& operator=(const stack_pool&) = delete;

  /// The class for this request. Searches the classes: call it where a kind of thread is defined, not where one starts.
  /// @throws std::system_error(invalid_argument) when the request makes no stack; the text says why.
  [[nodiscard]] stack_class classify(const stack_request& request);

  /// Promises a stack to a thread that will take it when it first runs: makes sure that there are addresses for it now, so that
  /// whoever makes the thread hears of a limit, not the thread. Counts as held until `unpromise`.
  /// @throws as take(); nothing is promised then. Touches no memory of the stack. 1 ns, a mapping now and then.
  void promise(const stack_class& wanted) {
    stack_shelf& shelf = *wanted.shelf_;
    if (shelf.promised == shelf.capacity) [[unlikely]] extend(shelf);
    ++shelf.promised;
  }
  void unpromise(const stack_class& held) noexcept { --held.shelf_->promised; }
  /// The class of a stack.
  [[nodiscard]] static stack_class class_of(const stack_slot& slot) noexcept { return stack_class(*slot.shelf_); }

  /// A stack of this class, most recently given first. Its contents are whatever the last owner left.
  ///
  /// With no free one, a stack is made on the spot (2–5 µs, mostly the kernel zeroing its first page). That path, and the
  /// errors even more so, need some KiB of stack: never call it on a tiny stack, nor on one whose second page should stay
  /// untouched; use try_take() there.
  /// @throws std::system_error(resource_unavailable_try_again), naming the limit that was hit and what to do about it. The
  ///         pool stays usable, and the call succeeds again once stacks come back.
  [[nodiscard]] stack_slot* take(const stack_class& wanted) {
    if (stack_slot* const slot = try_take(wanted)) [[likely]] return slot;
    return make(*wanted.shelf_);
  }

  /// A free stack, or null when one would have to be made. Callable on any stack. 2–3 ns.
  [[nodiscard]] stack_slot* try_take(const stack_class& wanted) noexcept {
    stack_shelf& shelf = *wanted.shelf_;
    stack_slot* const slot = shelf.free;
    if (slot == nullptr) [[unlikely]] return nullptr;
    shelf.free = slot->next_;
    --shelf.free_count;
    slot->in_use_ = true;
    return slot;
  }

  /// Gives a stack back to its class. The caller may still be running on it until the next take().
  void give(stack_slot* slot) noexcept {
    assert(slot->in_use_ && "a stack was given back twice");
    stack_shelf& shelf = *slot->shelf_;
    slot->in_use_ = false;
    slot->next_ = shelf.free;
    shelf.free = slot;
    ++shelf.free_count;
  }

  /// Hands idle memory back to the kernel: of each class the `keep` free stacks given last stay ready with their topmost page,
  /// the others are released, and slabs left with none are unmapped.
  ///
  /// @returns bytes of memory handed back. A tiny stack's memory goes only with all of its huge page. Locked memory (mlockall)
  ///          stays. Not callable on a free stack. Cost: 0.3–1 µs per free stack.
  std::size_t trim(std::size_t keep = 0) noexcept;

  /// Hands back what parked threads used below their present depth; each keeps the page of its stack pointer and all above.
  /// @returns bytes of memory handed back. Cost: 1 µs per stack with nothing to give, 2–7 µs with 8–32 KiB.
  std::size_t shrink(std::span<const parked_stack> parked) noexcept;

  /// Which made stack of any living pool of this process holds `address`: nothing if none does.
  /// Async-signal-safe and callable from any kernel thread; compares with every slab, so it is for reports.
  [[nodiscard]] static std::optional<stack_location> find(const void* address) noexcept;

  [[nodiscard]] stack_statistics statistics() const noexcept;
  /// Free stacks of all classes. A few nanoseconds.
  [[nodiscard]] std::size_t free_stacks() const noexcept;

 private:
  stack_slot* make(stack_shelf& shelf);
  void extend(stack_shelf& shelf);
  [[nodiscard]] bool over_limit(const stack_shape& shape) const noexcept;
  stack_slot* remake(stack_store& store) noexcept;
  stack_slot* make_fresh(stack_store& store, stack_refusal& refusal) noexcept;
  bool add_slab(stack_store& store, stack_refusal& refusal) noexcept;
  void release_free(stack_store& store, std::size_t keep) noexcept;

  stack_limits limits_;
  std::vector<std::unique_ptr<stack_store>> classes_;
  std::unique_ptr<stack_memory> memory_;
  std::size_t made_ = 0;
  std::size_t made_bytes_ = 0;
  pid_t owner_;
};

}  // namespace weft::sched
