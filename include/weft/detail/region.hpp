// What marked regions are made of: entering and leaving one, and weft operations called in the middle of one.
#pragma once

#include "weft/detail/abi.hpp"

namespace weft::detail {

/// Begins a region on the calling kernel thread. @returns false when it was one already: then there is nothing to end.
/// @throws as weft::blocking
[[nodiscard]] bool enter_region();
/// Ends it: the caller is an ordinary thread again, perhaps on another kernel thread.
void leave_region() noexcept;
/// @throws weft::cancelled when the calling thread was asked to end and does not unwind.
void end_if_cancelled();

class region {
 public:
  region() : open_(enter_region()) {}
  ~region() {
    if (open_) leave_region();
  }
  region(const region&) = delete;
  region& operator=(const region&) = delete;

  void end() {
    if (!open_) return;
    open_ = false;
    leave_region();
    end_if_cancelled();
  }

 private:
  bool open_;
};

/// Takes the processor for a weft operation called inside a region, on the region's own kernel thread, until it is destroyed.
/// @throws std::system_error(operation_not_permitted) outside regions: the caller is no weft thread. `call` names the operation.
class region_pause {
 public:
  explicit region_pause(const char* call);
  ~region_pause();
  region_pause(const region_pause&) = delete;
  region_pause& operator=(const region_pause&) = delete;

 private:
  bool in_region_;  // otherwise the caller is in its own code, which upcalls may interrupt
};

/// The slow path of every operation that finds no weft thread running here: does `operation` once there is one, or throws.
template <class Operation> decltype(auto) with_processor(const char* call, Operation&& operation) {
  const region_pause here(call);
  return operation();
}

}  // namespace weft::detail
