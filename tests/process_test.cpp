// Child processes. both-transfers
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "weft/process.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;
using weft::process;
using weft::stdio;

namespace {

std::string read_all(weft::pipe_reader& from) {
  std::string all;
  char block[512];
  for (std::size_t n = 0; (n = from.read(block)) != 0;) all.append(block, n);
  return all;
}

// What `script` prints.
std::string output_of(const std::string& script, weft::process_options how = {}) {
  how.out = stdio::pipe();
  process child = process::spawn({"sh", "-c", script}, how);
  std::string all = read_all(child.out());
  CHECK(child.wait().success());
  return all;
}

// Replaces a signal's action for one test case.
class signal_action {
 public:
  signal_action(int signal, void (*action)(int)) : signal_(signal) {
    struct sigaction now {};
    now.sa_handler = action;
    ::sigaction(signal, &now, &before_);
  }
  ~signal_action() { ::sigaction(signal_, &before_, nullptr); }
  signal_action(const signal_action&) = delete;
  signal_action& operator=(const signal_action&) = delete;

 private:
  int signal_;
  struct sigaction before_ {};
};

bool exists(pid_t child) { return ::kill(child, 0) == 0; }

}  // namespace

TEST_CASE("a child is fed and read through pipes while other threads run") {
  weft::run([] {
    process sort = process::spawn({"sort", "-n"}, {.in = stdio::pipe(), .out = stdio::pipe()});
    bool others_ran = false;
    weft::jthread other([&] { others_ran = true; });
    sort.in().write_all("3\n1\n2\n");
    sort.in().close();
    CHECK(read_all(sort.out()) == "1\n2\n3\n");
    CHECK(sort.wait().success());
    CHECK(others_ran);
  });
}

TEST_CASE("wait tells how a child ended, again and again, to every thread that asks") {
  weft::run([] {
    process child = process::spawn({"sh", "-c", "read line; exit 7"}, {.in = stdio::pipe()});
    std::vector<weft::jthread> waiters;
    int sevens = 0;
    for (int i = 0; i < 3; ++i) waiters.emplace_back([&] { sevens += child.wait() == weft::exit_status{7, 0} ? 1 : 0; });
    let_others_wait();
    CHECK(sevens == 0);
    child.in().close();
    waiters.clear();
    CHECK(sevens == 3);
    CHECK(child.wait().to_string() == "exited with 7");
    CHECK_FALSE(child.wait().success());
  });
}

TEST_CASE("a killed child's status names the signal, and killing one that has ended is nothing") {
  weft::run([] {
    process child = process::spawn({"sleep", "1000"});
    std::error_code ec;
    child.wait(ec, weft::clock::now() + 5ms);
    CHECK(ec == std::errc::timed_out);
    child.kill(SIGTERM);
    const weft::exit_status status = child.wait();
    CHECK(status.signal == SIGTERM);
    CHECK(status.to_string() == "killed by signal 15 (Terminated)");
    child.kill(SIGKILL);
    CHECK(failure_of([&] { return child.kill(12345), 0; }).code == std::error_code());
  });
}

TEST_CASE("a program that is not there is an error with its name, and leaves no process") {
  weft::run([] {
    const failure absent = failure_of([] { return process::spawn({"no-such-program-of-weft"}); });
    CHECK(absent.code == std::errc::no_such_file_or_directory);
    CHECK(absent.says("cannot start 'no-such-program-of-weft'"));
    CHECK(failure_of([] { return process::spawn({"/"}); }).code == std::errc::permission_denied);
    CHECK(failure_of([] { return process::spawn(std::vector<std::string>()); }).code == std::errc::invalid_argument);
    std::error_code ec;
    CHECK_FALSE(process::spawn({"true"}, {.out = stdio::use(987)}, ec));
    CHECK(ec == std::errc::bad_file_descriptor);
    CHECK_FALSE(process::spawn({"true"}, {.directory = "/no/such/directory"}, ec));
    CHECK(ec == std::errc::no_such_file_or_directory);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(failure_of([] { return process().wait(); }).code == std::errc::invalid_argument);
  });
}

TEST_CASE("standard streams are what was asked for: null, an open file, another's pipe, one for two") {
  temporary_directory where;
  weft::run([&] {
    CHECK(output_of("cat; echo error >&2; echo end", {.in = stdio::null(), .err = stdio::null()}) == "end\n");
    weft::file log(where / "log", weft::open_mode::read_write | weft::open_mode::create);
    process both = process::spawn({"sh", "-c", "echo out; echo err >&2"},
                                  {.out = stdio::use(log.descriptor()), .err = stdio::use(log.descriptor())});
    CHECK(both.wait().success());
    char text[20];
    CHECK(log.read_at(0, text) == 8);
    CHECK(std::string(text, 8) == "out\nerr\n");
    process separate = process::spawn({"sh", "-c", "echo out; echo err >&2"}, {.out = stdio::pipe(), .err = stdio::pipe()});
    CHECK(read_all(separate.err()) == "err\n");
    CHECK(read_all(separate.out()) == "out\n");
  });
}

