#include "sched/unwind.hpp"

#define UNW_LOCAL_ONLY
#include <cxxabi.h>
#include <libunwind.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "sched/context.hpp"
#include "sched/symbol.hpp"
#include "weft/detail/preemption.hpp"

namespace weft::sched {
namespace {

constexpr std::size_t most_walked = 1'000'000;  // a damaged stack may lead in a circle

// Frames whose stack pointer is not above `hidden` are left out.
call_stack walk(unw_cursor_t& cursor, stack_bounds bounds, std::uintptr_t hidden) noexcept {
  call_stack out;
  std::uintptr_t last = bounds.low;
  std::size_t steps = 0;
  do {
    unw_word_t ip = 0;
    unw_word_t sp = 0;
    if (unw_get_reg(&cursor, UNW_REG_IP, &ip) < 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp) < 0 || ip == 0) break;
    if (sp < last || sp > bounds.high) break;
    last = sp;
    if (sp <= hidden) continue;
    if (out.kept < out.address.size()) out.address[out.kept++] = ip;
    ++out.total;
  } while (++steps < most_walked && unw_step(&cursor) > 0);
  return out;
}

// The registers as ucontext_t has them on x86-64, the only architecture whose saved contexts read_saved() knows: an array
// that begins with r8. Written by place instead of by name, because elsewhere the names do not exist and this must compile.
void fill(unw_context_t& into, const saved_registers& r) noexcept {
  constexpr std::size_t count = 17;
  std::uintptr_t word[count] = {};
  word[4] = r.r12;
  word[5] = r.r13;
  word[6] = r.r14;
  word[7] = r.r15;
  word[10] = r.bp;
  word[11] = r.bx;
  word[15] = r.sp;
  word[16] = r.ip;
  constexpr std::size_t place = offsetof(ucontext_t, uc_mcontext);
  static_assert(sizeof into >= place + sizeof word);
  std::memset(&into, 0, sizeof into);
  std::memcpy(reinterpret_cast<std::byte*>(&into) + place, word, sizeof word);
}

bool was_returned_to(const call_stack& stack, std::size_t index) noexcept { return index != 0 || !stack.interrupted; }

// A return address may lie behind the end of a function that does not return: the call is one byte before it.
symbol symbol_of(const call_stack& stack, std::size_t index) noexcept {
  const std::uintptr_t back = was_returned_to(stack, index) ? 1 : 0;
  symbol found;
  find_symbol(stack.address[index] - back, found);
  found.offset += back;
  return found;
}

// "function+0x1f (file)", "? (file+0x271ca)", "?"
void append(plain_text& line, const symbol& s, std::string_view name) noexcept {
  const bool known = !name.empty();
  constexpr std::size_t most = 200;  // what makes names longer than this are the arguments of templates
  line << (known ? name.substr(0, most) : "?") << (name.size() > most ? "…" : "");
  if (known) (line << "+").hex(s.offset);
  if (*s.file == '\0') return;
  line << " (" << s.file;
  if (!known) (line << "+").hex(s.offset);
  line << ")";
}

void begin(plain_text& line, const call_stack& stack, std::size_t index) noexcept {
  (line << "#" << index << (index < 10 ? "  " : " ")).hex(stack.address[index]) << " ";
}

}  // namespace

call_stack walk_saved(const void* context, stack_bounds bounds) noexcept {
  const saved_registers registers = read_saved(context);
  if (registers.ip == 0) return {};
  unw_context_t state;
  unw_cursor_t cursor;
  fill(state, registers);
  if (unw_init_local2(&cursor, &state, 0) != 0) return {};
  return walk(cursor, bounds, 0);
}

[[gnu::noinline]] call_stack walk_here(const void* hidden, stack_bounds bounds) noexcept {
  unw_context_t state;
  unw_cursor_t cursor;
  if (unw_getcontext(&state) != 0 || unw_init_local2(&cursor, &state, 0) != 0) return {};
  return walk(cursor, bounds, reinterpret_cast<std::uintptr_t>(hidden));
}

call_stack walk_interrupted(void* context, stack_bounds bounds) noexcept {
  unw_cursor_t cursor;
  if (unw_init_local2(&cursor, static_cast<unw_context_t*>(context), UNW_INIT_SIGNAL_FRAME) != 0) return {};
  call_stack out = walk(cursor, bounds, 0);
  out.interrupted = true;
  return out;
}

