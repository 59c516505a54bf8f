// What the user asked for.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

/// A command line that makes no sense; what() is a sentence.
struct usage_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

struct command_line {
  std::string pattern = "thread";
  std::vector<std::string> paths;   ///< files and directories; the default ones when the user named none
  std::size_t limit = 0;            ///< search at most so many files; 0: all
  std::size_t open_at_once = 1024;  ///< files open at the same time, and kernel threads in the comparison
  bool warm = false;                ///< leave the files in the page cache
  bool weft_only = false;           ///< no comparison
  bool help = false;
};

/// @throws usage_error
[[nodiscard]] command_line parse(int argc, char** argv);

[[nodiscard]] const char* help_text();
