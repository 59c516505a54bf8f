// Makes the pipes of the pipe row.
#include "pipe_pairs.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "measure.hpp"

namespace bench {
namespace {

std::array<int, 2> make_pipe(int flags) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), flags | O_CLOEXEC) != 0) fail_with_errno("pipe2");
  return ends;
}

}  // namespace

std::vector<pipe_pair> make_pipe_pairs(int flags) {
  std::vector<pipe_pair> pairs(pipe_pair_count);
  for (pipe_pair& each : pairs) {
    const auto [first_reads, second_writes] = make_pipe(flags);
    const auto [second_reads, first_writes] = make_pipe(flags);
    each = {{first_reads, first_writes}, {second_reads, second_writes}};
  }
  return pairs;
}

}  // namespace bench
