// The peer jump_fcontext: one raw, one-way switch of Boost.Context, with no scheduler around it. It is the floor under any
// library built on it, and what a whole yield of weft is held against.
#include <boost/context/detail/fcontext.hpp>

#include <cstddef>
#include <vector>

#include "measure.hpp"
#include "program.hpp"

namespace {

namespace context = boost::context::detail;

constexpr std::size_t stack_size = 64 * 1024;

void jump_back_forever(context::transfer_t caller) {
  for (;;) caller = context::jump_fcontext(caller.fctx, nullptr);
}

// Tops are staggered by `index`, or the saved frames of many contexts would all compete for the same cache sets.
context::fcontext_t make_context(std::size_t index) {
  char* const stack = static_cast<char*>(::operator new(stack_size));
  return context::make_fcontext(stack + stack_size - (index % 16) * 256, stack_size - 16 * 256, jump_back_forever);
}

double jump_between(std::size_t count) {
  std::vector<context::fcontext_t> contexts;
  for (std::size_t i = 0; i < count; ++i) contexts.push_back(make_context(i));
  return bench::ns_per_operation([&contexts](long jumps) {
    // Each visit is a jump there and a jump back.
    for (long done = 0; done < jumps;) {
      for (context::fcontext_t& each : contexts) {
        each = context::jump_fcontext(each, nullptr).fctx;
        done += 2;
      }
    }
  });
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<bench::row> rows{
      {"yield-2", [] { return jump_between(1); }},
      {"yield-1000", [] { return jump_between(1000); }},
  };
  return bench::run_row(argc, argv, {rows});
}
