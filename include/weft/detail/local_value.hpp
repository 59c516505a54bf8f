// What weft::local keeps in each thread: a table of values, made with the first of them, and found from the thread's own record.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "weft/detail/abi.hpp"
#include "weft/detail/start.hpp"

namespace weft::detail {

struct local_value;

/// How a child gets its value from its parent's. Lives as long as its `weft::local`.
class local_heritage {
 public:
  local_heritage() = default;
  local_heritage(const local_heritage&) = delete;
  local_heritage& operator=(const local_heritage&) = delete;
  virtual ~local_heritage() = default;
  /// A new value of the same local, for a child, in the parent's thread. @throws what making it throws
  [[nodiscard]] virtual local_value* derive(const local_value& parents) const = 0;
};

/// One thread's value of one local; the value itself lies in a derived class.
struct local_value {
  std::uint64_t key = 0;                             // of the local, never used again; 0: none yet, it is being made
  std::uint32_t slot = 0;                            // of the local, while that lives
  std::uint32_t made = 0;                            // how many the thread had made before
  local_value* older = nullptr;                      // the one made before, of those that the thread's end destroys
  void (*destroy)(local_value&) noexcept = nullptr;  // and free
  std::weak_ptr<const local_heritage> heritage;      // empty: children do not inherit
};

/// All values of one thread. The slots, `size` pointers, lie behind it. Only the thread itself uses it, wherever it runs.
struct local_values {
  std::uint32_t size = 0;
  std::uint32_t made = 0;
  local_value* newest = nullptr;

  [[nodiscard]] local_value** slots() noexcept { return reinterpret_cast<local_value**>(this + 1); }
};

/// A name for a local among all of the program, while it lives. @throws std::system_error(resource_unavailable_try_again) when
/// there are 4,096
class local_name {
 public:
  explicit local_name(bool inherited);
  ~local_name();
  local_name(const local_name&) = delete;
  local_name& operator=(const local_name&) = delete;

  const std::uint64_t key;
  const std::uint32_t slot;
};

/// The calling thread's; null when it has none, or is no weft thread.
[[nodiscard]] local_values* local_values_of_caller() noexcept;

/// The calling thread's value of `of`, or null.
[[nodiscard]] inline local_value* find_local_value(const local_name& of) noexcept {
  local_values* const all = local_values_of_caller();
  if (all == nullptr || of.slot >= all->size) [[unlikely]]
    return nullptr;
  local_value* const found = all->slots()[of.slot];
  return found != nullptr && found->key == of.key ? found : nullptr;
}

/// While one exists, the calling thread makes its value of a local: nobody else in it may.
class local_making {
 public:
  /// @throws std::system_error: operation_not_permitted off a weft thread, resource_deadlock_would_occur when the thread makes
  ///         this value already; std::bad_alloc
  explicit local_making(const local_name& of);
  ~local_making();
  local_making(const local_making&) = delete;
  local_making& operator=(const local_making&) = delete;

  /// It is made, and the thread's from here on: its end destroys it.
  void done(local_value& made) noexcept;

 private:
  struct mark : local_value {
    std::uint64_t of = 0;
  };
  const local_name& name_;
  mark mark_;
};

/// Has `value`, which stays the caller's, stand for the calling thread's value, until the other call, which must come from the
/// same thread, the last one first: anything else ends the program with a sentence.
/// @throws std::system_error(operation_not_permitted) off a weft thread; std::bad_alloc
void bind_local_value(const local_name& of, local_value& value);
void unbind_local_value(local_value& value) noexcept;

/// For the scheduler: the start of a child of the calling thread, which brings along what it inherits; `start` itself when that
/// is nothing. @throws what deriving throws, std::bad_alloc; then `start` was discarded.
[[nodiscard]] start_block* start_with_heritage(start_block* start);
/// For the scheduler: whether anything in the program is inherited. Once so, always.
extern std::atomic<bool> locals_are_inherited;
/// For the scheduler: destroys all values of the calling thread, which ends.
void destroy_local_values(thread_record& self) noexcept;

}  // namespace weft::detail
