// Child processes: started without copying the program, fed and read through pipes, waited for by parking one thread.
//
//   weft::process sort = weft::process::spawn({"sort", "-n"}, {.in = weft::stdio::pipe(), .out = weft::stdio::pipe()});
//   sort.in().write_all("2\n1\n");
//   sort.in().close();
//   std::size_t n = sort.out().read(text);
//   weft::exit_status status = sort.wait();
//
// This is the way to start programs from weft: after a plain fork only the calling kernel thread lives on in the child.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "weft/file.hpp"
#include "weft/io.hpp"

namespace weft {

/// How a process ended.
struct exit_status {
  int code = 0;    ///< what it returned from main or gave to exit (0 to 255); meaningless when a signal ended it
  int signal = 0;  ///< the number of the signal that ended it; 0: none did
  /// True when it ended by itself with code 0.
  [[nodiscard]] bool success() const noexcept { return code == 0 && signal == 0; }
  /// "exited with 1", "killed by signal 9 (Killed)".
  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const exit_status&, const exit_status&) noexcept = default;
};

/// What a child's standard input, output or error is.
class stdio {
 public:
  [[nodiscard]] static stdio inherit() noexcept { return stdio(kind::inherit, -1); }  ///< the same as ours (the default)
  [[nodiscard]] static stdio null() noexcept { return stdio(kind::null, -1); }        ///< /dev/null
  [[nodiscard]] static stdio pipe() noexcept { return stdio(kind::pipe, -1); }        ///< a pipe whose other end `process` has
  /// An open descriptor of ours, which stays ours: a file to write to, an end of a `weft::pipe` between two children, …
  /// A non-blocking socket stays so for the child; of a pipe it gets an end of its own that blocks as programs expect.
  [[nodiscard]] static stdio use(int fd) noexcept { return stdio(kind::use, fd); }
  [[nodiscard]] static stdio use(const io::descriptor& d) noexcept { return use(d.get()); }

  stdio() noexcept = default;

 private:
  friend struct spawn_request;
  enum class kind : unsigned char { inherit, null, pipe, use };
  stdio(kind what, int fd) noexcept : kind_(what), fd_(fd) {}
  kind kind_ = kind::inherit;
  int fd_ = -1;
};

/// How a child starts. Every member has a default.
struct process_options {
  stdio in{};
  stdio out{};
  stdio err{};
  std::string directory{};                                    ///< its working directory; "": ours
  std::optional<std::vector<std::string>> environment{};      ///< its environment, "NAME=value" each; none given: ours
};

/// A child process of which nobody but this object takes the exit status.
///
/// Works beside a program's own SIGCHLD handler, also one that reaps every child: the status then comes from the kernel's
/// record of the process where it keeps one (Linux 6.15), else `wait` fails with no_child_process. A running child is not
/// left behind: destroying its object closes our ends of its pipes, kills it (SIGKILL) and reaps it; `detach` lets it live.
class process {
 public:
  /// No child.
  process() noexcept = default;

  /// Starts `arguments[0]` (searched in our PATH unless it has a '/') with `arguments`. The child gets no descriptor but its
  /// standard ones, an empty signal mask, and the default action for SIGPIPE and for what a handler of ours caught.
  /// Blocks only until the new program runs, ≈ 0.3–1 ms, as posix_spawn(3) does; needs no weft thread.
  /// @throws std::system_error with the program's name in its text: no_such_file_or_directory, permission_denied, …;
  ///         invalid_argument when `arguments` is empty.
  [[nodiscard]] static process spawn(std::span<const std::string> arguments, const process_options& how = {});
  [[nodiscard]] static process spawn(std::span<const std::string> arguments, const process_options& how, std::error_code& ec);
  [[nodiscard]] static process spawn(std::initializer_list<std::string> arguments, const process_options& how = {}) {
    return spawn(std::span<const std::string>(arguments.begin(), arguments.size()), how);
  }
  [[nodiscard]] static process spawn(std::initializer_list<std::string> arguments, const process_options& how,
                                     std::error_code& ec) {
    return spawn(std::span<const std::string>(arguments.begin(), arguments.size()), how, ec);
  }

  process(process&& other) noexcept;
  process& operator=(process&& other) noexcept;
  ~process();

  [[nodiscard]] explicit operator bool() const noexcept { return pid_ > 0; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }  ///< its number; 0: no child. Others' after `wait`, perhaps

  /// Our ends of the child's pipes; empty unless asked for with `stdio::pipe`. Close `in()` to let the child read its end of
  /// input. A child that fills a pipe nobody reads stops there: read `out()` and `err()` in a thread each. A child that ends
  /// before it has read all makes `in()` fail with broken_pipe; a program that feeds children ignores SIGPIPE (io.hpp).
  [[nodiscard]] pipe_writer& in() noexcept { return in_; }
  [[nodiscard]] pipe_reader& out() noexcept { return out_; }
  [[nodiscard]] pipe_reader& err() noexcept { return err_; }

  /// Waits until the child has ended; again, and in several threads, gives the same status. Does not close pipes.
  /// @throws std::system_error: timed_out, no_child_process (see above), invalid_argument without a child; weft::cancelled.
  exit_status wait(time_point deadline = never);
  exit_status wait(std::error_code& ec, time_point deadline = never);

  /// Sends `signal`; to this very child, never to a later process with its number. A child that has ended: nothing.
  void kill(int signal);
  void kill(int signal, std::error_code& ec);

  /// Lets the child live on without this object, which has no child afterwards; our pipe ends close. It is reaped, once it
  /// has ended, by a later spawn of this program.
  void detach() noexcept;

 private:
  friend struct spawn_request;
  void end() noexcept;
  bool collect(std::error_code& ec) noexcept;

  pid_t pid_ = 0;
  io::descriptor handle_;  // the pidfd
  std::optional<exit_status> status_;
  pipe_writer in_;
  pipe_reader out_;
  pipe_reader err_;
};

}  // namespace weft
