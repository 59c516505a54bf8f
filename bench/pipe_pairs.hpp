// The pipe row: 500 pairs of threads, each pair tossing one byte back and forth through two pipes.
//
// Where a peer has no threads it plays the same 1,000 parts as state machines. The figure is CPU ns per byte passed.
#pragma once

#include <cstddef>
#include <vector>

namespace bench {

/// Where one party of a pair reads and writes.
struct pipe_party {
  int from;
  int to;
};

/// Both parties of a pair. `first` begins.
struct pipe_pair {
  pipe_party first;
  pipe_party second;
};

inline constexpr std::size_t pipe_pair_count = 500;

/// @param flags as for pipe2, O_NONBLOCK for the event loops
std::vector<pipe_pair> make_pipe_pairs(int flags);

}  // namespace bench
