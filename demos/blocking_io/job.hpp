// The job, and what doing it in one way gave and cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>
#include <weft/upcall.hpp>

#include "early_end.hpp"

struct job {
  std::string pattern;
  std::vector<std::string> files;
  std::size_t open_at_once = 0;  ///< at most so many files are open at the same time
  early_end* end = nullptr;      ///< asked for: leave the rest of the files out
};

/// What a file held, or a sum of that.
struct findings {
  std::uint64_t files = 0;
  std::uint64_t lines = 0;
  std::uint64_t bytes = 0;
  std::uint64_t binary = 0;  ///< of the files: those with a NUL byte

  findings& operator+=(const findings& more) noexcept {
    files += more.files;
    lines += more.lines;
    bytes += more.bytes;
    binary += more.binary;
    return *this;
  }
};

struct cost {
  double wall_ms = 0;
  double processor_ms = 0;                 ///< of all kernel threads of this process, children not included
  double kept_waiting_ms = 0;              ///< how long the calling kernel thread could have run, but other programs did
  std::optional<std::uint64_t> from_disk;  ///< bytes the disk had to deliver, where the kernel tells
  std::size_t kernel_threads = 1;          ///< most at the same time
};

struct outcome {
  findings found;
  cost paid;
};

/// Measures what happens between its making and `read`.
class stopwatch {
 public:
  stopwatch();
  [[nodiscard]] cost read() const;

 private:
  weft::time_point start_;
  double processor_ms_;
  double kept_waiting_ms_;
  std::optional<std::uint64_t> from_disk_;
};

/// Kernel threads of this process now: ours and those that work for us inside the kernel.
[[nodiscard]] std::size_t kernel_threads_now();

/// Drops the files from the page cache, where the system allows it, so that reading them means reading the disk. Opens each
/// once: whoever comes next finds names and inodes in memory.
void drop_from_cache(const std::vector<std::string>& files);

/// Lets this process open `open_at_once` files and what it needs beside, as far as its hard limit goes.
/// @returns how many files it may really open at once.
/// @throws std::runtime_error when that is none: a sentence
[[nodiscard]] std::size_t allow_open_files(std::size_t open_at_once);
