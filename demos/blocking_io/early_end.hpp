// Ctrl-C as input: whoever ends the demo early still gets the report of what was done.
#pragma once

#include <string>
#include <weft/io.hpp>

/// From its making on, SIGINT and SIGTERM wait to be read. Make it before any kernel thread is started, because each inherits
/// the mask of the one that starts it.
class early_end {
 public:
  /// @throws std::system_error when there is no descriptor left
  early_end();

  /// True when one has arrived that nobody has read. Costs a system call.
  [[nodiscard]] bool asked_for() const noexcept;

  /// Waits for one and reads it. @returns its name; "" when `give_up` came first. In a weft thread.
  [[nodiscard]] std::string wait();
  void give_up() noexcept;

 private:
  weft::io::descriptor descriptor_;
};
