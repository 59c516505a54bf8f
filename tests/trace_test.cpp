// The event ring, what its records tell, and the drawing for terminals.
#include "weft/trace.hpp"

#include <doctest/doctest.h>

#include <sstream>

#include "tests/trace_story.hpp"
#include "upcall/trace_replay.hpp"

using namespace weft;
using namespace traced;

namespace {

// "1 running 0-10 | 1 read 10-30 | idle 10-30"
class story final : public trace::listener {
 public:
  void lived(const trace::stretch& s) override {
    static constexpr const char* states[] = {"absent", "running", "ready", ""};
    const std::string state = s.state == trace::life::waiting ? std::string(s.why) : states[static_cast<int>(s.state)];
    add(std::to_string(s.thread) + " " + state, s.from, s.to);
  }
  void idled(std::uint64_t from, std::uint64_t to) override { add("idle", from, to); }
  void happened(const record&, std::uint64_t) override { ++records; }

  std::string text;
  std::size_t records = 0;

 private:
  void add(const std::string& who, std::uint64_t from, std::uint64_t to) {
    if (!text.empty()) text += " | ";
    text += who + " " + std::to_string(from) + "-" + std::to_string(to);
  }
};

std::string story_of(const std::vector<record>& records) {
  story told;
  trace::replay(records, told);
  CHECK(told.records == records.size());
  return told.text;
}

std::string line_of(const std::string& drawing, std::size_t number) {
  std::istringstream lines(drawing);
  std::string line;
  for (std::size_t i = 0; i <= number; ++i) std::getline(lines, line);
  return line;
}

}  // namespace

TEST_CASE("a ring keeps the latest records and counts the lost ones") {
  trace::ring events(3);  // rounded up to 4
  CHECK(events.snapshot().empty());
  for (std::uint32_t i = 1; i <= 4; ++i) events.append(at(i, what::run, i));
  CHECK(events.lost() == 0);
  CHECK(events.snapshot().size() == 4);
  for (std::uint32_t i = 5; i <= 6; ++i) events.append(at(i, what::run, i, -7, trace::waits_for::inbox));
  CHECK(events.written() == 6);
  CHECK(events.lost() == 2);
  const auto records = events.snapshot();
  CHECK(records.size() == 4);
  CHECK(records.front().thread == 3);
  CHECK(records.back().thread == 6);
  CHECK(records.back().value == -7);
  CHECK(records.back().detail == 9);
}