TEST_CASE("two children are joined by a pipe of ours and find it blocking, as programs expect") {
  weft::run([] {
    weft::pipe between;
    process reader = process::spawn({"cat"}, {.in = stdio::use(between.reader.descriptor()), .out = stdio::pipe()});
    between.reader.close();
    process writer = process::spawn({"echo", "through"}, {.out = stdio::use(between.writer.descriptor())});
    between.writer.close();
    CHECK(read_all(reader.out()) == "through\n");
    CHECK(writer.wait().success());
    CHECK(reader.wait().success());
  });
}

TEST_CASE("directory and environment are the child's own") {
  weft::run([] {
    CHECK(output_of("pwd", {.directory = "/usr"}) == "/usr\n");
    CHECK(output_of("echo $COLOUR-$HOME", {.environment = std::vector<std::string>{"COLOUR=blue"}}) == "blue-\n");
  });
}

TEST_CASE("a child gets no descriptor but its standard ones, blocking, and no blocked or ignored SIGPIPE") {
  const signal_action ignored(SIGPIPE, SIG_IGN);
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  weft::run([] {
    const weft::pipe held;
    const weft::file file("/dev/null");
    process list = process::spawn({"ls", "-m", "/proc/self/fd"}, {.out = stdio::pipe()});
    CHECK(read_all(list.out()) == "0, 1, 2, 3\n");  // 3 is the directory it lists
    process status = process::spawn({"cat", "/proc/self/status", "/proc/self/fdinfo/0"},
                                    {.in = stdio::pipe(), .out = stdio::pipe()});
    const std::string told = read_all(status.out());
    CHECK(told.find("SigBlk:\t0000000000000000") != std::string::npos);
    const auto number_after = [&](const char* word, int base) {
      const std::size_t at = told.find(word);
      CHECK(at != std::string::npos);
      return at == std::string::npos ? 0 : std::stoul(told.substr(at + std::strlen(word)), nullptr, base);
    };
    CHECK((number_after("SigIgn:", 16) & (1ul << (SIGPIPE - 1))) == 0);
    CHECK((number_after("flags:", 8) & O_NONBLOCK) == 0);
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE("a hundred children at once are all waited for, and none stays a zombie") {
  weft::run([] {
    std::vector<weft::jthread> threads;
    int right = 0;
    for (int i = 0; i < 100; ++i) {
      threads.emplace_back([&, i] {
        process child = process::spawn({"sh", "-c", "read line; exit $line"}, {.in = stdio::pipe()});
        child.in().write_all(std::to_string(i) + "\n");
        right += child.wait().code == i ? 1 : 0;
      });
    }
    threads.clear();
    CHECK(right == 100);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  });
}

TEST_CASE("destroying a running child kills and reaps it, also in a thread asked to end and off weft threads") {
  pid_t outside = 0;
  weft::run([&] {
    pid_t child = 0;
    {
      process sleeper = process::spawn({"sleep", "1000"});
      child = sleeper.pid();
      CHECK(exists(child));
    }
    CHECK_FALSE(exists(child));
    weft::thread owner([&] {
      process sleeper = process::spawn({"sleep", "1000"});
      child = sleeper.pid();
      sleeper.wait();
    });
    while (child == 0 || !exists(child)) weft::this_thread::yield();
    let_others_wait();
    owner.request_cancel();
    owner.join();
    CHECK_FALSE(exists(child));
  });
  {
    process sleeper = process::spawn({"sleep", "1000"});
    outside = sleeper.pid();
  }
  CHECK_FALSE(exists(outside));
}

TEST_CASE("a detached child lives on and is reaped by a later spawn once it has ended") {
  weft::run([] {
    weft::pipe p;
    process child = process::spawn({"cat"}, {.in = stdio::use(p.reader.descriptor())});
    const pid_t number = child.pid();
    child.detach();
    CHECK_FALSE(child);
    CHECK(exists(number));
    CHECK(::kill(number, SIGKILL) == 0);
    siginfo_t ended{};
    while (::waitid(P_PID, static_cast<id_t>(number), &ended, WEXITED | WNOWAIT | WNOHANG) == 0 && ended.si_pid == 0) {
      weft::this_thread::yield();
    }
    CHECK(process::spawn({"true"}).wait().success());
    CHECK_FALSE(exists(number));
  });
}

TEST_CASE("a program's SIGCHLD handler that reaps every child does not take the status away where the kernel keeps it") {
  bool kept = true;
  const signal_action reaping(SIGCHLD, [](int) {
    const int error = errno;
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    errno = error;
  });
  weft::run([&] {
    process child = process::spawn({"sh", "-c", "read line; exit 5"}, {.in = stdio::pipe()});
    child.in().close();
    std::error_code ec;
    const weft::exit_status status = child.wait(ec);
    kept = ec != std::errc::no_child_process;
    if (!kept) return;
    CHECK_FALSE(ec);
    CHECK(status.code == 5);
    process sleeper = process::spawn({"sleep", "1000"});
    sleeper.kill(SIGKILL);
    CHECK(sleeper.wait(ec).signal == SIGKILL);
  });
  if (!kept) skip("this kernel keeps no status of a reaped process (Linux 6.15 does)");
}

TEST_CASE("a child that fills its pipe waits for its reader, and a reader for a slow child") {
  weft::run([] {
    process child = process::spawn({"head", "-c", "1000000", "/dev/zero"}, {.out = stdio::pipe()});
    CHECK(read_all(child.out()).size() == 1000000);
    CHECK(child.wait().success());
  });
}
