// both-transfers every-privilege
// Marked regions: code that blocks in the kernel blocks only its own thread.
#include "weft/blocking.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;

namespace {

long kernel_thread() { return ::syscall(SYS_gettid); }

/// A pipe whose reader blocks the kernel thread.
struct plain_pipe {
  plain_pipe() { REQUIRE(::pipe2(fd.data(), O_CLOEXEC) == 0); }
  ~plain_pipe() {
    ::close(fd[0]);
    ::close(fd[1]);
  }
  plain_pipe(const plain_pipe&) = delete;
  plain_pipe& operator=(const plain_pipe&) = delete;
  char read() const {
    char c = 0;
    CHECK(::read(fd[0], &c, 1) == 1);
    return c;
  }
  void write(char c) const { CHECK(::write(fd[1], &c, 1) == 1); }
  std::array<int, 2> fd{};
};

weft::upcall::tally counts() { return weft::upcall::counts(); }
std::uint64_t regions(weft::upcall::kind k) { return counts().of(k, weft::upcall::cause::region); }

}  // namespace

TEST_CASE("a region returns what its function returns: values, references, nothing") {
  weft::run([] {
    int variable = 1;
    CHECK(weft::blocking([] { return 42; }) == 42);
    CHECK(&weft::blocking([&]() -> int& { return variable; }) == &variable);
    weft::blocking([&] { variable = 2; });
    CHECK(variable == 2);
    CHECK(*weft::blocking([] { return std::make_unique<int>(7); }) == 7);
  });
}

TEST_CASE("an exception leaves a region, whether it blocked or not") {
  weft::run([] {
    const plain_pipe p;
    weft::thread writer([&] { p.write('x'); });
    CHECK_THROWS_WITH_AS(weft::blocking([] { throw std::runtime_error("early"); }), "early", std::runtime_error);
    CHECK_THROWS_WITH_AS(weft::blocking([&] {
                           CHECK(p.read() == 'x');
                           throw std::runtime_error("late");
                         }),
                         "late", std::runtime_error);
    CHECK_FALSE(weft::in_blocking_region());
    writer.join();
  });
}

TEST_CASE("off a weft thread a region is refused") {
  CHECK_THROWS_AS(weft::blocking([] {}), std::system_error);
}

TEST_CASE("a thread that blocks in a region lets the one run that will wake it") {
  weft::run([] {
    const plain_pipe p;
    weft::thread writer([&] { p.write('w'); });
    CHECK(weft::blocking([&] { return p.read(); }) == 'w');
    writer.join();
    CHECK(regions(weft::upcall::kind::blocked) == regions(weft::upcall::kind::unblocked));
  });
}

TEST_CASE("many threads block at once, and all others go on") {
  weft::run([] {
    constexpr int count = 100;
    std::vector<plain_pipe> pipes(count);
    std::vector<weft::thread> readers;
    int sum = 0;
    for (int i = 0; i < count; ++i) {
      readers.emplace_back(
          [&, i] { sum += weft::blocking([&] { return static_cast<int>(pipes[static_cast<std::size_t>(i)].read()); }); });
    }
    for (int round = 0; round < 1000; ++round) weft::this_thread::yield();
    for (int i = 0; i < count; ++i) pipes[static_cast<std::size_t>(i)].write('a');
    for (weft::thread& t : readers) t.join();
    CHECK(sum == count * 'a');
  });
}

TEST_CASE("at the limit of activations regions wait for one another, visibly, and all come through") {
  weft::options few;
  few.max_activations = 3;
  weft::run(few, [] {
    constexpr std::size_t count = 30;
    std::vector<plain_pipe> pipes(count);
    std::vector<weft::thread> readers;
    for (std::size_t i = 0; i < count; ++i) {
      readers.emplace_back([&, i] { weft::blocking([&] { return pipes[i].read(); }); });
    }
    weft::thread observer([&] {
      while (weft::dump_threads().find("activation") == std::string::npos) weft::this_thread::yield();
      for (const plain_pipe& p : pipes) p.write('x');
    });
    for (weft::thread& t : readers) t.join();
    observer.join();
  });
}

TEST_CASE("with a single activation a region holds the processor, and nothing is lost") {
  weft::options one;
  one.max_activations = 1;
  weft::run(one, [] {
    const plain_pipe p;
    p.write('x');
    bool other_ran = false;
    weft::thread other([&] { other_ran = true; });
    weft::blocking([&] {
      CHECK(p.read() == 'x');
      CHECK_FALSE(other_ran);
    });
    other.join();
    CHECK(other_ran);
  });
}

TEST_CASE("with a single activation a weft operation in a region may wait, and others run meanwhile") {
  weft::options one;
  one.max_activations = 1;
  weft::run(one, [] {
    bool other_ran = false;
    weft::thread other([&] { other_ran = true; });
    weft::blocking([&] {
      weft::this_thread::sleep_for(1us);
      CHECK(other_ran);
      CHECK(weft::in_blocking_region());
    });
    CHECK_FALSE(weft::in_blocking_region());
    other.join();
  });
}

TEST_CASE("a region keeps its kernel thread, its thread_locals and errno from its first to its last instruction") {
  weft::run([] {
    static thread_local int mine = 0;
    const plain_pipe p;
    weft::channel<int> c;
    weft::thread partner([&] {
      p.write('x');
      for (int i : c) CHECK(i == 5);
    });
    weft::blocking([&] {
      const long before = kernel_thread();
      mine = 77;
      errno = EDOM;
      CHECK(p.read() == 'x');
      CHECK(errno == EDOM);
      c.send(5);
      weft::this_thread::sleep_for(1ms);
      c.send(5);
      CHECK(kernel_thread() == before);
      CHECK(mine == 77);
    });
    c.close();
    partner.join();
  });
}

