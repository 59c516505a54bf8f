// One client's stay: a thread that reads what it sends, and one that writes what it is to hear.
#pragma once

#include <chrono>
#include <cstddef>
#include <weft/net.hpp>

#include "chat.hpp"

struct limits {
  std::size_t clients = 1000;         // at once
  std::size_t longest_line = 1000;    // bytes, without its end
  std::size_t waiting_lines = 256;    // for a client that reads slowly; more are lost
  std::chrono::seconds patience{30};  // with a client that reads nothing at all
};

/// Serves `peer` until it leaves, breaks off, reads nothing for too long, or the chat ends. Errors of the connection end it.
/// @throws weft::cancelled
void stay(chat& room, weft::net::tcp_stream& peer, const limits& how);

/// Tells why there is no place for it.
void turn_away(weft::net::tcp_stream& peer);
