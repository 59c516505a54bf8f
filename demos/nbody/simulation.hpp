// One run of the galaxy: the program whose time is measured, the same text for every kind of thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

/// What is computed, and with how much memory.
struct problem {
  std::size_t bodies = 8000;
  std::size_t group = 8;                      ///< bodies whose pull one thread computes
  std::size_t at_once = 32;                   ///< threads there are at once
  int steps = 3;                              ///< of time
  std::size_t pages = 40;                     ///< that all cells of the tree fill
  std::size_t memory_percent = 100;           ///< so many of them are in memory at once
  std::chrono::microseconds disk_time{2000};  ///< a miss blocks its thread for so long
};

/// How a run went.
struct run_result {
  double milliseconds = 0;
  std::uint64_t misses = 0;
  std::uint64_t fingerprint = 0;  ///< of where the bodies are in the end
};

[[nodiscard]] run_result run_on_kernel_threads(const problem& wanted);
/// User-level threads whose misses the scheduler does not hear of: each stops its processor.
[[nodiscard]] run_result run_without_upcalls(const problem& wanted);
/// The same, each miss inside weft::blocking.
[[nodiscard]] run_result run_with_upcalls(const problem& wanted);
