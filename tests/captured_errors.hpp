// What this process writes to standard error meanwhile.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <system_error>

/// Standard error goes into memory while one exists. Plain system calls: usable on weft threads, and asked while others write.
class captured_errors {
 public:
  captured_errors() : memory_(memfd_create("errors", MFD_CLOEXEC)), before_(dup(STDERR_FILENO)) {
    if (memory_ < 0 || before_ < 0) throw std::system_error(errno, std::system_category(), "memfd_create");
    dup2(memory_, STDERR_FILENO);
  }
  ~captured_errors() {
    dup2(before_, STDERR_FILENO);
    close(before_);
    close(memory_);
  }
  captured_errors(const captured_errors&) = delete;
  captured_errors& operator=(const captured_errors&) = delete;

  [[nodiscard]] std::size_t size() const {
    struct stat status {};
    fstat(memory_, &status);
    return static_cast<std::size_t>(status.st_size);
  }
  [[nodiscard]] std::string text() const {
    std::string all(size(), '\0');
    const ssize_t got = pread(memory_, all.data(), all.size(), 0);
    all.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return all;
  }
  [[nodiscard]] std::size_t count(std::string_view part) const {
    const std::string all = text();
    std::size_t found = 0;
    for (std::size_t at = all.find(part); at != std::string::npos; at = all.find(part, at + 1)) ++found;
    return found;
  }

 private:
  int memory_;
  int before_;
};
