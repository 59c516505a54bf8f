// What the command lines of the demos have in common: options with numbers, and errors that are a sentence.
#pragma once

#include <fcntl.h>

#include <charconv>
#include <cstdint>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace demo {

/// Walks over the arguments: `for (arguments left(argc, argv); left.more();) { … left.next() … }`.
class arguments {
 public:
  arguments(int argc, char** argv) : argc_(argc), argv_(argv) {}
  [[nodiscard]] bool more() const { return at_ < argc_; }
  std::string_view next() { return argv_[at_++]; }

  /// The number that follows `option`, from `least` to `most`. @throws std::invalid_argument with a sentence
  std::uint64_t number(std::string_view option, std::uint64_t least, std::uint64_t most) {
    const std::string_view text = more() ? next() : std::string_view();
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (!text.empty() && error == std::errc{} && end == text.data() + text.size() && value >= least && value <= most)
      return value;
    throw std::invalid_argument(std::string(option) + " wants a number from " + std::to_string(least) + " to " +
                                std::to_string(most) + ", not \"" + std::string(text) + "\"");
  }

 private:
  int argc_;
  char** argv_;
  int at_ = 1;
};

[[noreturn]] inline void refuse_argument(std::string_view argument) {
  throw std::invalid_argument("there is no argument \"" + std::string(argument) + "\"; --help tells which there are");
}

/// Calls `body()`, the rest of main, and returns its exit status; 2 with a sentence on standard error when it throws, or when
/// what it printed could not be written.
template <class Body> int run_main(const char* program, Body body) {
  // Otherwise the first descriptor that is opened would take the place of the one that is missing, and be printed to.
  for (const int standard : {0, 1, 2}) {
    if (::fcntl(standard, F_GETFD) < 0 && ::open("/dev/null", O_RDWR) != standard) return 2;
  }
  try {
    const int status = body();
    if (std::cout.flush()) return status;
    std::cerr << program << ": could not write all of the output\n";
  } catch (const std::exception& error) {
    std::cout.flush();
    std::cerr << program << ": " << error.what() << '\n';
  }
  return 2;
}

}  // namespace demo
