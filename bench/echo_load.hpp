// The echo rows: a server on the measured core, the load generator on the other one.
#pragma once

#include <functional>
#include <vector>

#include "program.hpp"

namespace bench {

/// The rows echo-1, echo-100, echo-1000 and echo-10000 of a server: ns of its CPU per request, under so many connections
/// that each send 64 bytes, wait for them to come back, and send again.
///
/// `serve` gets a listening socket on the loopback address, echoes for ever and never returns. It runs in a process of its
/// own, which is killed at the end.
std::vector<row> echo_rows(std::function<void(int listener)> serve);

/// Turns off Nagle's delay, as every server here does for every connection.
void send_at_once(int socket);

}  // namespace bench
