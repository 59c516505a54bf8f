#include "weft/error.hpp"

#include <string>

#include "sched/report.hpp"

namespace weft {

deadlock::deadlock(const std::string& report)
    : std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur), report) {}

namespace detail {

void throw_error(std::errc code, const char* what) { throw std::system_error(std::make_error_code(code), what); }

void throw_errno(int error, const char* what) { throw std::system_error(error, std::system_category(), what); }

namespace {

std::string off_weft_text(const char* call) {
  return std::string("weft: ") + call +
         " was called outside a weft thread; call it inside weft::run, or use a weft::poster to get in";
}

}  // namespace

void throw_off_weft(const char* call) {
  throw std::system_error(std::make_error_code(std::errc::operation_not_permitted), off_weft_text(call));
}

void end_off_weft(const char* call) noexcept { sched::fatal(off_weft_text(call) + " (threads wait for it)"); }

void check_failed(const char* expression, const char* file, int line) noexcept {
  sched::fatal(std::string("weft: broken invariant: ") + expression + " (" + file + ":" + std::to_string(line) +
               "). This is a bug in weft: please report it with the lines below.");
}

}  // namespace detail
}  // namespace weft
