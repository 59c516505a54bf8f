// Mailboxes under every schedule: seeded ones on the simulated kernel, and real kernel threads, schedulers and regions at once.
// What must hold: every value that was accepted comes out once, those of one sender in their order; nobody waits while there is
// something to take, or room; and a mailbox may go as soon as its last value has come out.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "tests/simulated_source.hpp"
#include "weft/blocking.hpp"
#include "weft/mailbox.hpp"
#include "weft/run_on.hpp"

using namespace std::chrono_literals;

namespace {

// Who sent it, and which of that one's values it is. Every so many moves one fails, if the test wants that.
struct letter {
  letter(std::size_t who, std::uint32_t which) : sender(who), number(which) {}
  letter(letter&& other) : sender(other.sender), number(other.number) {
    if (fails_each != 0 && ++moves % fails_each == 0) throw std::runtime_error("move");
  }
  letter& operator=(letter&&) = delete;
  std::size_t sender;
  std::uint32_t number;
  static inline unsigned fails_each = 0;
  static inline unsigned moves = 0;
};

// What one receiver has seen of each sender.
class readings {
 public:
  explicit readings(std::size_t senders) : last_(senders, 0) {}
  /// @returns false when they came out of order
  template <class Letter> [[nodiscard]] bool take(const Letter& l) {
    const bool later = l.number > last_[l.sender];
    last_[l.sender] = l.number;
    ++count;
    sum += l.number;
    return later;
  }
  std::uint64_t count = 0;
  std::uint64_t sum = 0;

 private:
  std::vector<std::uint32_t> last_;
};

struct world {
  world(simulated_source& k, std::size_t capacity) : kernel(k), box(capacity) {}
  simulated_source& kernel;
  weft::mailbox<letter> box;
  std::uint64_t accepted = 0;
  std::uint64_t accepted_sum = 0;
  std::uint64_t received = 0;
  std::uint64_t received_sum = 0;
  int receiving = 0;  // threads in a wait without a limit
  int sending = 0;
  bool failures = false;

  void accept(const letter& l) {
    ++accepted;
    accepted_sum += l.number;
  }
};

constexpr std::size_t actors = 7;

// Counts somebody in for as long as the call takes, also when that throws.
struct counted {
  explicit counted(int& in) : of(in) { ++of; }
  ~counted() { --of; }
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  int& of;
};

class actor {
 public:
  actor(world& w, std::size_t number) : w_(w), me_(number), seen_(actors) {}

  void live() {
    for (std::size_t i = 0, steps = 1 + w_.kernel.below(12); i < steps; ++i) {
      try {
        act();
      } catch (const weft::channel_closed&) {
        CHECK(w_.box.closed());
      } catch (const std::runtime_error&) {
        CHECK(w_.failures);
      }
    }
  }

 private:
  void act() {
    switch (w_.kernel.below(10)) {
      case 0:
      case 1:
        return send(false);
      case 2:
        return send(true);
      case 3:
      case 4:
        return receive(false);
      case 5:
        return receive(true);
      case 6:
        return from_elsewhere();
      case 7: {
        weft::upcall::operation request;
        request.length = 5;
        return static_cast<void>(weft::detail::perform(request));
      }
      case 8:
        if (w_.kernel.chance(12)) w_.box.close();
        return;
      default:
        return weft::this_thread::yield();
    }
  }

  void send(bool limited) {
    letter l(me_, ++sent_);
    if (!limited) {
      const counted in(w_.sending);
      w_.box.send(std::move(l));  // its numbers stay here
    } else if (!w_.box.try_send_for(l, std::chrono::microseconds(w_.kernel.below(3)))) {
      return;
    }
    w_.accept(l);
  }

  void receive(bool limited) {
    if (!limited) {
      const counted in(w_.receiving);
      take(w_.box.receive());
    } else if (w_.kernel.chance(2)) {
      take(w_.box.receive_for(std::chrono::microseconds(w_.kernel.below(3))));
    } else {
      take(w_.box.try_receive());
    }
  }

  void take(const std::optional<letter>& got) {
    if (!got.has_value()) return;
    CHECK(seen_.take(*got));
    ++w_.received;
    w_.received_sum += got->number;
  }

  // Another kernel thread: those who wait here are woken by posts that are still on their way when it has ended.
  void from_elsewhere() {
    const bool sends = w_.kernel.chance(2);
    std::thread([&] {
      try {
        letter l(me_, ++sent_);
        if (!sends) {
          take(w_.box.try_receive());
        } else if (w_.box.try_send(l)) {
          w_.accept(l);
        }
      } catch (const weft::channel_closed&) {
      } catch (const std::runtime_error&) {
      }
    }).join();
  }

  world& w_;
  std::size_t me_;
  std::uint32_t sent_ = 0;
  readings seen_;
};

void play(simulated_source& source, bool failures) {
  world w(source, 1 + source.below(4));
  w.failures = failures;
  letter::fails_each = failures ? 7 : 0;
  std::vector<weft::thread> threads;
  for (std::size_t i = 0; i < actors; ++i) threads.emplace_back([&w, i] { actor(w, i).live(); });
  for (std::size_t i = source.below(6); i > 0; --i) weft::this_thread::yield();
  for (auto& t : threads) {
    if (source.chance(5)) t.request_cancel();
  }
  weft::this_thread::sleep_for(1ms);  // until nobody can go on
  letter::fails_each = 0;
  if (!failures) {
    CHECK((w.receiving == 0 || (w.box.size() == 0 && !w.box.closed())));
    CHECK((w.sending == 0 || (w.box.size() == w.box.capacity() && !w.box.closed())));
  }
  CHECK((w.receiving == 0 || w.sending == 0));
  w.box.close();
  for (auto& t : threads) t.join();
  for (const letter& l : w.box) {
    ++w.received;
    w.received_sum += l.number;
  }
  if (failures) {
    CHECK(w.received <= w.accepted);
  } else {
    CHECK(w.received == w.accepted);
    CHECK(w.received_sum == w.accepted_sum);
  }
  CHECK(source.pending() == 0);
}

void play_seeds(std::size_t count, bool failures) {
  for (const std::uint64_t seed : seeds(count)) {
    CAPTURE(seed);
    simulated_source source(seed);
    weft::options how;
    how.source = &source;
    how.switches_per_poll = 1 + static_cast<unsigned>(source.below(8));
    weft::run(how, [&] { play(source, failures); });
  }
}

}  // namespace

