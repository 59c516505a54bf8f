// An identity for the kernel thread whose own one has become that of the processor (context_identity.hpp).
#pragma once

#include <atomic>
#include <cstdint>

#include "sched/context_identity.hpp"
#include "weft/detail/kernel_thread.hpp"

namespace weft::sched {

/// A kernel thread that sleeps all its life, so that another one can be taken for it.
class identity_lender {
 public:
  /// @throws std::system_error when the kernel gives no kernel thread
  identity_lender();
  /// Nobody has the identity any more.
  ~identity_lender();
  identity_lender(const identity_lender&) = delete;
  identity_lender& operator=(const identity_lender&) = delete;

  [[nodiscard]] const identity& lent() const noexcept { return lent_; }

 private:
  identity lent_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> over_{false};
  detail::kernel_thread thread_;
};

}  // namespace weft::sched
