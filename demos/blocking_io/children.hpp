// Two child processes, fed and read through pipes by threads that block: sort, and grep as the judge of our totals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>
#include <weft/channel.hpp>

#include "job.hpp"

/// The number of matching lines in one file.
struct file_count {
  const std::string* path = nullptr;
  std::uint64_t lines = 0;
};

/// What `sort` gave back.
struct sorted_counts {
  int child = 0;  ///< its process number; 0: it could not be started
  std::uint64_t lines_fed = 0;
  std::uint64_t lines_back = 0;  ///< as many, if all went well
  std::vector<file_count> top;   ///< the files with most matching lines; points into the job
  std::string trouble;           ///< a sentence, when it failed
};

/// Feeds every count that comes out of `counts` to a child `sort`, until the channel is closed, and reads back the sorted
/// lines. Needs two threads, makes one. Always empties the channel, so that no sender waits for ever.
[[nodiscard]] sorted_counts sort_counts(weft::channel<file_count>& counts, const job& work);

/// The sum of what `grep -c -F` counts in the same files; no value when there is no grep. Calls weft::run.
[[nodiscard]] std::optional<std::uint64_t> ask_grep(const job& work);
