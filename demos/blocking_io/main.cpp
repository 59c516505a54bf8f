// blocking_io: plain blocking code on thousands of user-level threads, and one kernel thread under all of them.
//
// It counts matching lines, as grep -r -c -F does, with a thread per file: open, read until the end, close (search.cpp).
// Beside them, on the same kernel thread: a web server with a thread per connection and a client that fetches its page
// (status_page.cpp), a child process fed and read through pipes (children.cpp), and a heartbeat that measures how long the
// processor ever kept it waiting. Every time one of them blocks, the kernel's upcall lets the scheduler run another.
// Then the same job by read(2) in a loop and by a kernel thread per file (other_ways.cpp), and a report: totals, times,
// upcalls by kind and cause, a timeline drawn in the terminal, and a trace to open in a browser.
//
//   build/release/demos/blocking_io [PATTERN] [PATH...]      --help tells the rest
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>
#include <weft/upcall.hpp>

#include "command_line.hpp"
#include "early_end.hpp"
#include "find_files.hpp"
#include "other_ways.hpp"
#include "report.hpp"
#include "text.hpp"

namespace {

constexpr int matched = 0;
constexpr int nothing_matched = 1;
constexpr int trouble = 2;

void complain(const std::string& sentence) {
  std::cout.flush();
  std::cerr << "blocking_io: " << printable(sentence) << '\n';
}

// Where weft writes its trace: where the user said, or beside the program, or among temporary files.
std::string choose_trace_file() {
  if (const char* const chosen = std::getenv("WEFT_TRACE"); chosen != nullptr && *chosen != '\0') return chosen;
  std::error_code ec;
  std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path();
  std::string name = "blocking_io.trace.json";
  if (ec || ::access(folder.c_str(), W_OK) != 0) {
    folder = std::filesystem::temp_directory_path(ec);
    name = "blocking_io." + std::to_string(::getpid()) + ".trace.json";
  }
  std::string chosen = (folder / name).string();
  ::setenv("WEFT_TRACE", chosen.c_str(), 1);
  return chosen;
}

// Devices and pipes may have taken the trace too, but there is nothing to open afterwards.
bool is_written(const std::string& trace_file) {
  std::error_code ec;
  return std::filesystem::is_regular_file(trace_file, ec) && std::filesystem::file_size(trace_file, ec) > 0 && !ec;
}

template <class Way> auto do_and_print(const std::string& name, Way way, const command_line& asked, const job& work) {
  if (!asked.warm) drop_from_cache(work.files);
  auto made = way(work);
  print_way(name, made);
  return made;
}

std::string and_more(const std::string& first, std::size_t all) {
  return first + (all > 1 ? " and " + grouped(all - 1) + " more" : "");
}

void complain_of(const found_files& found, const search_report& made) {
  for (const std::string& sentence : made.troubles) complain(sentence);
  if (!found.skipped.empty()) {
    complain("a pipe, socket or device is skipped, as by grep -r: " + and_more(found.skipped.front(), found.skipped.size()));
  }
  if (!made.binary.empty()) {
    complain("binary, so a NUL byte ends a line, as for grep -c: " + and_more(*made.binary.front(), made.binary.size()));
  }
  if (!made.sorted.trouble.empty()) complain("the child process: " + made.sorted.trouble);
  if (!made.seen.trouble.empty()) complain("the status page: " + made.seen.trouble);
}

// Our own trace is written while we search: it would be another file by the time grep looks at it.
void leave_out(std::vector<std::string>& paths, const std::string& trace_file) {
  std::error_code ignored;
  std::erase_if(paths, [&](const std::string& p) { return std::filesystem::equivalent(p, trace_file, ignored); });
}

int run_all(const command_line& asked) {
  found_files found = find_files(asked.paths);
  for (const std::string& sentence : found.troubles) complain(sentence);
  const std::string trace_file = choose_trace_file();
  leave_out(found.paths, trace_file);
  const std::size_t files_found = found.paths.size();
  if (files_found == 0) complain("nothing to search: no file in or below the paths given");
  thin_out(found.paths, asked.limit);
  const std::size_t open_at_once = allow_open_files(asked.open_at_once);
  static_cast<void>(weft::upcall::make_reactor(weft::upcall::transfer::automatic));  // a bad WEFT_TRANSFER is told now, not late
  early_end end;
  const job work{asked.pattern, std::move(found.paths), open_at_once, &end};
  const std::size_t columns = terminal_columns();

  print_job(asked, work, files_found, columns);
  print_ways_head();
  judges others;
  if (!asked.weft_only) {
    others.one_after_another = do_and_print("one after another, read(2)", one_after_another, asked, work);
    others.kernel_threads = do_and_print("a kernel thread per file", kernel_thread_per_file, asked, work);
  }
  const auto by_weft = [columns](const job& j) { return search(j, columns); };
  const search_report made = do_and_print("weft, a thread per file", by_weft, asked, work);
  print_ways_foot(asked, work, made);
  ::unsetenv("WEFT_TRACE");                 // the trace is written; what follows is not part of it
  if (!made.ended_by.empty()) others = {};  // they, or we, did not do all of it: there is nothing to compare
  if (!asked.weft_only && made.ended_by.empty()) others.grep = ask_grep(work);

  print_found(made, others, columns);
  print_meanwhile(made);
  print_upcalls(made.upcalls, columns);
  print_timeline(made, is_written(made.trace_file) ? made.trace_file : "");  // weft has said why, if it is not
  complain_of(found, made);
  if (!made.ended_by.empty()) {
    complain(made.ended_by + " ended it early: " + grouped(made.found.files) + " of " + counted(work.files.size(), "file") +
             " were searched");
  }
  print_last_line(made);
  if (!std::cout) throw std::runtime_error("cannot write the report to standard output");
  if (!found.troubles.empty() || !made.troubles.empty() || !made.ended_by.empty()) return trouble;
  return made.found.lines > 0 ? matched : nothing_matched;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a child that ends early is an error of write, not the end of us
  try {
    const command_line asked = parse(argc, argv);
    if (asked.help) {
      std::cout << help_text();
      return matched;
    }
    return run_all(asked);
  } catch (const usage_error& error) {
    complain(error.what());
    complain("--help tells how it is used");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return trouble;
}
