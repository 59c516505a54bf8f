// The job done with weft, and all that runs beside it on the same kernel thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>
#include <weft/upcall.hpp>

#include "children.hpp"
#include "job.hpp"
#include "status_page.hpp"

/// How long a thread that wants to run every millisecond had to wait for the processor.
struct heartbeat {
  std::uint64_t beats = 0;
  double longest_gap_ms = 0;  ///< beyond the millisecond it asked for
};

struct search_report : outcome {
  std::vector<std::string> troubles;       ///< a sentence per file that could not be read, in the order of the job
  std::vector<const std::string*> binary;  ///< files with a NUL byte
  std::size_t most_at_once = 0;            ///< threads per file that were there at the same time
  std::string ended_by;                    ///< the signal that asked for an early end; usually empty
  sorted_counts sorted;
  visits seen;
  std::string page;  ///< the address of the status page
  heartbeat pulse;
  weft::upcall::tally upcalls;
  std::string timeline;      ///< empty when tracing is off
  std::uint64_t events = 0;  ///< in the trace
  std::string trace_file;    ///< where weft writes it; empty when tracing is off
};

/// Searches every file in a thread of its own, until the job's end is asked for. Calls weft::run.
/// @param columns the width of the timeline
/// @throws std::system_error when weft cannot run here
[[nodiscard]] search_report search(const job& work, std::size_t columns);
