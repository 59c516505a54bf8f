// Sockets that stay silent, and the checks that nothing of those who waited on them is left.
#include "blocked_sockets.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "measure.hpp"

namespace bench {

// One descriptor each, since a limit of 20,000 is not rare: datagram sockets of the local domain, which the kernel names.
blocked_sockets::blocked_sockets(int flags) : sockets_(static_cast<std::size_t>(at_most_asked_for(10'000))) {
  for (int& each : sockets_) {
    each = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | flags, 0);
    if (each < 0) fail_with_errno("10,000 sockets");
    const sockaddr_un any{AF_UNIX, {}};
    if (bind(each, reinterpret_cast<const sockaddr*>(&any), sizeof any.sun_family) != 0) fail_with_errno("bind");
  }
}

blocked_sockets::~blocked_sockets() {
  for (const int each : sockets_) close(each);
}

void blocked_sockets::check_untouched() const {
  const int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (sender < 0) fail_with_errno("socket");
  for (const int each : sockets_) {
    sockaddr_un name{};
    socklen_t size = sizeof name;
    char byte = 'x';
    if (getsockname(each, reinterpret_cast<sockaddr*>(&name), &size) != 0) fail_with_errno("getsockname");
    if (sendto(sender, &byte, 1, 0, reinterpret_cast<const sockaddr*>(&name), size) != 1) fail_with_errno("sendto");
    if (recv(each, &byte, 1, MSG_DONTWAIT) != 1) fail("a receive that was cancelled has taken a byte");
  }
  close(sender);
}

double cancel_blocked(int socket_flags, const std::function<double(std::span<const int>)>& cancel) {
  constexpr int warm_up = 2;
  constexpr int rounds = 5;
  std::vector<double> times;
  times.reserve(rounds);
  long descriptors = 0;
  std::size_t bytes = 0;
  for (int round = 0; round < warm_up + rounds; ++round) {
    if (round == warm_up) {
      descriptors = open_descriptors();
      bytes = heap_bytes();
    }
    const blocked_sockets sockets(socket_flags);
    const double taken = cancel(sockets.numbers());
    sockets.check_untouched();
    if (round >= warm_up) times.push_back(taken * 1e-6);
  }
  if (open_descriptors() != descriptors) fail("descriptors are left behind");
  // What malloc keeps at hand counts as given out, so a few more bytes prove nothing.
  const std::size_t tolerated = bytes + static_cast<std::size_t>(at_most_asked_for(10'000));
  if (heap_bytes() > tolerated) fail(std::to_string(heap_bytes() - bytes) + " bytes of memory are left behind");
  return percentile(times, 50);
}

}  // namespace bench
