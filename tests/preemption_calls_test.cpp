// both-transfers every-privilege
// What a thread with time slices calls works as ever, and what it has in registers, errno and exceptions is kept, wherever ticks
// meet it. Iterations are counted: how many ticks meet them is the machine's affair.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "tests/in_child.hpp"
#include "tests/io_fixture.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "weft/blocking.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/file.hpp"
#include "weft/mutex.hpp"
#include "weft/semaphore.hpp"

using namespace std::chrono_literals;

namespace {

constexpr int rounds = 150;

// On x86-64 compilers keep these on the stack of eight x87 registers.
[[gnu::noinline]] long double hold_seven(const volatile long double& from, int while_computing) {
  const long double a = from, b = from, c = from, d = from, e = from, f = from, g = from;
  compute(while_computing);
  return a + (b + (c + (d + (e + (f + g)))));
}

}  // namespace

TEST_CASE("locks, conditions, channels and semaphores of preempted threads keep what they guard whole") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    weft::mutex mutex;
    weft::condition_variable changed;
    weft::counting_semaphore<> places{2};
    weft::channel<int> numbers{3};
    std::atomic<int> within{0};
    int guarded = 0;
    int turn = 0;
    beside_a_cruncher(4, [&](int me) {
      for (int i = 0; i < rounds; ++i) {
        {
          const std::lock_guard hold(mutex);
          const int before = guarded;
          compute(2000);
          wrong.unless(guarded == before);
          guarded = before + 1;
        }
        {
          std::unique_lock hold(mutex);
          changed.wait(hold, [&] { return turn % 4 == me; });
          ++turn;
          changed.notify_all();
        }
        places.acquire();
        wrong.unless(within.fetch_add(1) < 2);
        compute(500);
        within.fetch_sub(1);
        places.release();
        if (me % 2 == 0) numbers.send(i);
        if (me % 2 == 1) wrong.unless(numbers.receive().has_value());
      }
    });
    CHECK(guarded == 4 * rounds);
    CHECK(turn == 4 * rounds);
    CHECK(preemptions() > 0);
  });
  CHECK(wrong.count() == 0);
}

TEST_CASE("preempted threads spawn, join, sleep, are cancelled, and throw through their frames") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    weft::counting_semaphore<> never_released{0};
    beside_a_cruncher(3, [&](int me) {
      for (int i = 0; i < rounds; ++i) {
        int ran = 0;
        weft::thread child({.start = i % 2 == 0 ? weft::start::now : weft::start::later, .time_slice = i % 3 == 0}, [&] {
          compute(1000);
          ran = i;
        });
        weft::thread waits({.time_slice = true}, [&] {
          compute(1000);
          never_released.acquire();
        });
        try {
          compute(2000);
          throw std::runtime_error(std::to_string(i));
        } catch (const std::exception& e) {
          compute(2000);
          try {
            compute(100);
            throw;
          } catch (const std::runtime_error& same) {
            wrong.unless(&same == &e && same.what() == std::to_string(i));
          }
        }
        child.join();
        wrong.unless(ran == i);
        if (i % 20 == me) weft::this_thread::sleep_for(50us);
        waits.request_cancel();
        waits.join();
      }
    });
  });
  CHECK(wrong.count() == 0);
}

TEST_CASE("preempted threads read and write pipes and files, and find regions as they left them") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    const temporary_directory place;
    beside_a_cruncher(3, [&](int me) {
      pipe_of_two p;
      weft::file f{place / std::to_string(me), weft::open_mode::read_write | weft::open_mode::create};
      for (int i = 0; i < rounds / 4; ++i) {
        const std::string text = std::to_string(i) + " of " + std::to_string(me);
        compute(3000);
        weft::thread reader({.time_slice = true}, [&] { wrong.unless(read_text(p.reader) == text); });
        wrong.unless(weft::io::write(p.writer, text) == text.size());
        reader.join();
        std::string again(text.size(), '\0');
        wrong.unless(f.write_at(i, text) == text.size() && f.read_at(i, again) == text.size() && again == text);
        const int result = weft::blocking([&] {
          const timespec nap{0, 20'000};
          errno = me + 1;
          compute(3000);
          wrong.unless(weft::in_blocking_region() && errno == me + 1);
          wrong.unless(::nanosleep(&nap, nullptr) == 0);
          weft::this_thread::sleep_for(10us);
          return i;
        });
        wrong.unless(result == i && !weft::in_blocking_region());
      }
    });
    CHECK(preemptions() > 0);
  });
  CHECK(wrong.count() == 0);
}

namespace {

// What a call of each kind waits for: times, and a kernel thread that sends back what it is sent.
class plain_calls {
 public:
  plain_calls() {
    wrong_.unless(::pipe2(there_.data(), O_CLOEXEC) == 0 && ::pipe2(back_.data(), O_CLOEXEC) == 0 && set_ >= 0);
    echo_ = std::thread([this] {
      for (char c = 0; ::read(there_[0], &c, 1) == 1;) static_cast<void>(!::write(back_[1], &c, 1));
    });
  }
  ~plain_calls() {
    ::close(there_[1]);
    echo_.join();
    for (const int fd : {there_[0], back_[0], back_[1], set_}) ::close(fd);
  }
  plain_calls(const plain_calls&) = delete;
  plain_calls& operator=(const plain_calls&) = delete;

