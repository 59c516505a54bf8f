// read_exactly and write_all: short transfers repeated until all is done, and errors that say how far it came.
#include <string>

#include "upcall/io_call.hpp"
#include "upcall/io_whole.hpp"
#include "weft/error.hpp"

namespace weft::io {

namespace {

class category_of_io final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "weft.io"; }
  [[nodiscard]] std::string message(int value) const override {
    return value == static_cast<int>(error::end_of_file) ? "End of file" : "Unknown error";
  }
};

constinit const category_of_io only_category;

}  // namespace

const std::error_category& category() noexcept { return only_category; }

namespace detail {

void fail(std::error_code code, const std::string& what) { throw std::system_error(code, "weft: cannot " + what); }

void fail(int error, const char* what, handle on) {
  fail(code_of(error), std::string(what) + " descriptor " + std::to_string(on.fd()));
}

void fail_transfer(std::error_code code, const char* what, handle on, std::size_t done, std::size_t wanted) {
  throw transfer_error(code,
                       std::string("weft: cannot ") + what + " descriptor " + std::to_string(on.fd()) + " (" +
                           std::to_string(done) + " of " + std::to_string(wanted) + " bytes done)",
                       done);
}

}  // namespace detail

std::size_t read_exactly(handle from, buffer to, time_point deadline) {
  return detail::whole("read from", from, to, [&](buffer rest, std::error_code& ec) { return read(from, rest, ec, deadline); });
}
std::size_t read_exactly(handle from, buffer to, std::error_code& ec, time_point deadline) {
  return detail::whole(to, ec, [&](buffer rest, std::error_code& e) { return read(from, rest, e, deadline); });
}

std::size_t write_all(handle to, const_buffer data, time_point deadline) {
  return detail::whole("write to", to, data,
                       [&](const_buffer rest, std::error_code& ec) { return write(to, rest, ec, deadline); });
}
std::size_t write_all(handle to, const_buffer data, std::error_code& ec, time_point deadline) {
  return detail::whole(data, ec, [&](const_buffer rest, std::error_code& e) { return write(to, rest, e, deadline); });
}

}  // namespace weft::io
