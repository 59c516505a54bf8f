// pipeline: counts lines and words of files as a pipeline of threads, and prints the most frequent words.
//
// It shows: a stream built with `|` from stages that each have threads of their own (weft/pipeline.hpp). Files are read by
// several workers, a pipeline of lines for each, and still leave in order; weft::tee gives every line to two readers, one that
// counts lines and finds the longest, one that splits them into words, on workers whose results leave as they are made. The
// stages run ahead of one another only as far as their buffers let them, so files of any size take little memory. No joins, no
// closes: when the readers are done, or one of them fails, every thread before them has ended.
//
//   build/release/demos/pipeline [FILE...]         without files it reads its own source; --help tells the rest
//   build/release/demos/pipeline /usr/include/*.h  compare with: cat /usr/include/*.h | wc -lw
//
// Last line, for machines: files=… lines=… words=… distinct=…
#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>
#include <weft/channel.hpp>
#include <weft/file.hpp>
#include <weft/nursery.hpp>
#include <weft/pipeline.hpp>
#include <weft/runtime.hpp>

#include "command_line.hpp"

namespace {

namespace stages = weft::stages;

constexpr std::string_view help =
    "Usage: pipeline [OPTION...] [FILE...]\n"
    "\n"
    "Counts the lines and words of the files, as wc -lw does, and prints the longest\n"
    "line and the most frequent words. Without files it reads its own source.\n"
    "  --top N       print the N most frequent words, 0 to 1000; default 5\n"
    "  --workers N   files that are read at once, and threads that split lines, 1 to\n"
    "                1000; default 4\n"
    "  --help        say this\n"
    "Words are what lies between white space. The longest line is the first of its\n"
    "length, in the order of the files. A file that cannot be read gets a sentence on\n"
    "standard error, and the exit status is 2.\n";

struct order {
  std::vector<std::string> files;
  std::size_t top = 5;
  std::size_t workers = 4;
};

struct line {
  const std::string* file;
  std::uint64_t number;
  std::string text;  // without its end
  bool ended;        // by a line break: the last line may lack it
};

struct totals {
  std::size_t files = 0;
  std::uint64_t lines = 0;
  line longest{nullptr, 0, "", false};
  std::uint64_t words = 0;
  std::map<std::string, std::uint64_t> times;  // by word
  bool trouble = false;
};

// Fit for a terminal of 80 columns, whatever is in the files.
std::string shown(std::string_view text, std::size_t columns) {
  std::string fit;
  for (const char c : text.substr(0, columns)) fit += c >= ' ' && c <= '~' ? c : '?';
  return text.size() > columns ? fit + "..." : fit;
}

// Sends the lines of one file. Only the thread that reads it waits for the disk.
void read_lines(const std::string& path, weft::channel<line>& out) {
  weft::file file(path);
  std::string part(64 * 1024, '\0');
  std::string text;
  std::uint64_t number = 0;
  while (const std::size_t n = file.read(part)) {
    std::string_view rest(part.data(), n);
    for (std::size_t end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
      text += rest.substr(0, end);
      rest.remove_prefix(end + 1);
      out.send({&path, ++number, std::exchange(text, {}), true});
    }
    text += rest;
  }
  if (!text.empty()) out.send({&path, number + 1, std::move(text), false});
}

std::vector<std::string> words_of(const line& from) {
  std::vector<std::string> words;
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  for (auto at = from.text.begin(); at != from.text.end();) {
    const auto begin = std::find_if_not(at, from.text.end(), space);
    at = std::find_if(begin, from.text.end(), space);
    if (begin != at) words.emplace_back(begin, at);
  }
  return words;
}

void count_lines(weft::pipeline<line> lines, totals& sums) {
  for (line& each : lines) {
    sums.lines += each.ended ? 1 : 0;  // as wc counts
    if (each.text.size() > sums.longest.text.size()) sums.longest = std::move(each);
  }
}

void count_words(weft::pipeline<line> lines, totals& sums, std::size_t workers) {
  const weft::stage_options side_by_side{.workers = workers, .ordered = false, .buffer = 64};
  for (const std::string& word : std::move(lines) | stages::expand(words_of, side_by_side)) {
    ++sums.words;
    ++sums.times[word];
  }
}

totals count(const order& asked) {
  totals sums;
  const auto lines_of = [&](const std::string* path) {
    return weft::generate<line>(
        [&sums, path](weft::channel<line>& out) {
          try {
            read_lines(*path, out);
            ++sums.files;
          } catch (const weft::channel_closed&) {  // nobody reads any more
            throw;
          } catch (const std::system_error& error) {
            std::cerr << "pipeline: cannot read '" << shown(*path, 200) << "': " << error.code().message() << '\n';
            sums.trouble = true;
          }
        },
        {.buffer = 64});
  };
  std::vector<const std::string*> paths;  // lines refer to them
  for (const std::string& each : asked.files) paths.push_back(&each);
  auto lines = paths | stages::expand(lines_of, {.workers = asked.workers});
  auto [for_lines, for_words] = weft::tee<2>(std::move(lines), {.buffer = 64});
  weft::with_nursery([&, &a = for_lines, &b = for_words](weft::nursery& readers) {
    readers.spawn([&] { count_lines(std::move(a), sums); });
    readers.spawn([&] { count_words(std::move(b), sums, asked.workers); });
  });
  return sums;
}

void print(const totals& sums, std::size_t top) {
  std::cout << sums.files << (sums.files == 1 ? " file, " : " files, ") << sums.lines << " lines, " << sums.words << " words, "
            << sums.times.size() << " of them different\n";
  if (sums.longest.file != nullptr) {
    std::cout << "longest line: " << sums.longest.text.size() << " bytes, line " << sums.longest.number << " of "
              << shown(*sums.longest.file, 200) << "\n  " << shown(sums.longest.text, 72) << '\n';
  }
  std::vector<std::pair<std::string, std::uint64_t>> words(sums.times.begin(), sums.times.end());
  const auto first = words.begin() + static_cast<std::ptrdiff_t>(std::min(top, words.size()));
  std::partial_sort(words.begin(), first, words.end(),
                    [](const auto& a, const auto& b) { return a.second != b.second ? a.second > b.second : a.first < b.first; });
  if (first != words.begin()) std::cout << "most frequent:\n";
  for (auto each = words.begin(); each != first; ++each) {
    std::cout << "  " << each->second << "  " << shown(each->first, 60) << '\n';
  }
  std::cout << "files=" << sums.files << " lines=" << sums.lines << " words=" << sums.words << " distinct=" << sums.times.size()
            << '\n';
}

// Found from the program's place or from the current directory.
std::string own_source() {
  std::error_code ec;
  const std::filesystem::path starts[] = {std::filesystem::read_symlink("/proc/self/exe", ec),
                                          std::filesystem::current_path(ec) / "."};
  for (std::filesystem::path at : starts) {
    while (at.has_relative_path()) {
      at = at.parent_path();
      if (std::filesystem::exists(at / "demos/pipeline.cpp", ec)) return (at / "demos/pipeline.cpp").string();
    }
  }
  throw std::invalid_argument("its own source is neither above the program nor above this folder: name a file");
}

int count_as_asked(int argc, char** argv) {
  order asked;
  bool only_files = false;
  for (demo::arguments left(argc, argv); left.more();) {
    const std::string_view argument = left.next();
    if (only_files || !argument.starts_with('-')) {
      asked.files.emplace_back(argument);
    } else if (argument == "--") {
      only_files = true;
    } else if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    } else if (argument == "--top") {
      asked.top = left.number(argument, 0, 1000);
    } else if (argument == "--workers") {
      asked.workers = left.number(argument, 1, 1000);
    } else {
      demo::refuse_argument(argument);
    }
  }
  if (asked.files.empty()) asked.files.push_back(own_source());
  const totals sums = weft::run([&] { return count(asked); });
  print(sums, asked.top);
  return sums.trouble ? 2 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  return demo::run_main("pipeline", [&] { return count_as_asked(argc, argv); });
}
