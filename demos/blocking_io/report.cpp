#include "report.hpp"

#include <iostream>
#include <string_view>
#include <vector>

#include "text.hpp"

namespace {

using weft::upcall::cause;
using weft::upcall::kind;

constexpr std::size_t label_width = 15;

// "  label         text"
void print_item(std::string_view label, const std::string& text) {
  std::cout << "  " << left(std::string(label), label_width) << text << '\n';
}

// As many of the paths as fit.
std::string joined(const std::vector<std::string>& paths, std::size_t width) {
  std::string text = shown(paths.front(), width - 20);
  for (std::size_t i = 1; i < paths.size(); ++i) {
    const std::string more = " and " + counted(paths.size() - i, "more path");
    if (text.size() + 2 + paths[i].size() + more.size() > width) return text + more;
    text += ", " + shown(paths[i], width);
  }
  return text;
}

// `parts` after `head`, separated by commas; continued below it where a line is full.
void print_list(const std::string& head, const std::vector<std::string>& parts, std::size_t columns) {
  std::string line = head;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::string part = parts[i] + (i + 1 < parts.size() ? "," : "");
    if (line.size() > head.size() && line.size() + 1 + part.size() > columns) {
      std::cout << line << '\n';
      line.assign(head.size(), ' ');
    }
    line += ' ' + part;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  std::cout << line << '\n';
}

std::string agreement(const search_report& made, const judges& others) {
  std::vector<std::string> agree;
  std::string differ;
  const auto compare = [&](const std::string& name, std::uint64_t lines) {
    if (lines == made.found.lines) {
      agree.push_back(name);
    } else {
      differ += "; " + name + " counted " + grouped(lines);
    }
  };
  if (others.one_after_another) compare("read(2)", others.one_after_another->found.lines);
  if (others.kernel_threads) compare("the kernel threads", others.kernel_threads->found.lines);
  if (others.grep) compare("grep -c -F", *others.grep);
  std::string text;
  for (std::size_t i = 0; i < agree.size(); ++i) text += (i == 0 ? "" : i + 1 == agree.size() ? " and " : ", ") + agree[i];
  if (!text.empty()) text += agree.size() == 1 ? " counts the same" : " count the same";
  if (!differ.empty()) text += (text.empty() ? differ.substr(2) : differ) + "\n  (did files change meanwhile?)";
  return text;
}

}  // namespace

void print_job(const command_line& asked, const job& work, std::size_t files_found, std::size_t columns) {
  std::cout << headline("blocking_io: a thread per file, plain blocking calls, one kernel thread") << "\n\n";
  print_item("looking for", '"' + shown(work.pattern, 60) + "\", as grep -r -c -F does");
  print_item("in", joined(asked.paths, columns - 2 - label_width));
  const bool all = work.files.size() == files_found;
  print_item("files", grouped(work.files.size()) +
                          (all ? "" : " of the " + grouped(files_found) + " there, evenly spread (--limit 0: all)"));
  std::cout << std::endl;
}

void print_ways_head() {
  std::cout << headline("The job in three ways") << '\n'
            << "  " << left("", 27) << right("wall", 11) << right("processor", 11) << right("from disk", 11) << "  kernel threads"
            << std::endl;
}

void print_way(const std::string& name, const outcome& made) {
  std::cout << "  " << left(name, 27) << right(milliseconds(made.paid.wall_ms), 11)
            << right(milliseconds(made.paid.processor_ms), 11)
            << right(made.paid.from_disk ? megabytes(*made.paid.from_disk) : "not told", 11) << "  "
            << right(grouped(made.paid.kernel_threads), 6) << std::endl;
}

void print_ways_foot(const command_line& asked, const job& work, const outcome& by_weft) {
  const std::size_t helpers = by_weft.paid.kernel_threads - 1;
  std::cout << (asked.warm ? "  The files were left in the page cache (--warm).\n"
                           : "  Before each, the kernel was asked to drop them from its cache (--warm: not).\n")
            << "  At most " << counted(work.open_at_once, "file") << " open at once. Beside the last ran all that follows.\n";
  if (helpers > 0) {
    std::cout << "  All of weft's threads ran on one; " << grouped(helpers) << " more waited for the disk for them.\n";
  }
  std::cout << '\n';
}

