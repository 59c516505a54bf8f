// Sockets on which threads sit and wait for what never comes: the row cancel-10k.
#pragma once

#include <functional>
#include <span>
#include <vector>

namespace bench {

/// As many datagram sockets as the row needs, each bound to a name of its own. Nobody sends to them but `check_untouched`.
class blocked_sockets {
 public:
  /// @param flags SOCK_NONBLOCK for event loops
  explicit blocked_sockets(int flags);
  ~blocked_sockets();
  blocked_sockets(const blocked_sockets&) = delete;
  blocked_sockets& operator=(const blocked_sockets&) = delete;

  [[nodiscard]] std::span<const int> numbers() const { return sockets_; }

  /// Sends a byte to each socket and takes it from there. Ends the program if one is missing: then a receive that was said to
  /// be over was not, and has taken it.
  void check_untouched() const;

 private:
  std::vector<int> sockets_;
};

/// ms, median of five times after two for warming up. `cancel(sockets)` has one thread per socket wait there in recv(2), asks
/// all of them to end, and returns the ns from then until the last one has. Checked each time: nobody has taken anything from
/// the sockets since; and in the end: no more descriptors are open than after the warm-up, and no more memory is in use, up to a
/// byte for each thread.
double cancel_blocked(int socket_flags, const std::function<double(std::span<const int>)>& cancel);

}  // namespace bench
