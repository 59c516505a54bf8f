// Finds the row that the command line names, runs it and prints its figure.
#include "program.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "measure.hpp"

namespace bench {
namespace {

std::string running_row;

using row_groups = std::initializer_list<std::vector<row>>;

const row* find(row_groups groups, const std::string& name) {
  for (const auto& rows : groups) {
    for (const row& candidate : rows) {
      if (candidate.name == name) return &candidate;
    }
  }
  return nullptr;
}

void list(row_groups groups) {
  for (const auto& rows : groups) {
    for (const row& each : rows) std::printf("%s\n", each.name.c_str());
  }
}

}  // namespace

void print_figure(const std::string& name, double figure) {
  std::printf("%s=%.6g\n", name.c_str(), figure);
  std::fflush(stdout);
}

// No destructor runs and no atexit handler: a row may leave a million threads parked.
void finish_row(double figure) {
  print_figure(running_row, figure);
  std::_Exit(0);
}

int run_row(int argc, char** argv, row_groups groups) try {
  if (argc < 2) {
    list(groups);
    return 0;
  }
  running_row = argv[1];
  const row* const wanted = find(groups, running_row);
  if (wanted == nullptr) fail("no row is called " + running_row);
  pin_to_core(measured_core);
  raise_descriptor_limit();
  finish_row(wanted->measure());
} catch (const std::exception& error) {
  fail(running_row + ": " + error.what());
}

}  // namespace bench