namespace {

// A cursor on a copy of a stack, and where the copy lies.
struct copied_stack {
  unw_context_t state;
  unw_cursor_t cursor;
  std::uintptr_t low = 0;
  std::uintptr_t end = 0;
};

// What points into the original is made to point into the copy: saved frame pointers. The base pointer, which nobody knows, is
// that of an outermost frame: two zeros.
bool prepare(copied_stack& into, std::uintptr_t instruction, std::uintptr_t stack_pointer, stack_bounds bounds,
             std::span<std::uintptr_t> copy) noexcept {
  constexpr std::size_t outermost = 2;
  if (copy.size() <= outermost) return false;
  into.low = reinterpret_cast<std::uintptr_t>(copy.data());
  into.end = into.low + copy.size_bytes() - outermost * sizeof(std::uintptr_t);
  for (std::uintptr_t& word : copy) {
    if (word >= stack_pointer && word < bounds.high) word += into.low - stack_pointer;
  }
  std::fill(copy.end() - outermost, copy.end(), 0);
  saved_registers registers;
  registers.ip = instruction;
  registers.sp = into.low;
  registers.bp = into.end;
  fill(into.state, registers);
  return unw_init_local2(&into.cursor, &into.state, UNW_INIT_SIGNAL_FRAME) == 0;
}

struct frame_place {
  std::uintptr_t ip = 0;
  std::uintptr_t sp = 0;
};

// Goes to the next frame. @returns false, and leaves `here` as it was, when there is none that makes sense.
bool step(copied_stack& stack, frame_place& here) noexcept {
  unw_word_t ip = 0;
  unw_word_t sp = 0;
  if (unw_step(&stack.cursor) <= 0) return false;
  if (unw_get_reg(&stack.cursor, UNW_REG_IP, &ip) < 0 || unw_get_reg(&stack.cursor, UNW_REG_SP, &sp) < 0 || ip == 0) return false;
  if (sp < here.sp || sp > stack.end) return false;
  here = {ip, sp};
  return true;
}

// Whether the instruction before `address` is a call of `function`. Any number may be asked for.
bool follows_call_of(std::uintptr_t address, std::uintptr_t function) noexcept {
  std::array<unsigned char, 5> call{};  // e8, and how far it is from behind it
  const auto distance = static_cast<std::intptr_t>(function - address);
  if (distance != static_cast<std::int32_t>(distance)) return false;
  const auto* const before = reinterpret_cast<const void*>(address - call.size());
  if (upcall::read_memory(before, call.data(), call.size()) != call.size()) return false;
  std::int32_t to = 0;
  std::memcpy(&to, call.data() + 1, sizeof to);
  return call.front() == 0xe8 && to == distance;
}

constexpr unw_regnum_t base_pointer = 6;  // as on x86-64, by place: elsewhere the name does not exist

// A function that keeps its frame by the base pointer, which no inner frame has saved: its frame ends where a return behind a
// call of it lies. What a function left there earlier does not look so, as a rule; a step from there must lead to that return.
bool step_over_unknown_frame(copied_stack& stack, frame_place& here, std::span<const std::uintptr_t> copy) noexcept {
  const std::uintptr_t function = beginning_of_function(here.ip - 1);
  const unw_cursor_t before = stack.cursor;
  for (std::size_t i = (here.sp - stack.low) / sizeof(std::uintptr_t) + 1; function != 0 && i < copy.size(); ++i) {
    if (!follows_call_of(copy[i], function)) continue;
    frame_place next = here;
    unw_set_reg(&stack.cursor, base_pointer, stack.low + (i - 1) * sizeof(std::uintptr_t));
    if (step(stack, next) && next.ip == copy[i]) {
      here = next;
      return true;
    }
    stack.cursor = before;
  }
  return false;
}

}  // namespace

call_stack walk_copied(std::uintptr_t instruction, std::uintptr_t stack_pointer, stack_bounds bounds,
                       std::span<std::uintptr_t> copy) noexcept {
  copied_stack stack;
  if (!prepare(stack, instruction, stack_pointer, bounds, copy)) return {};
  call_stack out = walk(stack.cursor, {stack.low, stack.end}, 0);
  out.interrupted = true;
  return out;
}