void print_found(const search_report& made, const judges& others, std::size_t columns) {
  std::cout << headline("Found by weft") << '\n';
  print_item("in all", counted(made.found.lines, "matching line") + " in " + counted(made.found.files, "file") + ", " +
                           megabytes(made.found.bytes));
  if (const std::string text = agreement(made, others); !text.empty()) print_item("", text);
  print_item("threads", "one per file, at most " + grouped(made.most_at_once) + " at the same time");
  for (std::size_t i = 0; i < made.sorted.top.size(); ++i) {
    const file_count& most = made.sorted.top[i];
    print_item(i == 0 ? "most lines" : "", right(grouped(most.lines), 7) + "  " + shown(*most.path, columns - label_width - 11));
  }
  std::cout << '\n';
}

void print_meanwhile(const search_report& made) {
  std::cout << headline("Meanwhile, on the same kernel thread") << '\n';
  if (made.sorted.child != 0) {
    print_item("child process", "sort (pid " + std::to_string(made.sorted.child) + "): " + grouped(made.sorted.lines_fed) +
                                    " counts in, " + grouped(made.sorted.lines_back) + " back, through pipes");
  }
  print_item("status page", "http://" + made.page + "/ fetched " + counted(made.seen.pages.size(), "time") + ", in " +
                                milliseconds(made.seen.slowest_ms) + " at most");
  if (!made.seen.pages.empty()) print_item("  halfway", made.seen.pages[made.seen.pages.size() / 2]);
  print_item("heartbeat", counted(made.pulse.beats, "beat") + ", a millisecond apart; the latest came " +
                              milliseconds(made.pulse.longest_gap_ms) + " late");
  if (made.paid.kept_waiting_ms > 0.05 * made.paid.wall_ms) {
    print_item("", "(other programs kept our kernel thread waiting for " + milliseconds(made.paid.kept_waiting_ms) + ')');
  }
  std::cout << '\n';
}

void print_upcalls(const weft::upcall::tally& upcalls, std::size_t columns) {
  std::cout << headline("Upcalls: what the kernel told the scheduler") << '\n';
  for (std::size_t k = 0; k < weft::upcall::kind_count; ++k) {
    const auto what = static_cast<kind>(k);
    std::vector<std::string> parts;
    for (std::size_t c = 0; c < weft::upcall::cause_count; ++c) {
      const auto why = static_cast<cause>(c);
      const std::uint64_t count = upcalls.of(what, why);
      if (count != 0) parts.push_back(std::string(weft::upcall::name(why)) + ' ' + grouped(count));
    }
    const std::string label(weft::upcall::name(what));
    print_list("  " + left(label, label_width) + right(grouped(upcalls.of(what)), 10) + "  ", parts, columns);
  }
  std::cout << '\n';
}

void print_timeline(const search_report& made, const std::string& trace_file) {
  if (!made.timeline.empty()) std::cout << headline("Timeline: who ran when") << '\n' << made.timeline << '\n';
  if (!trace_file.empty()) {
    std::cout << "Trace of " << grouped(made.events) << " events: " << trace_file << '\n'
              << "  to look at it: open https://ui.perfetto.dev and drop the file there\n\n";
  }
}

void print_last_line(const search_report& made) {
  std::cout << "files=" << made.found.files << " matching_lines=" << made.found.lines
            << " blocked=" << made.upcalls.of(kind::blocked) << " unblocked=" << made.upcalls.of(kind::unblocked)
            << " preempted=" << made.upcalls.of(kind::preempted) << " longest_gap_ms=" << fixed(made.pulse.longest_gap_ms, 3)
            << " wall_ms=" << fixed(made.paid.wall_ms, 3) << std::endl;
}
