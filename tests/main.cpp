// main() of every test program: doctest, and a count of the cases that skip.hpp skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS  // SIGSEGV is weft's: stack overflow reports
#include <doctest/doctest.h>

#include <iostream>
#include <string>
#include <string_view>

#include "tests/skip.hpp"

namespace {

constexpr int skipped_status = 77;

struct progress {
  std::string current_case;
  bool current_skipped = false;
  unsigned run = 0;      // cases begun
  unsigned skipped = 0;  // of those, the ones that skip() left without a failure
  unsigned failed = 0;
};
progress& state() {
  static progress instance;
  return instance;
}

struct listener : doctest::IReporter {
  explicit listener(const doctest::ContextOptions&) {}
  void test_case_start(const doctest::TestCaseData& data) override {
    state().current_case = data.m_name;
    state().current_skipped = false;
    ++state().run;
    std::cout << "-- " << data.m_name << '\n';  // the last of these names the case that crashed or hung
  }
  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++state().failed;
    } else if (state().current_skipped) {
      ++state().skipped;
      std::cout << "[skipped] 1 case\n";  // count_results.py adds these up
    }
  }
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
DOCTEST_REGISTER_LISTENER("skips", 1, listener);

}  // namespace

void skip(std::string_view reason) {
  if (!state().current_skipped) std::cout << "skipped: " << state().current_case << ": " << reason << '\n';
  state().current_skipped = true;
}

int main(int argc, char** argv) {
  std::cout << std::unitbuf;  // what was printed before a crash is seen
  doctest::Context context(argc, argv);
  const int result = context.run();
  if (context.shouldExit() || result != 0) return result;
  return state().skipped == state().run ? skipped_status : 0;
}
