// What a reactor does for activations: a ring for each, because a ring belongs to the kernel thread that uses it.
#include <algorithm>

#include "upcall/activation.hpp"
#include "upcall/reactor.hpp"

namespace weft::upcall::engine {

std::unique_ptr<activation_pool> reactor::make_activations(detail::processor& word, std::uint32_t limit, bool all_code) {
  other_rings_.resize(std::max<std::size_t>(other_rings_.size(), limit - 1));
  return std::make_unique<activations>(*handler_, word, limit, all_code);
}

void reactor::enters(std::uint32_t activation) { other_rings_[activation - 2] = std::make_unique<ring>(); }

void reactor::leaves(std::uint32_t activation) noexcept { other_rings_[activation - 2].reset(); }

// Whoever lost the processor in doze() left `asleep_` as it was: we are awake.
void reactor::moved_to(std::uint32_t activation) noexcept {
  asleep_.store(false, std::memory_order_seq_cst);
  ring_ = activation == 1 ? first_ring_.get() : other_rings_[activation - 2].get();
}

}  // namespace weft::upcall::engine
