// What the terminal shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "command_line.hpp"
#include "find_files.hpp"
#include "job.hpp"
#include "search.hpp"

/// What is going to be done.
void print_job(const command_line& asked, const job& work, std::size_t files_found, std::size_t columns);

/// The table that compares: its head, then a row as soon as its numbers are there.
void print_ways_head();
void print_way(const std::string& name, const outcome& made);
void print_ways_foot(const command_line& asked, const job& work, const outcome& by_weft);

/// Everything about the search by weft but the last line.
struct judges {
  std::optional<std::uint64_t> grep;  ///< matching lines by grep; none: there is no grep
  std::optional<outcome> one_after_another;
  std::optional<outcome> kernel_threads;
};
void print_found(const search_report& made, const judges& others, std::size_t columns);
void print_meanwhile(const search_report& made);
void print_upcalls(const weft::upcall::tally& upcalls, std::size_t columns);
void print_timeline(const search_report& made, const std::string& trace_file);

/// "files=N matching_lines=N blocked=N unblocked=N preempted=N longest_gap_ms=X wall_ms=X", for programs.
void print_last_line(const search_report& made);
