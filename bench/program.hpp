// The shape of a bench program: a table of rows, called by name.
//
// `bench_X ROW` prints `ROW=figure`; a row may print further `name=figure` lines. `bench_X` alone lists its rows, which is
// how the runner learns where a peer applies.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace bench {

struct row {
  std::string name;
  std::function<double()> measure;  // returns the figure, in the row's unit
};

/// Runs the row that the command line names, found in one of `groups`, pinned to the measured core. For main to return.
int run_row(int argc, char** argv, std::initializer_list<std::vector<row>> groups);

/// Prints `name=figure` for the runner.
void print_figure(const std::string& name, double figure);

/// Prints the figure of the running row and ends the program at once, leaving whatever it parked where it is.
[[noreturn]] void finish_row(double figure);

}  // namespace bench
