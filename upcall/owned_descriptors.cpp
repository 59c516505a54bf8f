#include "upcall/owned_descriptors.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <new>
#include <utility>

#include "weft/error.hpp"

namespace weft::upcall::engine {

// Never destroyed: static objects close their descriptors after main.
std::vector<owned_descriptors*>& owned_descriptors::owners() {
  static auto& all = *new std::vector<owned_descriptors*>;
  return all;
}

// The child's descriptors are copies of the parent's, whose reactors are not there.
void owned_descriptors::guard_forks() {
  static const int error = pthread_atfork([] { lock_.lock(); }, [] { lock_.unlock(); },
                                          [] {
                                            std::fill(owners().begin(), owners().end(), nullptr);
                                            lock_.unlock();
                                          });
  if (error != 0) weft::detail::throw_errno(error, "weft: the C library refuses another pthread_atfork handler");
}

owned_descriptors::owned_descriptors(source& wakes) : source_(&wakes) { guard_forks(); }

owned_descriptors::~owned_descriptors() {
  {
    const std::lock_guard hold(lock_);
    std::replace(owners().begin(), owners().end(), this, static_cast<owned_descriptors*>(nullptr));
  }
  for (const int fd : left_) ::close(fd);  // nobody leaves us any more
}

void owned_descriptors::add(int fd) {
  const std::lock_guard hold(lock_);
  const auto place = static_cast<std::size_t>(fd);
  if (place >= owners().size()) owners().resize(std::bit_ceil(std::max<std::size_t>(place + 1, 64)));
  owners()[place] = this;
}

void owned_descriptors::take_left(std::vector<int>& to) noexcept try {
  const std::lock_guard hold(lock_);
  to.insert(to.end(), left_.begin(), left_.end());
  left_.clear();
  has_left_.store(false, std::memory_order_relaxed);
} catch (const std::bad_alloc&) {
}

// Without memory to leave it there, it is closed here: whoever waits for it is not woken then. The wake is under the lock, so
// that the reactor is still there.
bool owned_descriptors::leave(int fd, owned_descriptors* mine) noexcept try {
  const std::lock_guard hold(lock_);
  const auto place = static_cast<std::size_t>(fd);
  if (place >= owners().size()) return false;
  owned_descriptors* const owner = std::exchange(owners()[place], nullptr);
  if (owner == nullptr || owner == mine) return false;
  owner->left_.push_back(fd);
  owner->has_left_.store(true, std::memory_order_relaxed);
  owner->source_->wake();
  return true;
} catch (const std::bad_alloc&) {
  return false;
}

}  // namespace weft::upcall::engine