std::uintptr_t walk_copied(std::uintptr_t instruction, std::uintptr_t stack_pointer, stack_bounds bounds,
                           std::span<std::uintptr_t> copy, const std::function<bool(std::uintptr_t)>& visit) {
  copied_stack stack;
  if (!prepare(stack, instruction, stack_pointer, bounds, copy)) return stack_pointer;
  frame_place here{instruction, stack.low};
  bool called = false;  // the innermost frame was interrupted, the others have made a call; a signal's frame neither
  for (std::size_t steps = 0; steps < most_walked; ++steps) {
    if (!visit(called ? here.ip - 1 : here.ip)) break;
    called = unw_is_signal_frame(&stack.cursor) <= 0;
    const unw_cursor_t before = stack.cursor;
    if (step(stack, here)) continue;
    stack.cursor = before;
    if (!step_over_unknown_frame(stack, here, copy)) break;
  }
  return here.sp - stack.low + stack_pointer;
}

std::uintptr_t beginning_of_function(std::uintptr_t address) noexcept {
  unw_proc_info_t found{};
  return unw_get_proc_info_by_ip(unw_local_addr_space, address, &found, nullptr) == 0 ? found.start_ip : 0;
}

std::uintptr_t end_of_function(std::uintptr_t address) noexcept {
  unw_proc_info_t found{};
  return unw_get_proc_info_by_ip(unw_local_addr_space, address, &found, nullptr) == 0 ? found.end_ip : 0;
}

std::uintptr_t function_of(const call_stack& stack, std::size_t index) noexcept {
  const symbol s = symbol_of(stack, index);
  return *s.name == '\0' ? stack.address[index] : stack.address[index] - s.offset;
}

void describe_frame(plain_text& line, const call_stack& stack, std::size_t index) noexcept {
  const symbol s = symbol_of(stack, index);
  begin(line, stack, index);
  append(line, s, s.name);
}

// The two readings of one address are remembered apart: where a function begins, they name different ones.
const std::string& frame_namer::describe(const call_stack& stack, std::size_t index) {
  const auto [entry, fresh] = known_.try_emplace(stack.address[index] * 2 + (was_returned_to(stack, index) ? 0 : 1));
  if (fresh) {
    const symbol s = symbol_of(stack, index);
    plain_text text;
    append(text, s, demangle(s.name));
    entry->second = text.view();
  }
  return entry->second;
}

namespace {
constexpr std::string_view interruption = "weft_interrupted";  // what is below it was left by no call
}

void frame_namer::drop_scheduler(call_stack& stack) {
  const auto is_ours = [](std::string_view name) {
    const bool starts_the_program = name.starts_with("weft::detail::start_block_of");  // and often holds all that is inlined
    return name.starts_with("weft::sched::") || name.starts_with(interruption) ||
           (name.starts_with("weft::detail::") && !starts_the_program);
  };
  std::size_t ours = 0;
  while (ours < stack.kept && is_ours(describe(stack, ours))) ++ours;
  if (ours == 0 || ours == stack.kept) return;
  stack.interrupted = describe(stack, ours - 1).starts_with(interruption);
  std::copy(stack.address.begin() + static_cast<std::ptrdiff_t>(ours), stack.address.end(), stack.address.begin());
  stack.kept -= ours;
  stack.total -= ours;
}

std::string frame_namer::lines(const call_stack& stack) {
  std::string out;
  for (std::size_t i = 0; i < stack.kept; ++i) {
    plain_text number;
    begin(number, stack, i);
    out.append("  ").append(number.view()).append(describe(stack, i)).append("\n");
  }
  if (stack.total > stack.kept) out += "  … and " + std::to_string(stack.total - stack.kept) + " frames more\n";
  return out;
}

std::string demangle(const char* name) {
  struct free_memory {
    void operator()(char* p) const noexcept { std::free(p); }
  };
  int status = 0;
  const std::unique_ptr<char, free_memory> readable(abi::__cxa_demangle(name, nullptr, nullptr, &status));
  return status == 0 && readable != nullptr ? readable.get() : name;
}

}  // namespace weft::sched