TEST_CASE("a ring remembers the names of the latest 65,536 threads and forgets older ones") {
  trace::ring events(1);
  CHECK(events.name_of(1).empty());
  events.name_thread(1, "main");
  events.name_thread(2, "a name of more than thirty-one bytes");
  events.name_thread(3, "gone");
  events.name_thread(3, "");
  CHECK(events.name_of(1) == "main");
  CHECK(events.name_of(2) == "a name of more than thirty-one ");
  CHECK(events.name_of(3).empty());
  events.name_thread(1 + 65'536, "later");
  CHECK(events.name_of(1).empty());
  CHECK(events.name_of(1 + 65'536) == "later");
  events.name_thread(4'294'967'295U, "last");
  CHECK(events.name_of(4'294'967'295U) == "last");
}

TEST_CASE("ticks turn into nanoseconds, also right after a ring was made") {
  const trace::ring events(1);
  const auto begin = clock::now();
  const std::uint64_t ticks = trace::ticks();
  const double scale = events.nanoseconds_per_tick();  // takes a millisecond
  const double measured = static_cast<double>(trace::ticks() - ticks) * scale;
  const double elapsed = std::chrono::duration<double, std::nano>(clock::now() - begin).count();
  CHECK(measured > 0);
  CHECK(measured <= elapsed * 1.1);
}

TEST_CASE("records tell when a thread was ready, ran and waited, and for what") {
  CHECK(story_of({at(100, what::spawn, 1), at(110, what::run, 1), at(130, what::park, 1, 64, trace::waits_for::mutex),
                  at(130, what::idle), at(150, what::busy), at(150, what::ready, 1), at(160, what::run, 1),
                  at(170, what::yield, 1), at(175, what::run, 1), at(180, what::exit, 1)}) ==
        "1 ready 0-10 | 1 running 10-30 | idle 30-50 | 1 mutex 30-50 | 1 ready 50-60 | 1 running 60-70 | 1 ready 70-75 | "
        "1 running 75-80");
  CHECK(story_of({at(0, what::spawn, 1), at(0, what::run, 1), upcall_at(5, upcall::kind::blocked, upcall::cause::read, 1),
                  upcall_at(9, upcall::kind::unblocked, upcall::cause::read, 1), at(10, what::ready, 1), at(12, what::run, 1),
                  upcall_at(15, upcall::kind::preempted, upcall::cause::time_slice, 1), at(20, what::run, 1)}) ==
        "1 running 0-5 | 1 read 5-9 | 1 ready 9-12 | 1 running 12-15 | 1 ready 15-20 | 1 running 20-20");
}

TEST_CASE("a trace that lost its beginning is completed as far as what follows tells") {
  CHECK(story_of({upcall_at(7, upcall::kind::blocked, upcall::cause::send, 1),
                  upcall_at(10, upcall::kind::unblocked, upcall::cause::poll, 2), at(11, what::ready, 3), at(12, what::run, 4),
                  at(20, what::yield, 4)}) ==
        "1 running 0-0 | 2 poll 0-3 | 3 waiting 0-4 | 4 ready 0-5 | 4 running 5-13 | 1 send 0-13 | 2 ready 3-13 | 3 ready 4-13");
  CHECK(story_of({at(5, what::run, 9), at(9, what::yield, 1), at(10, what::exit, 2), at(11, what::park, 9)}) == "9 running 0-6");
  CHECK(story_of({at(5, what::run, 1), at(5, what::exit, 1), at(10, what::busy), at(11, what::idle), at(20, what::run, 1)}) ==
        "1 running 0-0 | idle 6-15 | 1 running 15-15");
  CHECK(story_of({at(1, what::ready, 1), at(10, what::busy)}) == "idle 0-9 | 1 ready 0-9");
}

TEST_CASE("records that contradict one another or come from a later version do no harm") {
  // Time that runs backwards stands still; who loses the processor without a word is ready; an unknown kind says nothing.
  CHECK(story_of({at(100, what::run, 1), at(90, what::run, 2), at(120, static_cast<what>(200), 2), at(130, what::idle, 2)}) ==
        "1 running 0-0 | 2 running 0-30 | 1 ready 0-30 | idle 30-30");
  CHECK(story_of({upcall_at(0, static_cast<upcall::kind>(99), static_cast<upcall::cause>(99), 1), at(1, what::park, 0),
                  upcall_at(2, upcall::kind::blocked, upcall::cause::post, 0)})
            .empty());
  CHECK(story_of({}).empty());
}

TEST_CASE("a drawing shows who ran, waited and was ready when") {
  trace::ring events(64);
  append_story(events);
  events.name_thread(1, "main");
  events.name_thread(2, "läser");
  const std::string drawing = trace::draw(events, 5, 30);
  CHECK(line_of(drawing, 0).starts_with("time, "));
  CHECK(line_of(drawing, 1) == "processor ########......  ####");
  CHECK(line_of(drawing, 2) == "1 main    ####.............+##");
  CHECK(line_of(drawing, 3) == "2 l?ser     ++####......++##");
  CHECK(line_of(drawing, 4) == "# ran  . waited  + ready");
}

TEST_CASE("a drawing keeps to its columns and rows and chooses the threads with most events") {
  trace::ring events(4096);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint32_t thread = i % 3 == 0 ? i + 10 : 7;
    events.append(at(i * 1000, what::run, thread));
  }
  for (const std::size_t columns : {0U, 1U, 2U, 9U, 40U, 200U}) {
    std::istringstream lines(trace::draw(events, 2, columns));
    std::size_t count = 0;
    for (std::string line; std::getline(lines, line); ++count) CHECK(line.size() <= columns);
    CHECK(count == 5);
  }
  CHECK(line_of(trace::draw(events, 2, 120), 2).starts_with(" 7 "));
  CHECK(line_of(trace::draw(events, 2, 120), 4).find("2 of 335 threads") != std::string::npos);
  CHECK(line_of(trace::draw(events, 0, 120), 1).find('#') != std::string::npos);
  CHECK(trace::draw(trace::ring(8), 5, 80) == "no events were recorded\n");
}

TEST_CASE("every kind, cause and wait has a name, and values of later versions have one too") {
  for (std::size_t i = 0; i < upcall::kind_count; ++i) CHECK(upcall::name(static_cast<upcall::kind>(i)) != "unknown");
  for (std::size_t i = 0; i < upcall::cause_count; ++i) CHECK(upcall::name(static_cast<upcall::cause>(i)) != "unknown");
  for (std::uint8_t i = 0; i <= 14; ++i) CHECK(trace::waits_for_named(trace::name(trace::waits_for{i})) == trace::waits_for{i});
  CHECK(upcall::name(upcall::cause::page_fault) == "page_fault");
  CHECK(upcall::name(static_cast<upcall::kind>(200)) == "unknown");
  CHECK(upcall::name(static_cast<upcall::cause>(200)) == "unknown");
  CHECK(trace::name(static_cast<trace::waits_for>(200)) == "other");
  CHECK(upcall::cause_of(upcall::opcode::readv) == upcall::cause::read);
  CHECK(upcall::cause_of(upcall::opcode::sync) == upcall::cause::sync);
  upcall::tally counts;
  counts.by[2] = {0, 3, 4};
  CHECK(counts.of(upcall::kind::blocked) == 7);
  CHECK(counts.of(upcall::kind::unblocked) == 0);
}
