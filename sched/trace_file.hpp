// WEFT_TRACE=file: records every scheduler of the program and writes the file when it ends.
#pragma once

#include <memory>
#include <string>

#include "weft/detail/abi.hpp"
#include "weft/trace.hpp"

namespace weft::sched {

class scheduler;

/// Gives the scheduler an event ring if the environment's WEFT_TRACE names a file, and writes the file at the end of its life.
/// The ring keeps the last WEFT_TRACE_EVENTS events (default 1,048,576, 32 bytes each). "%p" in the name stands for the process
/// number; a second scheduler of the same process writes to `file.2`, and so on; a process that finds the file in use by another
/// that still runs writes to `file.PID`. A file that cannot be written is said so on standard error, if possible at the
/// beginning, and harms nothing else.
class trace_file {
 public:
  explicit trace_file(scheduler& traced);
  ~trace_file();
  trace_file(const trace_file&) = delete;
  trace_file& operator=(const trace_file&) = delete;

 private:
  scheduler& traced_;
  std::string path_;
  std::unique_ptr<trace::ring> ring_;
};

}  // namespace weft::sched
