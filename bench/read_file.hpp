// The file of the read rows: 4 KiB blocks at random places of a file that fits in memory.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace bench {

inline constexpr std::size_t block_size = 4096;

enum class file_access {
  hot,     // through the page cache, which holds the whole file
  direct,  // past it, with O_DIRECT
};

/// The file that the environment variable WEFT_BENCH_FILE names (the runner makes it), opened, and warm if it shall be hot.
class read_file {
 public:
  explicit read_file(file_access access);
  ~read_file();
  read_file(const read_file&) = delete;

  int descriptor() const { return descriptor_; }
  off_t random_offset(random_sequence& random) const { return static_cast<off_t>(random.below(blocks_) * block_size); }

 private:
  int descriptor_;
  std::uint64_t blocks_;
};

struct free_memory {
  void operator()(std::byte* memory) const { std::free(memory); }
};

/// Memory for one block, aligned as O_DIRECT wants it.
using block_buffer = std::unique_ptr<std::byte[], free_memory>;
inline block_buffer make_block_buffer() {
  return block_buffer(static_cast<std::byte*>(std::aligned_alloc(block_size, block_size)));
}

/// The rows read-hot-1 and read-hot-128 (reads per second) and read-direct-128 (CPU µs per read) of a system whose
/// `measure(access, at_once)` keeps that many reads going at once.
std::vector<row> read_rows(std::function<window_result(file_access access, int at_once)> measure);

}  // namespace bench