TEST_CASE("whatever the order of events, every value comes out once and in order, and nobody waits for what is there") {
  play_seeds(1500, false);
}

TEST_CASE("the same where moves fail: no other value is lost, and nobody is left waiting") { play_seeds(1000, true); }

namespace {

struct note {
  std::size_t sender;
  std::uint32_t number;
};

// Kernel threads, threads of two schedulers and regions, all of which send and receive, give up, and are asked to end.
class exchange {
 public:
  static constexpr std::uint32_t notes = 300;
  static constexpr std::size_t senders = 8;

  exchange(std::uint64_t seed, std::size_t capacity) : seed_(seed), box_(capacity) {}

  void send(std::size_t who) {
    std::mt19937_64 random(seed_ * 100 + who);
    for (std::uint32_t i = 1; i <= notes; ++i) {
      note n{who, i};
      if (random() % 2 == 0) {
        while (!box_.try_send_for(n, std::chrono::microseconds(random() % 20))) {
        }
      } else {
        box_.send(n);
      }
    }
    if (done_.fetch_add(1) + 1 == senders) box_.close();
  }

  void receive(std::uint64_t who) {
    std::mt19937_64 random(seed_ * 1000 + who);
    readings seen(senders);
    while (std::optional<note> got = receive_one(random() % 2 == 0, random() % 20)) {
      if (!seen.take(*got)) ++wrong;
    }
    count += seen.count;
    sum += seen.sum;
  }

  // Those who receive are asked to end again and again.
  void receive_in_vain() {
    while (!box_.closed()) {
      weft::thread t({.start = weft::start::now}, [this] {
        const std::optional<note> got = box_.receive();
        if (!got.has_value()) return;
        ++count;
        sum += got->number;
      });
      weft::this_thread::yield();
      t.request_cancel();
      t.join();
    }
  }

  void run();

  std::atomic<std::uint64_t> count{0};
  std::atomic<std::uint64_t> sum{0};
  std::atomic<int> wrong{0};

 private:
  std::optional<note> receive_one(bool limited, std::uint64_t microseconds) {
    while (limited) {
      if (auto got = box_.receive_for(std::chrono::microseconds(microseconds)); got.has_value()) return got;
      if (box_.closed()) break;
    }
    return box_.receive();
  }

  std::uint64_t seed_;
  weft::mailbox<note> box_;
  std::atomic<std::size_t> done_{0};
};

void exchange::run() {
  std::vector<std::thread> kernel;
  kernel.emplace_back([this] { send(0); });
  kernel.emplace_back([this] { send(1); });
  kernel.emplace_back([this] { receive(1); });
  kernel.emplace_back([this] { receive(2); });
  weft::run_on(2, [this](const weft::processors& all) {
    const std::size_t first = 2 + 3 * all.index();
    std::vector<weft::thread> threads;
    threads.emplace_back([this, first] { send(first); });
    threads.emplace_back([this, first] { send(first + 1); });
    threads.emplace_back([this, first] { weft::blocking([this, first] { send(first + 2); }); });
    threads.emplace_back([this, first] { receive(first + 10); });
    threads.emplace_back([this, first] { weft::blocking([this, first] { receive(first + 11); }); });
    threads.emplace_back([this] { receive_in_vain(); });
    for (auto& t : threads) t.join();
  });
  for (auto& t : kernel) t.join();
}

}  // namespace

TEST_CASE("kernel threads, two schedulers and regions that send, receive, give up and are asked to end lose no value") {
  for (const std::uint64_t seed : seeds(12)) {
    CAPTURE(seed);
    exchange x(seed, 1 + seed % 5);
    x.run();
    CHECK(x.wrong == 0);
    CHECK(x.count == exchange::senders * exchange::notes);
    CHECK(x.sum == exchange::senders * std::uint64_t{exchange::notes} * (exchange::notes + 1) / 2);
  }
}

TEST_CASE("mailboxes that end as soon as their last value has come out, or they are found closed, take nobody along") {
  for (int i = 0; i < 600; ++i) {
    auto box = std::make_unique<weft::mailbox<int>>(1 + static_cast<std::size_t>(i % 3));
    std::thread sender([m = box.get(), i] {
      for (int n = 0; n < 5; ++n) m->send(n);
      if (i % 2 == 0) m->close();
    });
    weft::run([&] {
      int sum = 0;
      for (int n = 0; n < 5; ++n) sum += *box->receive();
      if (i % 2 == 0) CHECK(!box->receive().has_value());
      box.reset();
      CHECK(sum == 10);
    });
    sender.join();
  }
}

TEST_CASE("a sender that attends to somebody who has left already may find the mailbox on its way out") {
  for (int i = 0; i < 3000; ++i) {
    auto box = std::make_unique<weft::mailbox<int>>(1);
    CHECK(!box->receive_for(0s).has_value());  // leaves its mark
    std::thread sender([m = box.get()] { m->send(1); });
    while (!box->try_receive().has_value()) std::this_thread::yield();
    box.reset();
    sender.join();
  }
}
