// Files and pipes as objects. both-transfers
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/io_fixture.hpp"
#include "weft/file.hpp"
#include "weft/runtime.hpp"
#include "weft/thread.hpp"

using namespace std::chrono_literals;
using weft::open_mode;

namespace {

std::string content(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a file is written, read back and measured") {
  temporary_directory where;
  weft::run([&] {
    weft::file out(where / "text", open_mode::write | open_mode::create | open_mode::exclusive, 0640);
    CHECK(out.write_all("line one\n") == 9);
    CHECK(out.write("line two\n") == 9);
    CHECK(out.size() == 18);
    CHECK(out.position() == 18);
    out.sync();
    out.sync_data();
    out.close();
    CHECK_FALSE(out);
    weft::file in(where / "text");
    char line[9];
    CHECK(in.read_exactly(line) == 9);
    CHECK(std::string(line, 9) == "line one\n");
    in.seek(5);
    CHECK(in.read(std::span(line, 3)) == 3);
    CHECK(std::string(line, 3) == "one");
    in.seek(18);
    CHECK(in.read(line) == 0);
    struct stat about {};
    CHECK(::fstat(in.native_handle(), &about) == 0);
    CHECK((about.st_mode & 0777 & ~0640u) == 0);
  });
}

TEST_CASE("appending writes to the end wherever the position is, and truncating starts anew") {
  temporary_directory where;
  const std::string path = where / "log";
  weft::run([&] {
    weft::file first(path, open_mode::append | open_mode::create);
    weft::file second(path, open_mode::append);
    first.write_all("a");
    second.write_all("b");
    first.write_all("c");
    CHECK(content(path) == "abc");
    weft::file(path, open_mode::write | open_mode::truncate).write_all("new");
    CHECK(content(path) == "new");
  });
}

TEST_CASE("reading and writing at an offset leaves the position alone") {
  temporary_directory where;
  weft::run([&] {
    weft::file both(where / "data", open_mode::read_write | open_mode::create);
    CHECK(both.write_at(4, "tail") == 4);
    CHECK(both.position() == 0);
    both.write_all("head");
    char all[8];
    CHECK(both.read_at(0, all) == 8);
    CHECK(std::string(all, 8) == "headtail");
    CHECK(both.read_at(100, all) == 0);
    both.resize(2);
    CHECK(both.size() == 2);
    both.resize(1000);
    CHECK(both.read_at(990, all) == 8);
    CHECK(all[0] == '\0');
    std::error_code ec;
    both.resize(~std::uint64_t{0}, ec);
    CHECK(ec == std::errc::file_too_large);
  });
}

TEST_CASE("many threads read one file at their own offsets") {
  temporary_directory where;
  const std::string path = where / "numbers";
  std::vector<std::uint32_t> numbers(1 << 18);
  for (std::uint32_t i = 0; i < numbers.size(); ++i) numbers[i] = i * 2654435761u;
  weft::run([&] {
    weft::file(path, open_mode::write | open_mode::create).write_all(numbers);
    weft::file in(path);
    std::vector<weft::jthread> readers;
    std::size_t right = 0;
    for (std::size_t i = 0; i < 64; ++i) {
      readers.emplace_back([&, i] {
        std::vector<std::uint32_t> part(numbers.size() / 64);
        const std::size_t begin = i * part.size();
        std::size_t done = 0;
        while (done < part.size() * 4) {
          const std::size_t n = in.read_at(static_cast<off_t>(begin * 4 + done), weft::io::buffer(part).from(done));
          CHECK(n != 0);
          if (n == 0) return;
          done += n;
        }
        right += std::equal(part.begin(), part.end(), numbers.begin() + static_cast<std::ptrdiff_t>(begin)) ? 1 : 0;
      });
    }
    readers.clear();
    CHECK(right == 64);
  });
}

TEST_CASE("a file that cannot be opened is an error with its path, in both forms") {
  temporary_directory where;
  weft::run([&] {
    const std::filesystem::path missing = where / "missing";
    const failure absent = failure_of([&] { return weft::file(missing); });
    CHECK(absent.code == std::errc::no_such_file_or_directory);
    CHECK(absent.says("cannot open '" + missing.string() + "'"));
    CHECK(failure_of([&] { return weft::file("/", open_mode::write); }).code == std::errc::is_a_directory);
    std::error_code ec;
    CHECK_FALSE(weft::file::open(missing, open_mode::read, ec));
    CHECK(ec == std::errc::no_such_file_or_directory);
    CHECK(weft::file::open(missing, open_mode::write | open_mode::create | open_mode::exclusive, ec));
    CHECK_FALSE(ec);
    CHECK_FALSE(weft::file::open(missing, open_mode::write | open_mode::create | open_mode::exclusive, ec));
    CHECK(ec == std::errc::file_exists);
    char line[4];
    CHECK(failure_of([&] { return weft::file("/").read(line); }).code == std::errc::is_a_directory);
  });
}

TEST_CASE("a file that is not open fails every call with bad_file_descriptor") {
  weft::run([] {
    weft::file none;
    char line[4];
    CHECK_FALSE(none);
    CHECK(failure_of([&] { return none.read(line); }).code == std::errc::bad_file_descriptor);
    CHECK(failure_of([&] { return none.write_at(0, "x"); }).code == std::errc::bad_file_descriptor);
    CHECK(failure_of([&] { return none.size(); }).code == std::errc::bad_file_descriptor);
    CHECK(failure_of([&] { return none.sync(), 0; }).code == std::errc::bad_file_descriptor);
    none.close();
  });
}

TEST_CASE("opening, reading and closing a thousand files in as many threads loses none") {
  temporary_directory where;
  for (int i = 0; i < 1000; ++i) std::ofstream(where / std::to_string(i)) << i;
  weft::run([&] {
    std::vector<weft::jthread> threads;
    int right = 0;
    for (int i = 0; i < 1000; ++i) {
      threads.emplace_back([&, i] {
        weft::file in(where / std::to_string(i));
        std::string text(10, '\0');
        text.resize(in.read(text));
        right += text == std::to_string(i) ? 1 : 0;
      });
    }
    threads.clear();
    CHECK(right == 1000);
  });
}

TEST_CASE("a pipe carries bytes from its writer to its reader, and its end when the writer closes") {
  weft::run([] {
    auto [reader, writer] = weft::pipe();
    std::string all;
    weft::thread consumer([&all, end = std::move(reader)]() mutable {
      char block[7];
      for (std::size_t n = 0; (n = end.read(block)) != 0;) all.append(block, n);
    });
    for (int i = 0; i < 10; ++i) writer.write_all("0123456789");
    writer.close();
    consumer.join();
    CHECK(all.size() == 100);
    CHECK(all.substr(90) == "0123456789");
  });
}

TEST_CASE("descriptors do not leak: after all of it as many are open as before") {
  const auto open_now = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  temporary_directory where;
  const auto before = open_now();
  weft::run([&] {
    for (int i = 0; i < 100; ++i) {
      weft::pipe p;
      weft::file f(where / "file", open_mode::write | open_mode::create);
      std::error_code ec;
      p.reader.read(weft::io::buffer(&i, 1), ec, weft::clock::now());
      f = weft::file();
      p.writer = weft::pipe_writer();
      static_cast<void>(weft::file::open(where / "missing", open_mode::read, ec));
    }
  });
  CHECK(open_now() == before);
}