TEST_CASE("weft operations work inside a region, and the region goes on as one") {
  weft::run([] {
    const plain_pipe p;
    weft::mutex m;
    weft::condition_variable changed;
    weft::counting_semaphore<> permits{0};
    weft::channel<std::string> words;
    bool flag = false;
    weft::thread partner([&] {
      {
        std::unique_lock lock(m);
        changed.wait(lock, [&] { return flag; });
      }
      permits.release();
      CHECK(words.receive() == "hello");
      p.write('z');
    });
    weft::blocking([&] {
      CHECK(weft::this_thread::get_id().number() != 0);
      weft::this_thread::yield();
      {
        const std::lock_guard lock(m);
        flag = true;
        changed.notify_all();
      }
      permits.acquire();
      words.send("hello");
      CHECK(p.read() == 'z');
      int from_child = 0;
      weft::thread child([&] { from_child = 9; });
      child.join();
      CHECK(from_child == 9);
      weft::blocking([&] { from_child = 10; });
      CHECK(from_child == 10);
      CHECK(weft::in_blocking_region());
    });
    CHECK_FALSE(weft::in_blocking_region());
    partner.join();
  });
}

TEST_CASE("file operations inside a region do not bind the processor to its kernel thread") {
  weft::run([] {
    char name[] = "/tmp/weft_region_XXXXXX";
    const int raw = ::mkstemp(name);
    REQUIRE(raw >= 0);
    ::close(raw);
    {
      weft::file f(name, weft::open_mode::read_write);
      std::array<char, 6> text{'r', 'e', 'g', 'i', 'o', 'n'};
      weft::blocking([&] {
        CHECK(f.write_at(0, text) == text.size());
        f.sync();
        std::array<char, 6> back{};
        CHECK(f.read_at(0, back) == back.size());
        CHECK(back == text);
      });
    }
    ::unlink(name);
  });
}

TEST_CASE("a cancellation waits for the end of the region, and a region is not begun after one") {
  weft::run([] {
    const plain_pipe p;
    bool finished = false;
    bool after = false;
    weft::thread t([&] {
      weft::blocking([&] {
        CHECK(p.read() == 'x');
        CHECK(weft::this_thread::cancel_requested());
        finished = true;
      });
      after = true;
    });
    while (regions(weft::upcall::kind::blocked) == 0) weft::this_thread::yield(), weft::blocking([] {});
    t.request_cancel();
    p.write('x');
    t.join();
    CHECK(finished);
    CHECK_FALSE(after);

    bool begun = false;
    weft::thread refused([&] { weft::blocking([&] { begun = true; }); });
    refused.request_cancel();
    refused.join();
    CHECK_FALSE(begun);
  });
}

TEST_CASE("a scheduler ends only when its regions have, and detached threads in regions are waited for") {
  const plain_pipe p;
  bool finished = false;
  weft::run([&] {
    weft::thread([&] {
      weft::blocking([&] { CHECK(p.read() == 'x'); });
      finished = true;
    }).detach();
    weft::this_thread::yield();
    p.write('x');
  });
  CHECK_FALSE(finished);  // it was cancelled when main returned
}

TEST_CASE("thread dumps tell who is in a region, where, and in which system call") {
  weft::run([] {
    const plain_pipe p;
    weft::thread t({.name = "sleeper"}, [&] { weft::blocking([&] { p.read(); }); });
    std::string dump;
    do {
      weft::this_thread::yield();
      dump = weft::dump_threads();
    } while (dump.find("in read") == std::string::npos);
    CHECK(dump.find("\"sleeper\" in a blocking region on kernel thread") != std::string::npos);
    p.write('x');
    t.join();
  });
}

TEST_CASE("a blocked upcall tells the system call to those who observe") {
  weft::run([] {
    std::vector<std::string> calls;
    const auto subscription = weft::upcall::subscribe([&](auto batch) {
      for (const weft::upcall::event& e : batch) {
        if (e.what != weft::upcall::kind::blocked || e.why != weft::upcall::cause::region || e.result < 0) continue;
        calls.emplace_back(weft::upcall::system_call_name(e.result));
      }
    });
    const plain_pipe p;
    weft::thread writer([&] { p.write('x'); });
    weft::blocking([&] { p.read(); });
    writer.join();
    weft::this_thread::sleep_for(1ms);
    for (const std::string& call : calls) CHECK(call == "read");
  });
}

TEST_CASE("exceptions being handled stay with their threads across a takeover") {
  weft::run([] {
    const plain_pipe p;
    weft::thread other([&] {
      try {
        throw std::logic_error("other");
      } catch (...) {
        p.write('x');
        weft::this_thread::yield();
        CHECK_THROWS_WITH_AS(throw, "other", std::logic_error);
      }
    });
    try {
      throw std::runtime_error("mine");
    } catch (...) {
      weft::blocking([&] { p.read(); });
      CHECK_THROWS_WITH_AS(throw, "mine", std::runtime_error);
    }
    other.join();
  });
}

TEST_CASE("a thousand threads in regions share the activations there may be") {
  weft::options some;
  some.max_activations = 64;
  weft::run(some, [] {
    std::atomic<int> ran{0};
    std::vector<weft::thread> threads;
    for (int i = 0; i < 1000; ++i) {
      threads.emplace_back([&] {
        weft::blocking([&] {
          const timespec shortly{0, 1000};
          ::nanosleep(&shortly, nullptr);
          ran.fetch_add(1, std::memory_order_relaxed);
        });
      });
    }
    for (weft::thread& t : threads) t.join();
    CHECK(ran == 1000);
  });
}
