// One spawn: the child's descriptors, attributes and posix_spawn(3). Used by process.cpp alone.
#pragma once

#include <spawn.h>

#include <array>
#include <span>
#include <string>

#include "weft/process.hpp"

namespace weft {

/// Gathers what a child needs; everything not handed over is closed again by the destructor.
struct spawn_request {
  spawn_request();
  ~spawn_request();
  spawn_request(const spawn_request&) = delete;
  spawn_request& operator=(const spawn_request&) = delete;

  /// Starts the child. @returns 0 or an errno value; then `made` has its number, its pidfd and our ends of its pipes.
  [[nodiscard]] int start(std::span<const std::string> arguments, const process_options& how, process& made);

 private:
  int set_signals();
  int set_stream(int target, const stdio& what);
  int give(int target, int fd);
  int launch(std::span<const std::string> arguments, const process_options& how, pid_t& pid);
  int launch_and_hold(std::span<const std::string> arguments, const process_options& how, process& made);

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
  std::array<io::descriptor, 3> childs_;  // copies that only the child needs
  std::array<io::descriptor, 3> ours_;    // our ends of pipes
};

}  // namespace weft
