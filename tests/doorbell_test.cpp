// both-transfers
#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string>
#include <system_error>
#include <vector>

#include "weft/detail/park.hpp"
#include "weft/ipc/detail/doorbell.hpp"
#include "weft/ipc/detail/segment.hpp"
#include "weft/run_on.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;
namespace ipc = weft::ipc::detail;

namespace {

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::system_error& error) {
    CHECK(error.code() == std::errc::invalid_argument);
    return error.what();
  }
  return "";
}

weft::io::descriptor memfd(unsigned flags, off_t size, int seals) {
  weft::io::descriptor made(::memfd_create("hostile", flags));
  static_cast<void>(::ftruncate(made.get(), size));
  if (seals != 0) static_cast<void>(::fcntl(made.get(), F_ADD_SEALS, seals));
  return made;
}

weft::io::descriptor duplicate(const weft::io::descriptor& of) { return weft::io::descriptor(::dup(of.get())); }

// Two ends of a bell in one piece of memory, and a counter each end writes for the other.
struct shared_memory {
  ipc::bell_word words[2];
  alignas(64) std::atomic<long> count[2];
};

struct pair {
  ipc::segment memory = ipc::segment::create(sizeof(shared_memory), "bell test");
  weft::io::descriptor bells[2] = {ipc::make_bell(), ipc::make_bell()};
  shared_memory& shared = *::new (memory.data()) shared_memory;

  [[nodiscard]] ipc::bell_rope rope(int end) {
    return {&shared.words[end], &shared.words[1 - end], duplicate(bells[end]), duplicate(bells[1 - end])};
  }
};

// One end, with threads that wait until the peer has counted far enough.
class end {
 public:
  end(pair& p, int number)
      : mine_(p.shared.count[number]), theirs_(p.shared.count[1 - number]), bell_(p.rope(number), [this] { return look(); }) {}

  void publish() {
    mine_.fetch_add(1, std::memory_order_release);
    bell_.ring();
  }
  void await(long count) {
    while (theirs_.load(std::memory_order_acquire) < count) {
      const ipc::doorbell::attention here(bell_);
      weft::detail::waiter w;
      w.what = "test";
      if (weft::detail::park(waiting_, w) == weft::detail::wake_reason::cancelled) weft::detail::throw_cancelled();
    }
  }
  ipc::doorbell& bell() { return bell_; }

 private:
  bool look() {
    const long now = theirs_.load(std::memory_order_acquire);
    if (now == seen_) return false;
    seen_ = now;
    while (weft::detail::grant_first(waiting_)) {
    }
    return true;
  }

  std::atomic<long>& mine_;
  std::atomic<long>& theirs_;
  long seen_ = 0;
  weft::detail::wait_queue waiting_;
  ipc::doorbell bell_;
};

void play(pair& p, int number, long rounds) {
  end here(p, number);
  for (long i = 1; i <= rounds; ++i) {
    if (number == 0) here.publish();
    here.await(i);
    if (number == 1) here.publish();
  }
}

}  // namespace

