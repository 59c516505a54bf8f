// The rows of bench_weft, a function per file that makes them.
#pragma once

#include <vector>

#include "program.hpp"

namespace bench {

std::vector<row> weft_thread_rows();
std::vector<row> weft_io_rows();

/// The same rows, each measured inside a scheduler, as its first thread.
std::vector<row> within_weft(std::vector<row> rows);

}  // namespace bench
