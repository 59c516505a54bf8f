// The library that says when a lock of "this kernel thread" is used by two weft threads, before programs that do so and one that
// does not.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "tests/in_child.hpp"
#include "tests/skip.hpp"

namespace {

bool built() { return std::string(WEFT_TEST_SANITIZER) == "none"; }
constexpr const char* why_not = "sanitizers stand before the lock functions themselves";

child_end checked(const char* way, const char* wish = "") {
  return in_child([=] {
    setenv("LD_PRELOAD", WEFT_TEST_BINARY_DIR "/tools/libweft_lock_check.so", 1);
    setenv("WEFT_LOCK_CHECK", wish, 1);
    execl(WEFT_TEST_BINARY_DIR "/tests/lock_check_program", "lock_check_program", way, nullptr);
    _exit(126);
  });
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("a recursive mutex that lets a second thread in is reported, whichever function locks it, with both threads") {
  if (!built()) return skip(why_not);
  const child_end end = checked("recursive");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  for (const std::string name : {"lock", "trylock", "timedlock", "clocklock"}) {
    CHECK(end.said("\"" + name + "\" was let into the recursive mutex at 0x"));
    CHECK(end.said("\"" + name + "\" is here:\n  #0"));
  }
  CHECK(count(end.errors, "\"holder\" holds: for the C library both are one kernel thread.") == 4);
  CHECK(count(end.errors, "\"holder\" locked it here:\n  #0") == 4);
  CHECK(count(end.errors, "Use a weft::mutex, or put the code that locks, waits and unlocks into one weft::blocking.") == 4);
}

TEST_CASE("a pair of threads is reported once") {
  if (!built()) return skip(why_not);
  const child_end end = checked("twice");
  INFO(end.errors);
  CHECK(count(end.errors, "was let into") == 1);
}

TEST_CASE("an error-checking mutex that takes one thread for another is reported: refused as owned already, and unlocked") {
  if (!built()) return skip(why_not);
  const child_end end = checked("error_checking");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  CHECK(end.said("\"asks\" was told that it holds the error-checking mutex"));
  CHECK(end.said("\"unlocks\" unlocked the error-checking mutex"));
}

TEST_CASE("a FILE that one thread has locked and another one enters is reported") {
  if (!built()) return skip(why_not);
  const child_end end = checked("file");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  CHECK(end.said("\"writes\" was let into the FILE at 0x"));
  CHECK(end.said("\"tries\" was let into the FILE at 0x"));
}

TEST_CASE("a thread that waits in plain nanosleep with a recursive mutex, and the one that takes it meanwhile, are named") {
  if (!built()) return skip(why_not);
  const child_end end = checked("all_code");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  if (end.said("options::activations is all, which this kernel or this build refuses"))
    return skip("all code: the kernel refuses");
  CHECK(end.said("\"other\" was let into the recursive mutex"));
  CHECK(end.said("\"holder\" holds"));
}

TEST_CASE("a thread whose time slice ends with a recursive mutex, and the one that takes it meanwhile, are named") {
  if (!built()) return skip(why_not);
  const child_end end = checked("time_slice");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  if (end.said("no thread is preempted")) return skip("time slices: this build has none");
  CHECK(end.said("\"other\" was let into the recursive mutex"));
}

TEST_CASE("plain mutexes, locks in turn, nested locks of one thread, condition variables and kernel threads are not reported") {
  if (!built()) return skip(why_not);
  for (const char* const way : {"correct", "left_locked", "all_code_plain"}) {
    const child_end end = checked(way);
    INFO(end.errors);
    CHECK_FALSE(end.said("holds:"));
    CHECK(end.exited_with(0));
  }
}

TEST_CASE("with WEFT_LOCK_CHECK=abort the first report ends the program") {
  if (!built()) return skip(why_not);
  const child_end end = checked("recursive", "abort");
  CHECK(end.killed_by(SIGABRT));
  CHECK(count(end.errors, "was let into") == 1);
}
