// The same job without weft, to compare: read(2) in a loop, and a kernel thread per file.
#pragma once

#include "job.hpp"

/// One file after another in the calling kernel thread.
[[nodiscard]] outcome one_after_another(const job& work);

/// A std::thread per file, at most `work.open_at_once` at a time.
[[nodiscard]] outcome kernel_thread_per_file(const job& work);