TEST_CASE("two ends tell each other what is new: 20,000 times in one scheduler") {
  weft::run([] {
    pair p;
    weft::jthread other([&] { play(p, 1, 20'000); });
    play(p, 0, 20'000);
  });
}

TEST_CASE("two ends tell each other what is new: 20,000 times between kernel threads") {
  pair p;
  std::atomic<int> next = 0;
  weft::run_on(2, [&](const weft::processors&) { play(p, next++, 20'000); });
  CHECK(p.shared.count[0] == 20'000);
  CHECK(p.shared.count[1] == 20'000);
}

TEST_CASE("many who publish in one round ring once") {
  weft::run([] {
    pair p;
    end here(p, 0);
    p.shared.words[1].asleep = 1;  // the peer sleeps, and does not wake up
    std::vector<weft::jthread> threads;
    for (int i = 0; i < 100; ++i) threads.emplace_back([&] { here.publish(); });
    threads.clear();
    weft::this_thread::yield();
    std::uint64_t rings = 0;
    CHECK(::read(p.bells[1].get(), &rings, sizeof rings) == sizeof rings);
    CHECK(rings == 1);
    CHECK(p.shared.words[1].asleep == 0);
  });
}

TEST_CASE("an end that nobody waits at does not ask to be woken") {
  weft::run([] {
    pair p;
    end here(p, 0);
    for (int i = 0; i < 10; ++i) weft::this_thread::yield();
    CHECK(p.shared.words[0].asleep == 0);
    weft::jthread waiting([&] { here.await(1); });
    while (p.shared.words[0].asleep == 0) weft::this_thread::yield();
    waiting.request_cancel();
  });
}

TEST_CASE("a bell that the peer has filled, so that ringing would wait, holds up nobody else") {
  weft::run([] {
    pair p;
    const std::uint64_t most = 0xffff'ffff'ffff'fffe;
    CHECK(::write(p.bells[1].get(), &most, sizeof most) == sizeof most);
    CHECK(::fcntl(p.bells[1].get(), F_SETFL, 0) == 0);  // blocking
    {
      end here(p, 0);
      p.shared.words[1].asleep = 1;
      here.publish();
      for (int i = 0; i < 1000; ++i) weft::this_thread::yield();  // the ringer waits in the kernel; this thread runs
    }  // and the end can be destroyed
  });
}

TEST_CASE("whoever watches the peer is told once when it is gone") {
  weft::run([] {
    pair p;
    end here(p, 0);
    weft::io::descriptor ours;
    int fds[2];
    CHECK(::pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    weft::io::descriptor read_end(fds[0]);
    weft::io::descriptor write_end(fds[1]);
    int gone = 0;
    weft::binary_semaphore said(0);
    here.bell().watch(std::move(read_end), [&] {
      ++gone;
      said.release();
    });
    weft::this_thread::yield();
    CHECK(gone == 0);
    write_end.close();
    said.acquire();
    CHECK(gone == 1);
  });
}

TEST_CASE("shared memory that two map is the same, and its size is sealed") {
  weft::run([] {
    ipc::segment ours = ipc::segment::create(5000, "test");
    CHECK(ours.size() == 8192);
    ipc::segment theirs = ipc::segment::adopt(weft::io::descriptor(::dup(ours.memory())), 1, 1 << 20);
    ours.data()[4999] = std::byte{7};
    CHECK(theirs.data()[4999] == std::byte{7});
    CHECK(::ftruncate(theirs.memory(), 0) != 0);
    CHECK(::ftruncate(theirs.memory(), 1 << 20) != 0);
    ipc::segment moved = std::move(theirs);
    CHECK(moved.data()[4999] == std::byte{7});
  });
}

TEST_CASE("memory from a peer that is not sealed, too small, too large or no memfd is refused with a sentence") {
  weft::run([] {
    constexpr unsigned may_seal = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    constexpr int sealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const auto adopt = [](weft::io::descriptor fd) {
      return refusal([&] { static_cast<void>(ipc::segment::adopt(std::move(fd), 4096, 8192)); });
    };
    CHECK(adopt(memfd(may_seal, 4096, 0)).find("its size is not sealed") != std::string::npos);
    CHECK(adopt(memfd(may_seal, 4096, F_SEAL_SHRINK | F_SEAL_GROW)).find("its size is not sealed") != std::string::npos);
    CHECK(adopt(memfd(may_seal, 4095, sealed)).find("it has 4095 bytes; from 4096 to 8192") != std::string::npos);
    CHECK(adopt(memfd(may_seal, 12288, sealed)).find("it has 12288 bytes") != std::string::npos);
    CHECK(adopt(memfd(may_seal, 5000, sealed)).find("in whole pages") != std::string::npos);
    CHECK(adopt(memfd(may_seal, 4096, sealed | F_SEAL_WRITE)).find("sealed against writing") != std::string::npos);
    CHECK(adopt(weft::io::descriptor(::open("/dev/zero", O_RDWR | O_CLOEXEC))).find("no memfd") != std::string::npos);
    CHECK(adopt({}).find("no memfd") != std::string::npos);
  });
}

TEST_CASE("a doorbell from a peer that is no eventfd is refused with a sentence") {
  weft::run([] {
    CHECK(ipc::adopt_bell(ipc::make_bell()));
    const auto adopt = [](weft::io::descriptor fd) {
      return refusal([&] { static_cast<void>(ipc::adopt_bell(std::move(fd))); });
    };
    CHECK(adopt(weft::io::descriptor(::open("/dev/null", O_WRONLY | O_CLOEXEC))).find("no eventfd") != std::string::npos);
    CHECK(adopt({}).find("no eventfd") != std::string::npos);
  });
}
