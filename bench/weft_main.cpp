// weft itself, measured.
#include <weft/runtime.hpp>

#include <utility>

#include "weft_rows.hpp"

std::vector<bench::row> bench::within_weft(std::vector<row> rows) {
  for (row& each : rows) each.measure = [measure = std::move(each.measure)] { return weft::run(measure); };
  return rows;
}

int main(int argc, char** argv) { return bench::run_row(argc, argv, {bench::weft_thread_rows(), bench::weft_io_rows()}); }
