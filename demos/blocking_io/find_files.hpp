// Which files to search.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

struct found_files {
  std::vector<std::string> paths;     ///< regular files, sorted within each of the user's paths
  std::vector<std::string> troubles;  ///< a sentence for each path that is not there, directory that cannot be read, …
  std::vector<std::string> skipped;   ///< pipes, sockets and devices met in directories
};

/// Walks as `grep -r` does: symbolic links are followed when the user named them, not when met in a directory. Blocks the
/// kernel thread (there is no asynchronous readdir in Linux): call it before weft::run.
[[nodiscard]] found_files find_files(const std::vector<std::string>& paths);

/// Keeps `limit` of the files, evenly spread over all; 0: keeps all.
void thin_out(std::vector<std::string>& paths, std::size_t limit);
