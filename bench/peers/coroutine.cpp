// The peer coroutine: hand-written C++20 coroutines with a first-in-first-out ready queue and symmetric transfer.
//
// It is stackless: nothing that a coroutine calls may wait unless it is a coroutine too. That is what its figures buy.
#include "coroutine.hpp"

#include <cstdint>
#include <span>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace {

using namespace bench::stackless;

task yield_repeatedly(long times) {
  for (long i = 0; i < times; ++i) co_await yield{};
}

task nothing() { co_return; }

task answer(channel& there, channel& back, long round_trips) {
  for (long i = 0; i < round_trips; ++i) co_await back.send(co_await there.receive() + 1);
}

task ask(channel& there, channel& back, long round_trips) {
  std::uint64_t value = 0;
  for (long i = 0; i < round_trips; ++i) {
    co_await there.send(value);
    value = co_await back.receive();
  }
  if (value != static_cast<std::uint64_t>(round_trips)) bench::fail("a value was lost on its way");
}

task send_all(channel& to, std::uint64_t messages) {
  for (std::uint64_t i = 0; i < messages; ++i) co_await to.send(i);
}

task receive_all(channel& from, std::uint64_t messages) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < messages; ++i) sum += co_await from.receive();
  if (sum != messages * (messages - 1) / 2) bench::fail("a message was lost or came twice");
}

task send_in_turn(std::span<channel> to, std::size_t at, std::size_t step, std::uint64_t values) {
  for (std::uint64_t i = 0; i < values; ++i) {
    co_await to[at].send(i);
    at += step;
    if (at >= to.size()) at -= to.size();
  }
}

task receive_some(channel& from, std::uint64_t values, std::uint64_t& sum) {
  for (std::uint64_t i = 0; i < values; ++i) sum += co_await from.receive();
}

task receive_from_any(std::span<channel> from, std::uint64_t values, std::uint64_t& sum) {
  choice any(from);
  for (std::uint64_t i = 0; i < values; ++i) sum += co_await any.receive();
}

task count_itself(long& times) {
  ++times;
  co_return;
}

task park_for_ever(long& parked) {
  ++parked;
  co_await park{};
}

task skynet_grow(channel& upward, std::uint64_t first_leaf, std::uint64_t leaves) {
  constexpr std::uint64_t fan_out = 10;
  std::uint64_t sum = first_leaf;
  if (leaves > 1) {
    channel reports(16);
    const std::uint64_t part = leaves / fan_out;
    for (std::uint64_t i = 0; i < fan_out; ++i) spawn(skynet_grow(reports, first_leaf + i * part, part));
    sum = 0;
    for (std::uint64_t i = 0; i < fan_out; ++i) sum += co_await reports.receive();
  }
  co_await upward.send(sum);
}

double yield_among(long count) {
  return bench::ns_per_operation([count](long yields) {
    for (long i = 0; i < count; ++i) spawn(yield_repeatedly(yields / count));
    ready.run();
  });
}

double spawn_join() {
  return bench::ns_per_operation([](long count) {
    for (long i = 0; i < count; ++i) {
      spawn(nothing());
      ready.run();
    }
  });
}

double spawn_many() {
  constexpr long count = 100'000;
  const std::int64_t start = bench::now_ns();
  for (long i = 0; i < count; ++i) spawn(nothing());
  ready.run();
  return static_cast<double>(bench::now_ns() - start) / count;
}

double unbuffered_round_trip() {
  return bench::ns_per_operation([](long round_trips) {
    channel there(0);
    channel back(0);
    spawn(answer(there, back, round_trips));
    spawn(ask(there, back, round_trips));
    ready.run();
  });
}

double buffered_message() {
  return bench::ns_per_operation([](long messages) {
    channel between(128);
    spawn(send_all(between, static_cast<std::uint64_t>(messages)));
    spawn(receive_all(between, static_cast<std::uint64_t>(messages)));
    ready.run();
  });
}

double message_among_many() {
  constexpr long pairs = 8;
  return bench::ns_per_operation([](long messages) {
    channel between(128);
    const auto each = static_cast<std::uint64_t>(messages / pairs);
    std::uint64_t sum = 0;
    for (long i = 0; i < pairs; ++i) spawn(send_in_turn({&between, 1}, 0, 0, each));
    for (long i = 0; i < pairs; ++i) spawn(receive_some(between, each, sum));
    ready.run();
    if (sum != pairs * (each * (each - 1) / 2)) bench::fail("a message was lost or came twice");
  });
}

// As receive_from_any of select_rows.hpp; without a choice it receives from the first channel.
double receive_from(std::size_t channels, std::size_t senders, bool with_choice) {
  return bench::ns_per_operation([=](long values) {
    std::vector<channel> from(channels);
    const std::uint64_t all = static_cast<std::uint64_t>(values);
    const std::uint64_t each = all / senders;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < senders; ++i) spawn(send_in_turn(from, i % channels, senders % channels, each));
    spawn(with_choice ? receive_from_any(from, all, sum) : receive_some(from.front(), all, sum));
    ready.run();
    if (sum != senders * (each * (each - 1) / 2)) bench::fail("a value was lost or came twice");
  });
}

double select_two() {
  const double plain = receive_from(1, 2, false);
  const double chosen = receive_from(2, 2, true);
  bench::print_figure("select-2-receive", plain);
  bench::print_figure("select-2-ratio", chosen / plain);
  return chosen;
}

double nursery() {
  constexpr long together = 1000;
  return bench::ns_per_operation([](long count) {
    std::vector<long> times_run(together);
    for (long begun = 0; begun < count; begun += together) {
      for (long& times : times_run) spawn(count_itself(times));
      ready.run();
    }
    for (const long times : times_run) {
      if (times != count / together) bench::fail("not all coroutines have run");
    }
  });
}

double parked_bytes() {
  constexpr long count = 1'000'000;
  long parked = 0;
  const double before = bench::memory_bytes();
  for (long i = 0; i < count; ++i) spawn(park_for_ever(parked));
  ready.run();
  return (bench::memory_bytes() - before) / static_cast<double>(parked);
}

double skynet() {
  std::uint64_t leaves = 1;
  while (leaves * 10 <= static_cast<std::uint64_t>(bench::at_most_asked_for(1'000'000))) leaves *= 10;
  channel total(16);
  const std::int64_t start = bench::now_ns();
  spawn(skynet_grow(total, 0, leaves));
  ready.run();
  channel::receiving sum = total.receive();
  if (!sum.await_ready() || sum.self.value != leaves * (leaves - 1) / 2) bench::fail("the leaves do not add up");
  return static_cast<double>(bench::now_ns() - start) * 1e-6;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<bench::row> rows{
      {"yield-2", [] { return yield_among(2); }},
      {"yield-1000", [] { return yield_among(1000); }},
      {"spawn-join", spawn_join},
      {"spawn-100k", spawn_many},
      {"channel-unbuffered", unbuffered_round_trip},
      {"channel-buffered-128", buffered_message},
      {"channel-mpmc-8", message_among_many},
      {"select-2", select_two},
      {"select-2-receive", [] { return receive_from(1, 2, false); }},
      {"select-100", [] { return receive_from(100, 1, true); }},
      {"nursery-1000", nursery},
      {"parked-1m", parked_bytes},
      {"skynet-1m", skynet},
      {"skynet-1m-later", skynet},  // there is one order only: what is spawned runs when its parent waits
  };
  return bench::run_row(argc, argv, {rows});
}
