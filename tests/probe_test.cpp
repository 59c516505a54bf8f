// What weft::probe says about this kernel, and about kernels and containers that refuse things: in a child under a filter.
#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/all_code.hpp"
#include "tests/in_child.hpp"
#include "tests/refuse.hpp"
#include "tests/skip.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace weft;

namespace {

constexpr int no_filter = 3;  // exit status of a child that could not install one
// The report of a child to which `refused` is refused, with a last line "transfer ring|direct".
child_end probe_without(const std::vector<refusal>& refused) {
  return in_child([&] {
    if (!refuse(refused)) _exit(no_filter);
    const capabilities found = probe();
    const std::string text =
        found.to_string() + (found.transfer == upcall::transfer::ring ? "transfer ring\n" : "transfer direct\n");
    static_cast<void>(!write(STDERR_FILENO, text.data(), text.size()));
  });
}

const capabilities::item& item_of(const capabilities& found, std::string_view what) {
  const auto place = std::find_if(found.items.begin(), found.items.end(), [&](const auto& i) { return i.what == what; });
  static const capabilities::item missing;
  CHECK(place != found.items.end());
  return place == found.items.end() ? missing : *place;
}

// The line of a report that begins with `what`.
std::string line_of(const std::string& report, const std::string& what) {
  const auto begin = ("\n" + report).find("\n" + what + " ");
  return begin == std::string::npos ? "" : report.substr(begin, report.find('\n', begin) - begin);
}

bool says(const std::string& report, const std::string& what, const std::string& text) {
  const std::string line = line_of(report, what);
  INFO(line);
  const bool found = line.find(text) != std::string::npos;
  CHECK(found);
  return found;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

std::size_t mappings() {
  std::ifstream in("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(in, line);) ++count;
  return count;
}

class environment {
 public:
  environment(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~environment() { unsetenv(name_); }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;

 private:
  const char* name_;
};

}  // namespace

TEST_CASE("a probe says a sentence about everything it looked at, a line each") {
  const capabilities found = probe();
  const std::string text = found.to_string();
  for (const char* what :
       {"kernel", "io_uring", "io_uring DEFER_TASKRUN", "epoll_pwait2", "pidfd_open", "MADV_GUARD_INSTALL", "process_madvise",
        "vm.max_map_count", "perf switch records", "no seccomp filter", "processors", "ring transfers"}) {
    const capabilities::item& item = item_of(found, what);
    CHECK(item.detail.size() > 3);
    CHECK(line_of(text, what).find(item.there ? " yes  " : " no   ") != std::string::npos);
    CHECK(line_of(text, what).ends_with(item.detail));
  }
  CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == found.items.size());
}

TEST_CASE("a probe gives back every descriptor and mapping it made") {
  static_cast<void>(probe());
  const std::size_t descriptors = open_descriptors();
  const std::size_t maps = mappings();
  for (int i = 0; i < 40; ++i) static_cast<void>(probe());
  CHECK(open_descriptors() == descriptors);
  CHECK(mappings() < maps + 20);  // the heap may move a little
}

TEST_CASE("a probe tells the engine that a scheduler gets") {
  const capabilities found = probe();
  CHECK((found.transfer == upcall::transfer::ring) == item_of(found, "ring transfers").there);
  {
    const environment set("WEFT_TRANSFER", "direct");
    CHECK(probe().transfer == upcall::transfer::direct);
    CHECK(item_of(probe(), "ring transfers").detail == "WEFT_TRANSFER=direct asks for plain calls");
  }
  {
    const environment set("WEFT_TRANSFER", "ring");
    CHECK(probe().transfer == upcall::transfer::ring);
  }
  {
    const environment set("WEFT_TRANSFER", "round");
    CHECK(item_of(probe(), "ring transfers").detail.find("not 'round'") != std::string::npos);
    CHECK_THROWS_AS(static_cast<void>(upcall::make_reactor(upcall::transfer::automatic)), std::system_error);
  }
}

TEST_CASE("under a filter as containers have it, a probe names the filter and what is used instead") {
  const child_end end = probe_without({{SYS_io_uring_setup, EPERM}, {SYS_perf_event_open, EPERM}});
  if (end.exited_with(no_filter)) return skip("this user may not install a seccomp filter");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  CHECK(says(end.errors, "io_uring", "no   a seccomp filter refuses it (Operation not permitted)"));
  CHECK(says(end.errors, "io_uring", "plain calls and worker kernel threads are used instead"));
  CHECK(says(end.errors, "io_uring DEFER_TASKRUN", "no   there is no io_uring"));
  CHECK(says(end.errors, "perf switch records", "no   a seccomp filter refuses perf_event_open"));
  CHECK(says(end.errors, "time slices by perf", "no   a seccomp filter refuses perf_event_open"));
  CHECK(says(end.errors, "time slices by perf", "a timer on the CPU clock is used instead"));
  CHECK(says(end.errors, "no seccomp filter", "active: system calls may fail that this kernel has"));
  CHECK(says(end.errors, "ring transfers", "no   Operation not permitted"));
  CHECK(end.said("\ntransfer direct\n"));
}

TEST_CASE("a ring that can be made, but not entered or registered with, is not taken for a working one") {
  for (const long refused : {SYS_io_uring_enter, SYS_io_uring_register}) {
    const child_end end = probe_without({{refused, EPERM}});
    if (end.exited_with(no_filter)) return skip("this user may not install a seccomp filter");
    INFO(end.errors);
    CHECK(end.exited_with(0));
    CHECK(end.said("\ntransfer direct\n"));
  }
}

TEST_CASE("where nobody may look at other kernel threads, no code but regions is taken over") {
  const child_end end = probe_without({{SYS_process_vm_readv, EPERM}});
  if (end.exited_with(no_filter)) return skip("this user may not install a seccomp filter");
  if (!all_code_works()) return skip(no_all_code);
  INFO(end.errors);
  CHECK(says(end.errors, "takeover of all code", "no   needs /proc, and process_vm_readv of the process itself"));
  const child_end run = in_child([] {
    if (refuse({{SYS_process_vm_readv, EPERM}})) weft::run({.activations = activations::all}, [] { this_thread::yield(); });
  });
  INFO(run.errors);
  CHECK(run.exited_with(0));
  CHECK(run.errors.find("options::activations is all, which this kernel or this build refuses") != std::string::npos);
}

TEST_CASE("a kernel that has nothing new is described as such") {
  const child_end end = probe_without({{SYS_io_uring_setup, ENOSYS},
                                       {SYS_perf_event_open, ENOSYS},
                                       {SYS_epoll_pwait2, ENOSYS},
                                       {SYS_pidfd_open, ENOSYS},
                                       {SYS_process_madvise, EINVAL},
                                       {SYS_madvise, EINVAL, 102}});
  if (end.exited_with(no_filter)) return skip("this user may not install a seccomp filter");
  INFO(end.errors);
  CHECK(end.exited_with(0));
  CHECK(says(end.errors, "epoll_pwait2", "no   Function not implemented; it needs Linux 5.11"));
  CHECK(says(end.errors, "pidfd_open", "no   Function not implemented; it needs Linux 5.3"));
  CHECK(says(end.errors, "MADV_GUARD_INSTALL", "no   it needs Linux 6.13; guards are laid by mprotect"));
  CHECK(says(end.errors, "process_madvise", "no   "));
  CHECK(says(end.errors, "vm.max_map_count", "raise it for more threads"));
  CHECK(end.said("\ntransfer direct\n"));
}

TEST_CASE("perf refused for lack of privilege names the sysctl or the module that refuses it") {
  const child_end end = probe_without({{SYS_perf_event_open, EACCES}});
  if (end.exited_with(no_filter)) return skip("this user may not install a seccomp filter");
  INFO(end.errors);
  CHECK(says(end.errors, "perf switch records", "no   "));
  CHECK((end.said("kernel.perf_event_paranoid is") || end.said("a seccomp filter refuses perf_event_open (Permission denied)")));
}
