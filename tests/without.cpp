// Runs a command on a kernel that refuses something, as containers and careful distributions do:
//
//   without WORD[,WORD…] COMMAND [ARGUMENT…]      perf  no perf events    ring  no io_uring    root  as nobody
//
// Exits with 77, "skipped", where that cannot be arranged.
#include <errno.h>
#include <grp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <vector>

#include "tests/refuse.hpp"

namespace {

constexpr int skipped = 77;
constexpr unsigned nobody = 65534;

bool become_nobody() {
  return ::geteuid() != 0 || (::setgroups(0, nullptr) == 0 && ::setgid(nobody) == 0 && ::setuid(nobody) == 0);
}

// @returns false for a word that is none.
bool arrange(std::string_view word, std::vector<refusal>& refused, bool& as_nobody) {
  if (word == "perf") {
    refused.push_back({SYS_perf_event_open, EACCES});
  } else if (word == "ring") {
    for (const long call : {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register}) refused.push_back({call, EPERM});
  } else {
    as_nobody = true;
    return word == "root";
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) {
    std::fputs("without: give words (perf, ring, root) and a command\n", stderr);
    return 2;
  }
  std::vector<refusal> refused;
  bool as_nobody = false;
  std::string_view words = arguments[1];
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(','));
    words.remove_prefix(word.size() < words.size() ? word.size() + 1 : word.size());
    if (arrange(word, refused, as_nobody)) continue;
    std::fputs("without: a word is none of perf, ring, root\n", stderr);
    return 2;
  }
  if (as_nobody && !become_nobody()) return skipped;
  if (!refused.empty() && !refuse(refused)) return skipped;
  ::execvp(arguments[2], arguments + 2);
  const bool out_of_reach = as_nobody && errno == EACCES;  // the build lies in a folder that is its owner's alone
  std::perror("without");
  return out_of_reach ? skipped : 2;
}
