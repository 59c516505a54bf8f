#include "sched/identity_lender.hpp"

namespace weft::sched {

// It must not even handle a signal, while its identity is another's.
identity_lender::identity_lender() {
  thread_ = detail::kernel_thread("weft::run", "weft-identity", detail::signals::blocked, [this] {
    lent_ = own_identity();
    ready_.store(true, std::memory_order_release);
    ready_.notify_one();
    over_.wait(false, std::memory_order_acquire);
  });
  ready_.wait(false, std::memory_order_acquire);
}

identity_lender::~identity_lender() {
  over_.store(true, std::memory_order_release);
  over_.notify_one();
  thread_.join();
}

}  // namespace weft::sched
