// WEFT_TRACE: which file a process writes, and what it says when it cannot.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/in_child.hpp"
#include "tests/io_fixture.hpp"
#include "weft/runtime.hpp"
#include "weft/trace.hpp"

namespace {

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool is_trace(const std::string& path) { return content(path).find("traceEvents") != std::string::npos; }

// Runs a scheduler under WEFT_TRACE. @returns the file that its ring names; "off" when it has none.
std::string traced_to(const std::string& wanted) {
  ::setenv("WEFT_TRACE", wanted.c_str(), 1);
  const std::string file = weft::run([] {
    const weft::trace::ring* const events = weft::trace::current();
    return events == nullptr ? std::string("off") : events->file;
  });
  ::unsetenv("WEFT_TRACE");
  return file;
}

void expect(bool holds) {
  if (!holds) ::_exit(1);
}

}  // namespace

TEST_CASE("a trace in use by a process that still runs is left alone: the other one's name ends in its process number") {
  const temporary_directory where;
  const std::string path = where / "out.json";
  CHECK(traced_to(path) == path);
  CHECK(is_trace(path));
  const std::string before = content(path);
  const child_end end = in_child([&] {
    const std::string own = path + "." + std::to_string(::getpid());
    expect(traced_to(path) == own);
    expect(is_trace(own));
    expect(traced_to(path) == own + ".2");
    expect(is_trace(own + ".2"));
  });
  CHECK(end.exited_with(0));
  CHECK(content(path) == before);
  CHECK(traced_to(path) == path + ".2");
}

TEST_CASE("a trace whose process has ended is overwritten by the next one") {
  const temporary_directory where;
  const std::string path = where / "out.json";
  for (int i = 0; i < 2; ++i) CHECK(in_child([&] { expect(traced_to(path) == path && is_trace(path)); }).exited_with(0));
  CHECK(traced_to(path) == path);
}

TEST_CASE("%p in the name stands for the process number") {
  const temporary_directory where;
  const std::string expected = where / ("a" + std::to_string(::getpid()) + ".json");
  CHECK(traced_to(where / "a%p.json") == expected);
  CHECK(is_trace(expected));
}

TEST_CASE("a trace that cannot be opened is said so at the beginning, and the program runs without") {
  const temporary_directory where;
  const std::string folder = where / "";
  const child_end end = in_child([&] {
    expect(traced_to(folder) == "off");
    expect(traced_to("/nowhere/at/all.json") == "off");
  });
  CHECK(end.exited_with(0));
  CHECK(end.said("weft: the trace cannot be written to \"" + folder + "\": Is a directory\n"));
  CHECK(end.said("weft: the trace cannot be written to \"/nowhere/at/all.json\": No such file or directory\n"));
}
