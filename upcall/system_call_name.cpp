// The names of system calls, from the table that cmake/system-call-names.cmake makes of the compiler's headers.
#include <algorithm>
#include <array>

#include "weft/upcall.hpp"

namespace weft::upcall {

namespace {

struct named {
  int number;
  std::string_view name;
};
constexpr std::array table = std::to_array<named>({
#include "weft_system_call_names.inc"
});

}  // namespace

std::string_view system_call_name(int number) noexcept {
  const auto* const found = std::find_if(table.begin(), table.end(), [=](const named& each) { return each.number == number; });
  return found == table.end() ? std::string_view("a system call without a name") : found->name;
}

}  // namespace weft::upcall
