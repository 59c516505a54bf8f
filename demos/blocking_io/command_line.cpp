#include "command_line.hpp"

#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>

namespace {

constexpr std::size_t default_limit = 5000;  // so that the whole demo ends in seconds, also on a slow disk

// The project's own sources, found from the program's place or from the current directory; empty when neither is in it.
std::vector<std::string> project_sources() {
  std::error_code ec;
  const std::filesystem::path starts[] = {std::filesystem::read_symlink("/proc/self/exe", ec).parent_path(),
                                          std::filesystem::current_path(ec)};
  for (const std::filesystem::path& start : starts) {
    for (std::filesystem::path at = start; at.has_relative_path(); at = at.parent_path()) {
      if (!std::filesystem::exists(at / "include/weft/runtime.hpp", ec)) continue;
      std::vector<std::string> found;
      for (const char* folder : {"include", "sched", "upcall", "ipc", "demos", "tests", "bench", "docs"}) {
        if (std::filesystem::is_directory(at / folder, ec)) found.push_back((at / folder).string());
      }
      return found;
    }
  }
  return {};
}

void use_defaults(command_line& asked, bool limit_given) {
  std::error_code ec;
  if (std::filesystem::is_directory("/usr/include", ec)) asked.paths.emplace_back("/usr/include");
  const std::vector<std::string> ours = project_sources();
  asked.paths.insert(asked.paths.end(), ours.begin(), ours.end());
  if (asked.paths.empty()) throw usage_error("there are neither headers in /usr/include nor this project's sources: name a path");
  if (!limit_given) asked.limit = default_limit;
}

std::size_t number(std::string_view option, const char* text, std::size_t least) {
  std::size_t value = 0;
  const std::string_view all = text == nullptr ? "" : text;
  const auto [end, error] = std::from_chars(all.data(), all.data() + all.size(), value);
  if (all.empty() || error != std::errc{} || end != all.data() + all.size() || value < least) {
    throw usage_error(std::string(option) + " wants a number from " + std::to_string(least) + ", not \"" + std::string(all) +
                      "\"");
  }
  return value;
}

void check_pattern(std::string_view pattern) {
  if (pattern.empty()) throw usage_error("the pattern is empty: every line would match; give a word to look for");
  if (pattern.find('\n') != std::string_view::npos) throw usage_error("the pattern has a line break in it: no line can match it");
}

}  // namespace

command_line parse(int argc, char** argv) {
  command_line asked;
  std::vector<std::string> words;
  bool only_words = false;
  bool limit_given = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (only_words || !argument.starts_with('-') || argument == "-") {
      words.emplace_back(argument);
    } else if (argument == "--") {
      only_words = true;
    } else if (argument == "--help" || argument == "-h") {
      asked.help = true;
      return asked;
    } else if (argument == "--warm") {
      asked.warm = true;
    } else if (argument == "--weft-only") {
      asked.weft_only = true;
    } else if (argument == "--limit") {
      asked.limit = number(argument, argv[++i], 0);
      limit_given = true;
    } else if (argument == "--at-once") {
      asked.open_at_once = number(argument, argv[++i], 1);
    } else {
      throw usage_error("there is no option \"" + std::string(argument) + "\" (a pattern that begins with '-' goes after --)");
    }
  }
  if (!words.empty()) asked.pattern = words.front();
  check_pattern(asked.pattern);
  if (words.size() > 1) {
    asked.paths.assign(words.begin() + 1, words.end());
  } else {
    use_defaults(asked, limit_given);
  }
  return asked;
}

const char* help_text() {
  return "Usage: blocking_io [OPTION...] [PATTERN] [PATH...]\n"
         "\n"
         "Counts the lines that contain PATTERN, a fixed string, in every file in and below\n"
         "the PATHs, as `grep -r -c -F PATTERN PATH...` does: with a user-level thread per\n"
         "file, which reads it by plain blocking calls, all on one kernel thread. Meanwhile\n"
         "it serves a status page, feeds a child process and watches that nobody waits long.\n"
         "Beside it, the same job by two other means. At the end: what was found, what it\n"
         "cost, what the kernel told the scheduler, and a timeline.\n"
         "\n"
         "  PATTERN       default: thread\n"
         "  PATH          default: this project's sources and /usr/include, of which at most\n"
         "                5,000 files, evenly spread, so that it ends in seconds\n"
         "  --limit N     at most N files; 0: all. The demo's own trace file is not searched\n"
         "  --at-once N   at most N files open at once; default 1024\n"
         "  --warm        leave the files in the page cache; without it they are dropped from\n"
         "                it before each way of doing the job, so that all read the disk\n"
         "  --weft-only   leave the other ways out\n"
         "  --help        say this\n"
         "\n"
         "Symbolic links are followed when named, not when met. Pipes, sockets and devices\n"
         "are skipped. A trace is written to $WEFT_TRACE, or beside the program.\n"
         "Ctrl-C (SIGINT) and SIGTERM end the search, not the report of what was found.\n"
         "Exit status, as grep's: 0 a line matched, 1 none did, 2 something went wrong (a\n"
         "sentence on standard error says what; the rest was searched all the same) or the\n"
         "search was ended early.\n";
}
