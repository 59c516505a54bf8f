// Rows that are measured inside a scheduler.
#pragma once

#include <weft/runtime.hpp>

#include <utility>
#include <vector>

#include "program.hpp"

namespace bench {

/// The same rows, each measured inside a scheduler, as its first thread.
inline std::vector<row> within_weft(std::vector<row> rows) {
  for (row& each : rows) each.measure = [measure = std::move(each.measure)] { return weft::run(measure); };
  return rows;
}

}  // namespace bench
