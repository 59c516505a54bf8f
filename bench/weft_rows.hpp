// The rows of bench_weft, a function per file that makes them.
#pragma once

#include <vector>

#include "program.hpp"

namespace bench {

std::vector<row> weft_thread_rows();
std::vector<row> weft_policy_rows();
std::vector<row> weft_blocking_rows();
std::vector<row> weft_io_rows();
std::vector<row> weft_mailbox_rows();

}  // namespace bench
