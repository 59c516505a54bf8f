// What a thread does last of all: when, in which order, and who may ask for it.
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/condition_variable.hpp"
#include "weft/detail/thread_exit.hpp"
#include "weft/mutex.hpp"
#include "weft/runtime.hpp"
#include "weft/semaphore.hpp"
#include "weft/thread.hpp"

namespace {

// Writes its letter into a story when its thread exits, and frees itself.
struct letter : weft::detail::thread_exit_call {
  letter(std::string& to, char what) : story(to), written(what) {
    run = [](thread_exit_call& self) noexcept {
      const letter* const me = &static_cast<letter&>(self);
      me->story += me->written;
      delete me;
    };
  }
  std::string& story;
  char written;
};

void write_at_exit(std::string& story, char what) { weft::detail::at_thread_exit(*new letter(story, what)); }

// Writes its letter when it is destroyed.
class writes_at_end {
 public:
  writes_at_end(std::string& story, char what) : story_(&story), written_(what) {}
  writes_at_end(writes_at_end&& other) noexcept : story_(std::exchange(other.story_, nullptr)), written_(other.written_) {}
  writes_at_end& operator=(writes_at_end&&) = delete;
  ~writes_at_end() {
    if (story_ != nullptr) *story_ += written_;
  }

 private:
  std::string* story_;
  char written_;
};

}  // namespace

TEST_CASE("what is asked for at thread exit comes after the function's objects and arguments, the last asked for first") {
  simulate([] {
    std::string story;
    weft::thread t(
        [&](const writes_at_end&) {
          const writes_at_end local(story, 'l');
          write_at_exit(story, '1');
          write_at_exit(story, '2');
          story += 'f';
        },
        writes_at_end(story, 'a'));
    t.join();
    CHECK(story == "fla21");
  });
}

TEST_CASE("what is asked for at thread exit is done before anybody who joins goes on, also at the end of main") {
  std::string story;
  simulate([&] {
    weft::thread t([&] { write_at_exit(story, 't'); });
    t.join();
    story += 'j';
    write_at_exit(story, 'm');
  });
  story += 'r';
  CHECK(story == "tjmr");
}

TEST_CASE("a thread that ends by cancellation does what is asked for at its exit") {
  simulate([] {
    std::string story;
    weft::counting_semaphore<> never(0);
    weft::thread t({.start = weft::start::now}, [&] {
      const writes_at_end local(story, 'l');
      write_at_exit(story, 'x');
      never.acquire();
      story += '!';
    });
    t.request_cancel();
    t.join();
    CHECK(story == "lx");
  });
}

TEST_CASE("what is asked for by something done at thread exit is done as well") {
  struct asks_again : weft::detail::thread_exit_call {
    std::string* story = nullptr;
  };
  simulate([] {
    std::string story;
    asks_again first;
    first.story = &story;
    first.run = [](weft::detail::thread_exit_call& self) noexcept {
      std::string& to = *static_cast<asks_again&>(self).story;
      to += '1';
      write_at_exit(to, '2');
    };
    weft::thread t([&] {
      write_at_exit(story, '3');
      weft::detail::at_thread_exit(first);
    });
    t.join();
    CHECK(story == "123");
  });
}

TEST_CASE("a thread may ask in a region for something at its exit, which may call weft") {
  struct wakes : weft::detail::thread_exit_call {
    weft::counting_semaphore<>* what = nullptr;
  };
  weft::run([] {
    weft::counting_semaphore<> ended(0);
    wakes at_exit;
    at_exit.what = &ended;
    at_exit.run = [](weft::detail::thread_exit_call& self) noexcept { static_cast<wakes&>(self).what->release(); };
    weft::thread t([&] { weft::blocking([&] { weft::detail::at_thread_exit(at_exit); }); });
    ended.acquire();
    t.join();
  });
}

TEST_CASE("nothing can be asked for at thread exit off a weft thread") {
  weft::detail::thread_exit_call call;
  CHECK_THROWS_WITH_AS(weft::detail::at_thread_exit(call), doctest::Contains("at_thread_exit was called outside a weft thread"),
                       std::system_error);
}

TEST_CASE("notify_all_at_thread_exit unlocks and notifies when the thread's objects are gone, by return or by cancellation") {
  for (const bool cancelled : {false, true}) {
    CAPTURE(cancelled);
    simulate([&] {
      weft::mutex m;
      weft::condition_variable ended;
      std::string story;
      weft::counting_semaphore<> go(0);
      weft::thread t({.start = weft::start::now}, [&] {
        const writes_at_end local(story, 'l');
        weft::notify_all_at_thread_exit(ended, std::unique_lock(m));
        go.acquire();
      });
      weft::thread waits({.start = weft::start::now}, [&] {
        std::unique_lock hold(m);  // not before the end
        story += 'w';
      });
      CHECK_FALSE(m.try_lock());
      if (cancelled) t.request_cancel();
      if (!cancelled) go.release();
      std::unique_lock hold(m);
      ended.wait(hold, [&] { return !story.empty(); });
      CHECK(story == "lw");
      t.detach();
      hold.unlock();
      waits.join();
    });
  }
}

TEST_CASE("those who wait already are notified at thread exit, and the condition may be gone right after") {
  simulate([] {
    weft::mutex m;
    int woken = 0;
    {
      weft::condition_variable ended;
      bool over = false;
      std::vector<weft::thread> waiting;
      for (int i = 0; i < 3; ++i) {
        waiting.emplace_back(weft::attributes{.start = weft::start::now}, [&] {
          std::unique_lock hold(m);
          ended.wait(hold, [&] { return over; });
          ++woken;
        });
      }
      weft::thread([&] {
        std::unique_lock hold(m);
        over = true;
        weft::notify_all_at_thread_exit(ended, std::move(hold));
      }).detach();
      for (auto& t : waiting) t.join();
    }
    CHECK(woken == 3);
  });
}

TEST_CASE("notify_all_at_thread_exit refuses a lock that does not hold its mutex, and callers off a weft thread") {
  weft::mutex m;
  weft::condition_variable c;
  simulate([&] {
    try {
      weft::notify_all_at_thread_exit(c, std::unique_lock(m, std::defer_lock));
      FAIL("it took a lock that does not hold its mutex");
    } catch (const std::system_error& error) {
      CHECK(error.code() == std::errc::operation_not_permitted);
    }
  });
  CHECK_THROWS_WITH_AS(weft::notify_all_at_thread_exit(c, std::unique_lock(m, std::defer_lock)),
                       doctest::Contains("notify_all_at_thread_exit was called outside a weft thread"), std::system_error);
}

TEST_CASE("what is done at thread exit may wait, also in a thread that was asked to end") {
  struct waits : weft::detail::thread_exit_call {
    weft::counting_semaphore<>* what = nullptr;
    bool done = false;
  };
  simulate([] {
    weft::counting_semaphore<> go(0);
    waits at_exit;
    at_exit.what = &go;
    at_exit.run = [](weft::detail::thread_exit_call& self) noexcept {
      auto& me = static_cast<waits&>(self);
      me.what->acquire();
      weft::this_thread::sleep_for(std::chrono::milliseconds(1));
      weft::blocking([] {});
      me.done = true;
    };
    weft::thread t({.start = weft::start::now}, [&] {
      weft::detail::at_thread_exit(at_exit);
      go.acquire();
    });
    t.request_cancel();
    weft::this_thread::yield();
    t.request_cancel();
    go.release();
    t.join();
    CHECK(at_exit.done);
  });
}
