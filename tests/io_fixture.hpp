// What the tests of blocking operations share: throw-away directories, and the error a call ends with.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "weft/io.hpp"
#include "weft/thread.hpp"

/// A directory of its own for one test case, removed with everything in it.
class temporary_directory {
 public:
  temporary_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "weft-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    path_ = name;
  }
  ~temporary_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// The code and the text of the std::system_error that `call` throws; no error when it throws none.
struct failure {
  std::error_code code;
  std::string text;
  [[nodiscard]] bool says(const std::string& words) const { return text.find(words) != std::string::npos; }
};
template <class Call>
failure failure_of(Call call) {
  try {
    static_cast<void>(call());
  } catch (const std::system_error& e) {
    return {e.code(), e.what()};
  }
  return {};
}

/// Lets every other ready thread run until it waits: threads made before have begun to wait for what they wait for.
inline void let_others_wait() { weft::this_thread::yield(); }

/// A pipe as two descriptors.
struct pipe_of_two {
  pipe_of_two() {
    const auto [r, w] = weft::io::pipe();
    reader = weft::io::descriptor(r);
    writer = weft::io::descriptor(w);
  }
  weft::io::descriptor reader, writer;
};

/// Writes until the pipe or socket takes no more. @returns the bytes it took
inline std::size_t fill(const weft::io::descriptor& writer) {
  static const std::vector<char> block(4096, 'x');
  std::size_t filled = 0;
  for (ssize_t n = 0; (n = ::write(writer.get(), block.data(), block.size())) > 0;) filled += static_cast<std::size_t>(n);
  return filled;
}

/// One read, as text.
inline std::string read_text(weft::io::handle from, std::size_t most = 100) {
  std::string text(most, '\0');
  text.resize(weft::io::read(from, text));
  return text;
}
