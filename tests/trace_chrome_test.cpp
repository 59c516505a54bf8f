// Traces as Chrome's JSON: of records made by hand, and of a whole program run under WEFT_TRACE. both-transfers
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>

#include "tests/json_reader.hpp"
#include "tests/skip.hpp"
#include "tests/sliced.hpp"
#include "tests/trace_story.hpp"
#include "upcall/json_text.hpp"
#include "weft/blocking.hpp"
#include "weft/io.hpp"
#include "weft/run_on.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"
#include "weft/trace.hpp"

using namespace weft;
using namespace traced;

namespace {

class temporary_file {
 public:
  temporary_file() { close(mkstemp(path.data())); }
  ~temporary_file() { unlink(path.c_str()); }
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  [[nodiscard]] json::value read() const {
    std::ifstream in(path);
    return json::read(std::string(std::istreambuf_iterator<char>(in), {}));
  }
  std::string path = "/tmp/weft-trace-XXXXXX";
};

json::value chrome(const trace::ring& events) {
  const temporary_file file;
  trace::write_chrome(events, file.path);
  return file.read();
}

std::map<double, std::string> row_names(const json::value& document) {
  std::map<double, std::string> names;
  for (const json::value& e : document["traceEvents"].items()) {
    if (e["name"].text() == "thread_name") names[e["tid"].number()] = e["args"]["name"].text();
  }
  return names;
}

// Slices of one row as "name name name"; checks that none begins before the one before it has ended.
std::string slices(const json::value& document, const std::string& row) {
  const auto names = row_names(document);
  std::map<double, std::pair<double, std::string>> found;
  for (const json::value& e : document["traceEvents"].items()) {
    if (e["ph"].text() != "X" || names.at(e["tid"].number()) != row) continue;
    found[e["ts"].number()] = {e["dur"].number(), e["name"].text()};
  }
  std::string text;
  double end = 0;
  for (const auto& [start, slice] : found) {
    CHECK(start > end - 0.0005);
    end = start + slice.first;
    text += text.empty() ? slice.second : " " + slice.second;
  }
  return text;
}

std::size_t recorded(what kind, std::int64_t value = 0) {
  const auto records = trace::current()->snapshot();
  return static_cast<std::size_t>(
      std::count_if(records.begin(), records.end(), [=](const record& r) { return r.what == kind && r.value == value; }));
}

std::size_t recorded_processor_added() {
  const auto records = trace::current()->snapshot();
  return static_cast<std::size_t>(std::count_if(records.begin(), records.end(), [](const record& r) {
    return r.what == what::upcall && static_cast<upcall::kind>(r.detail) == upcall::kind::processor_added &&
           static_cast<upcall::cause>(r.cause) == upcall::cause::region && r.activation > 1;
  }));
}

// Events of the processor's row that have this name and category; 0 where the category is another.
std::size_t shown(const json::value& document, const std::string& name, const std::string& category) {
  std::size_t count = 0;
  for (const json::value& e : document["traceEvents"].items()) {
    if (e["name"].text() != name || e["tid"].number() != e["pid"].number()) continue;
    if (e["cat"].text() != category) return 0;
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("bytes of every kind become valid JSON strings") {
  std::string every;
  for (int i = 0; i < 256; ++i) every += static_cast<char>(i);
  std::string out;
  trace::append_json_string(out, every);
  const std::string back = json::read(out).text();
  CHECK(back.substr(0, 128) == every.substr(0, 128));
  CHECK(back.size() == 128 + 128 * 3);  // each of the others alone is no character: U+FFFD
  for (const char* text : {"zürich", "日本", "\U0001F9F5", "a\"b\\c\n\t\x7f"}) {
    out.clear();
    trace::append_json_string(out, text);
    CHECK(json::read(out).text() == text);
  }
  for (const char* broken : {"\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82", "\xF5\x80"}) {  // overlong, surrogate, …
    out.clear();
    trace::append_json_string(out, broken);
    CHECK(json::read(out).text().find(broken) == std::string::npos);
  }
}

TEST_CASE("a Chrome trace has a row for the processor and one for each thread, whose slices do not overlap") {
  trace::ring events(64);
  append_story(events);
  events.name_thread(1, "main");
  events.name_thread(2, "rea\"der\n\xff");
  const json::value document = chrome(events);
  CHECK(document["otherData"]["lost_events"].number() == 0);
  CHECK(row_names(document).size() == 3);
  CHECK(slices(document, "processor") == "main rea\"der\n\xEF\xBF\xBD idle rea\"der\n\xEF\xBF\xBD main");
  CHECK(slices(document, "main") == "running join ready running");
  CHECK(slices(document, "rea\"der\n\xEF\xBF\xBD") == "ready running read ready running");
}

TEST_CASE("a Chrome trace shows each upcall on the processor's row and on the thread's, with cause, result and activation") {
  trace::ring events(64);
  append_story(events);
  events.append(at(1'000'000'000, static_cast<what>(77), 5));
  std::size_t seen = 0;
  std::size_t unknown = 0;
  const json::value document = chrome(events);
  for (const json::value& e : document["traceEvents"].items()) {
    if (e["name"].text() == "unknown event") ++unknown;
    if (e["ph"].text() != "i" || e["name"].text() != "unblocked read") continue;
    ++seen;
    CHECK((e["tid"].number() == 2 || e["tid"].number() == e["pid"].number()));
    CHECK(e["args"]["kind"].text() == "unblocked");
    CHECK(e["args"]["cause"].text() == "read");
    CHECK(e["args"]["thread"].number() == 2);
    CHECK(e["args"]["activation"].number() == 1);
    CHECK(e["args"]["result"].number() == -104);
    CHECK(e["args"]["error"].text() == "Connection reset by peer");
  }
  CHECK(seen == 2);
  CHECK(unknown == 1);  // a later version's: shown, not understood
}

TEST_CASE("a Chrome trace of an overwritten ring says how many events are lost") {
  trace::ring events(8);  // of 14
  append_story(events);
  const json::value document = chrome(events);
  CHECK(document["otherData"]["lost_events"].number() == 6);
  CHECK(slices(document, "thread 2") == "read ready running");
  CHECK(slices(document, "thread 1") == "waiting ready running");
}

TEST_CASE("a trace that cannot be written is an error that names the file") {
  trace::ring events(64);
  append_story(events);
  CHECK_THROWS_WITH_AS(trace::write_chrome(events, "/nowhere/at/all.json"),
                       "weft: the trace cannot be written to \"/nowhere/at/all.json\": No such file or directory",
                       std::system_error);
  if (access("/dev/full", W_OK) != 0) return;
  CHECK_THROWS_WITH_AS(trace::write_chrome(events, "/dev/full"),
                       "weft: the trace cannot be written to \"/dev/full\": No space left on device", std::system_error);
}

TEST_CASE("WEFT_TRACE on a program writes who ran and what each thread waited for, from the first thread to the last") {
  const temporary_file file;
  setenv("WEFT_TRACE", file.path.c_str(), 1);
  weft::run([] {
    const auto ends = io::pipe();
    thread reader({.name = "reader"}, [&] {
      std::array<std::byte, 8> buffer{};
      CHECK(io::read(ends[0], buffer) == 1);
    });
    this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(io::write(ends[1], std::array{std::byte{'x'}}) == 1);
    reader.join();
    io::close(ends[0]);
    io::close(ends[1]);
  });
  unsetenv("WEFT_TRACE");
  const json::value document = file.read();
  CHECK(document["otherData"]["lost_events"].number() == 0);
  CHECK(row_names(document).size() == 3);
  CHECK(slices(document, "main").find("running timer ready running") != std::string::npos);
  CHECK(slices(document, "reader").find("running read ready running") != std::string::npos);
  CHECK(slices(document, "processor").starts_with("main reader "));
}

TEST_CASE("a region that blocks shows the downcalls of the paper's Table III, and the processor_added of its Table II") {
  const temporary_file file;
  setenv("WEFT_TRACE", file.path.c_str(), 1);
  weft::run([] {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    thread writer([&] { CHECK(::write(ends[1], "x", 1) == 1); });
    CHECK(recorded(what::add_processor, 1) == 0);
    char byte = 0;
    CHECK(blocking([&] { return ::read(ends[0], &byte, 1); }) == 1);
    writer.join();
    CHECK(recorded(what::add_processor, 1) >= 1);
    CHECK(recorded_processor_added() >= 1);
    while (recorded(what::idle) == 0) this_thread::sleep_for(std::chrono::milliseconds(1));
    ::close(ends[0]);
    ::close(ends[1]);
  });
  unsetenv("WEFT_TRACE");
  const json::value document = file.read();
  CHECK(shown(document, "downcall add_processor", "downcall") >= 1);
  CHECK(shown(document, "idle", "downcall") >= 1);
  CHECK(shown(document, "processor_added start", "upcall") == 1);
  CHECK(shown(document, "processor_added region", "upcall") >= 1);
}

TEST_CASE("run_on shows how many processors its first scheduler asked for") {
  const temporary_file file;
  setenv("WEFT_TRACE", file.path.c_str(), 1);
  std::atomic<int> asked = 0;
  weft::run_on(3, [&](const processors&) { asked += static_cast<int>(recorded(what::add_processor, 2)); });
  unsetenv("WEFT_TRACE");
  CHECK(asked == 1);
  for (const char* const other : {".2", ".3"}) unlink((file.path + other).c_str());
}

TEST_CASE("a preempted thread shows the upcall with its cause, on its row and on the processor's") {
  if (!no_slices().empty()) return skip(no_slices());
  const temporary_file file;
  setenv("WEFT_TRACE", file.path.c_str(), 1);
  std::uint32_t number = 0;
  run(sliced(), [&] {
    std::atomic<bool> over{false};
    thread crunch({.name = "crunch", .time_slice = true}, [&] {
      while (!over.load(std::memory_order_relaxed)) compute(1000);
    });
    while (preemptions() == 0) this_thread::yield();
    over = true;
    number = crunch.get_id().number();
    crunch.join();
  });
  unsetenv("WEFT_TRACE");
  const json::value document = file.read();
  int seen = 0;
  for (const json::value& e : document["traceEvents"].items()) {
    if (e["name"].text() != "preempted time_slice") continue;
    ++seen;
    CHECK(e["cat"].text() == "upcall");
    CHECK(e["args"]["cause"].text() == "time_slice");
    CHECK(e["args"]["thread"].number() == number);
  }
  CHECK(seen >= 2);
}
