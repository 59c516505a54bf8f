#include "children.hpp"

#include <array>
#include <charconv>
#include <string_view>
#include <system_error>
#include <weft/process.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

namespace {

// Calls `take(line)` for each line that comes out of the pipe.
template <class Take> void read_lines(weft::pipe_reader& from, Take take) {
  std::string rest;
  std::array<char, 16 * 1024> buffer;
  while (const std::size_t n = from.read(buffer)) {
    rest.append(buffer.data(), n);
    std::size_t begin = 0;
    for (std::size_t end; (end = rest.find('\n', begin)) != std::string::npos; begin = end + 1) {
      take(std::string_view(rest).substr(begin, end - begin));
    }
    rest.erase(0, begin);
  }
}

std::uint64_t number_before(std::string_view text, char end) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.find(end), value);
  return value;
}

weft::process start(std::initializer_list<std::string> arguments) {
  return weft::process::spawn(arguments, {.in = weft::stdio::pipe(), .out = weft::stdio::pipe(), .err = weft::stdio::null()});
}

}  // namespace

sorted_counts sort_counts(weft::channel<file_count>& counts, const job& work) {
  constexpr std::size_t wanted = 5;
  sorted_counts made;
  try {
    // A line is "COUNT INDEX": paths may hold anything, line breaks too. A terminal sends Ctrl-C to the child too: it is for us
    // to say when nothing more comes.
    weft::process sort = start({"sh", "-c", "trap '' INT; LC_ALL=C exec sort -k1,1nr -k2,2n"});
    made.child = sort.pid();
    weft::jthread reader({.name = "from sort"}, [&] {
      read_lines(sort.out(), [&](std::string_view line) {
        ++made.lines_back;
        const auto index = static_cast<std::size_t>(number_before(line.substr(line.find(' ') + 1), '\0'));
        const std::uint64_t lines = number_before(line, ' ');
        if (made.top.size() < wanted && lines > 0 && index < work.files.size()) made.top.push_back({&work.files[index], lines});
      });
    });
    for (const file_count& count : counts) {
      const auto index = static_cast<std::size_t>(count.path - work.files.data());
      sort.in().write_all(std::to_string(count.lines) + ' ' + std::to_string(index) + '\n');
      ++made.lines_fed;
    }
    sort.in().close();
    reader.join();
    if (const weft::exit_status status = sort.wait(); !status.success()) made.trouble = "sort " + status.to_string();
  } catch (const std::system_error& error) {
    made.trouble = error.what();
  }
  for (const file_count& unsorted : counts) static_cast<void>(unsorted);
  return made;
}

std::optional<std::uint64_t> ask_grep(const job& work) {
  return weft::run([&]() -> std::optional<std::uint64_t> {
    try {
      weft::process grep =
          start({"env", "LC_ALL=C", "xargs", "-0", "-r", "grep", "-c", "-h", "-s", "-F", "-e", work.pattern, "--"});
      weft::jthread feeder({.name = "to grep"}, [&] {
        std::error_code gone;
        for (const std::string& path : work.files) {
          grep.in().write_all(std::string_view(path.c_str(), path.size() + 1), gone);
          if (gone) break;
        }
        grep.in().close();
      });
      std::uint64_t sum = 0;
      read_lines(grep.out(), [&](std::string_view line) { sum += number_before(line, '\n'); });
      feeder.join();
      const weft::exit_status status = grep.wait();
      const bool ran = status.signal == 0 && status.code != 126 && status.code != 127;  // 123: a grep found nothing
      return ran ? std::optional(sum) : std::nullopt;
    } catch (const std::system_error&) {
      return std::nullopt;
    }
  });
}