  void make(int i) {
    const timespec nap{0, 50'000};
    wrong_.unless(::nanosleep(&nap, nullptr) == 0);
    compute(static_cast<int>(random() % 40'000));
    wrong_.unless(::poll(nullptr, 0, i % 2) == 0);
    epoll_event e{};
    wrong_.unless(::epoll_wait(set_, &e, 1, i % 2) == 0);
    int word = 0;
    wrong_.unless(::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &nap, nullptr, 0) == -1 && errno == ETIMEDOUT);
    char c = static_cast<char>(i);
    wrong_.unless(::write(there_[1], &c, 1) == 1 && ::read(back_[0], &c, 1) == 1 && c == static_cast<char>(i));
  }
  [[nodiscard]] int wrong() const { return wrong_.count(); }

 private:
  mistakes wrong_;
  int set_ = ::epoll_create1(EPOLL_CLOEXEC);
  std::array<int, 2> there_{};
  std::array<int, 2> back_{};
  std::thread echo_;
};

}  // namespace

// In a child: the kernel interrupts who has closed a ring (decision 27), and the schedulers of the cases before have.
TEST_CASE("plain calls of a preempted thread never end with EINTR") {
  if (!no_slices().empty()) return skip(no_slices());
  const child_end end = in_child([] {
    plain_calls calls;
    bool preempted = false;
    weft::run(sliced(), [&] {
      beside_a_cruncher(1, [&](int) {
        for (int i = 0; i < 3 * rounds; ++i) {
          compute(static_cast<int>(random() % 40'000));
          calls.make(i);
        }
      });
      preempted = preemptions() > 0;
      if (calls.wrong() != 0 || !preempted) _exit(1);
    });
  });
  CHECK(end.exited_with(0));
}

TEST_CASE("errno, the rounding mode and vector registers are a preempted thread's own") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    std::vector<weft::thread> all;
    for (int me = 0; me < 4; ++me) {
      all.emplace_back(weft::attributes{.time_slice = true, .floating_point_control = true}, [&wrong, me] {
        constexpr std::array modes{FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
        std::fesetround(modes[static_cast<std::size_t>(me)]);
        using vector = double __attribute__((vector_size(64)));
        vector sum{};
        for (int i = 0; i < 2'000'000; ++i) sum += static_cast<double>(me + 1);
        for (int i = 0; i < 2000; ++i) {
          errno = 1000 * me + i;
          compute(5000);
          wrong.unless(errno == 1000 * me + i && std::fegetround() == modes[static_cast<std::size_t>(me)]);
        }
        for (int lane = 0; lane < 8; ++lane) wrong.unless(sum[lane] == 2e6 * (me + 1));
      });
    }
    for (weft::thread& t : all) t.join();
  });
  CHECK(wrong.count() == 0);
}

TEST_CASE("a thread interrupted with its long doubles in registers leaves the others free ones, and finds its own as they were") {
  if (!no_slices().empty()) return skip(no_slices());
  mistakes wrong;
  weft::run(sliced(), [&] {
    std::atomic<bool> over{false};
    volatile long double one = 1;
    volatile long double three = 3;
    weft::thread full({.time_slice = true}, [&] {
      while (!over.load(std::memory_order_relaxed)) wrong.unless(hold_seven(one, 200'000) == 7);
    });
    for (int i = 0; i < 200; ++i) {
      weft::this_thread::yield();
      wrong.unless(three * three + (three + three * three) == 21);
    }
    over = true;
    full.join();
    CHECK(preemptions() > 0);
  });
  CHECK(wrong.count() == 0);
}

// A program of one kernel thread counts references without atomic instructions: a tick between two of them loses a count.
TEST_CASE("shared_ptr counts right between preempted threads, also in a program of one kernel thread") {
  if (!no_slices().empty()) return skip(no_slices());
  const child_end end = in_child([] {
    const auto shared = std::make_shared<int>(5);
    weft::run(sliced(), [&] {
      beside_a_cruncher(4, [&](int) {
        for (int i = 0; i < 5'000'000; ++i) {
          const std::shared_ptr<int> copy = shared;
          asm volatile("" ::: "memory");
        }
      });
    });
    if (shared.use_count() != 1) _exit(1);
  });
  CHECK(end.exited_with(0));
}

TEST_CASE("two schedulers have ticks of their own") {
  if (!no_slices().empty()) return skip(no_slices());
  std::atomic<std::uint64_t> preempted[2];
  const auto scheduler = [&](int which) {
    weft::run(sliced(), [&] {
      beside_a_cruncher(2, [](int) { compute_for(several_slices); });
      preempted[which] = preemptions();
    });
  };
  std::thread other(scheduler, 1);
  scheduler(0);
  other.join();
  CHECK(preempted[0] > 0);
  CHECK(preempted[1] > 0);
}
