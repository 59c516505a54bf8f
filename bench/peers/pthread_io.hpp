// The rows of the peer pthread that read, write and serve; the rest are in pthread.cpp.
#pragma once

#include <vector>

#include "program.hpp"

namespace bench {

std::vector<row> kernel_thread_io_rows();

}  // namespace bench
