// Opens the file of the read rows and brings it into the page cache.
#include "read_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace bench {
namespace {

int open_named_file(file_access access) {
  const char* const name = std::getenv("WEFT_BENCH_FILE");
  if (name == nullptr) fail("set WEFT_BENCH_FILE to a file of at least 256 MiB: script/bench makes one and does");
  const int descriptor = open(name, O_RDONLY | O_CLOEXEC | (access == file_access::direct ? O_DIRECT : 0));
  if (descriptor < 0) fail_with_errno(name);
  return descriptor;
}

std::uint64_t blocks_in(int descriptor) {
  struct stat status {};
  if (fstat(descriptor, &status) != 0) fail_with_errno("fstat");
  return static_cast<std::uint64_t>(status.st_size) / block_size;
}

void read_whole(int descriptor) {
  std::vector<char> chunk(1 << 20);
  off_t offset = 0;
  for (ssize_t got = 1; got > 0; offset += got) got = pread(descriptor, chunk.data(), chunk.size(), offset);
}

}  // namespace

read_file::read_file(file_access access) : descriptor_(open_named_file(access)), blocks_(blocks_in(descriptor_)) {
  if (access == file_access::hot) read_whole(descriptor_);
}

read_file::~read_file() { close(descriptor_); }

std::vector<row> read_rows(std::function<window_result(file_access, int)> measure) {
  return {
      {"read-hot-1", [=] { return measure(file_access::hot, 1).operations_per_second; }},
      {"read-hot-128", [=] { return measure(file_access::hot, 128).operations_per_second; }},
      {"read-direct-128", [=] { return measure(file_access::direct, 128).cpu_ns_per_operation * 1e-3; }},
  };
}

}  // namespace bench
