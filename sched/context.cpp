#include "sched/context.hpp"

#include <pthread.h>

#include <boost/context/detail/fcontext.hpp>
#include <cstring>

#if defined(WEFT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define WEFT_VALGRIND 1
#endif
#endif

namespace weft::sched {
namespace {

namespace fcontext = boost::context::detail;

// A context that is entered or resumed by jump_fcontext receives where its predecessor wants its own context stored.
void store_predecessor(fcontext::transfer_t from) noexcept {
  if (from.data != nullptr) *static_cast<void**>(from.data) = from.fctx;
}

}  // namespace

// jump_fcontext as an engine: the one resumed stores its predecessor, because only it knows where that was saved.
void jump_to_context(void** save_here, void* resume) noexcept {
  store_predecessor(fcontext::jump_fcontext(static_cast<fcontext::fcontext_t>(resume), save_here));
}

#if WEFT_CONTEXT_NATIVE

// The saved frame, from the saved stack pointer up: r15 r14 r13 r12 rbx rbp rip. Its unwind rules hold on both sides of the
// change of rsp, since both stacks have the same frame there. It ends in `jmp`, not `ret`: the address it goes to is never
// the one that the processor's return stack predicts, and a mispredicted `ret` costs more (docs/decisions.md).
//
// weft_enter_context leaves the same frame behind, then calls jump_fcontext from scratch space below the new context, so
// Boost.Context enters it while every parked thread is in one format. The entry travels as the datum of that jump.
//
// weft_thread_start is the outermost frame of every thread: `.cfi_undefined rip` ends every backtrace here, and makes an
// exception that nobody catches reach std::terminate with the stack still there.
asm(R"(
.text
.globl weft_switch_context
.hidden weft_switch_context
.type weft_switch_context,@function
.p2align 5
weft_switch_context:
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbp, 0
  push %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbx, 0
  push %r12
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r12, 0
  push %r13
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r13, 0
  push %r14
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r14, 0
  push %r15
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r15, 0
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  .cfi_adjust_cfa_offset -8
  .cfi_restore r15
  pop %r14
  .cfi_adjust_cfa_offset -8
  .cfi_restore r14
  pop %r13
  .cfi_adjust_cfa_offset -8
  .cfi_restore r13
  pop %r12
  .cfi_adjust_cfa_offset -8
  .cfi_restore r12
  pop %rbx
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbx
  pop %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbp
  pop %rcx
  .cfi_adjust_cfa_offset -8
  .cfi_register rip, rcx
  jmp *%rcx
  .cfi_endproc
.size weft_switch_context, .-weft_switch_context

.globl weft_enter_context
.hidden weft_enter_context
.type weft_enter_context,@function
.p2align 4
weft_enter_context:
  .cfi_startproc
  push %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbp, 0
  push %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbx, 0
  push %r12
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r12, 0
  push %r13
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r13, 0
  push %r14
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r14, 0
  push %r15
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r15, 0
  mov %rsp, (%rdi)
  .cfi_undefined rip
  lea -128(%rsi), %rsp
  and $-16, %rsp
  mov %rsi, %rdi
  mov %rdx, %rsi
  call jump_fcontext@PLT
  ud2
  .cfi_endproc
.size weft_enter_context, .-weft_enter_context

.globl weft_thread_start
.hidden weft_thread_start
.type weft_thread_start,@function
.p2align 4
weft_thread_start:
  .cfi_startproc
  .cfi_undefined rip
  xor %ebp, %ebp
  sub $8, %rsp
  .cfi_adjust_cfa_offset 8
  call *%rsi
  ud2
  .cfi_endproc
.size weft_thread_start, .-weft_thread_start
)");

extern "C" {
void weft_enter_context(void** save_here, void* fresh, context_entry entry) noexcept;
void weft_thread_start(fcontext::transfer_t);
}

#else

namespace {

// What the new context is told by the one it was entered from, on whose stack it lies.
struct introduction {
  void** save_here;
  context_entry entry;
};
void thread_start(fcontext::transfer_t from) {
  const introduction told = *static_cast<introduction*>(from.data);
  *told.save_here = from.fctx;
  told.entry();
}

}  // namespace

#endif

void enter_context(void** save_here, void* top, std::size_t size, context_entry entry, context_notes* from,
                   context_notes& to) noexcept {
  context_leave(from, to);
#if WEFT_CONTEXT_NATIVE
  weft_enter_context(save_here, fcontext::make_fcontext(top, size, weft_thread_start), entry);
#else
  introduction told{save_here, entry};
  store_predecessor(fcontext::jump_fcontext(fcontext::make_fcontext(top, size, thread_start), &told));
#endif
  if (from != nullptr) context_arrive(*from);
}

void context_entered(context_notes& self) noexcept { context_arrive(self); }

saved_registers read_saved(const void* context) noexcept {
  saved_registers r;
#if defined(__x86_64__)
  std::uintptr_t word[8];
  std::memcpy(word, context, sizeof word);
#if WEFT_CONTEXT_NATIVE
  r = {word[6], reinterpret_cast<std::uintptr_t>(context) + 56, word[5], word[4], word[3], word[2], word[1], word[0]};
#else
  // The frame of Boost.Context on x86-64: control words, r12, r13, r14, r15, rbx, rbp, rip.
  r = {word[7], reinterpret_cast<std::uintptr_t>(context) + 64, word[6], word[5], word[1], word[2], word[3], word[4]};
#endif
#else
  static_cast<void>(context);
#endif
  return r;
}

void save(floating_point_control& into) noexcept {
#if defined(__x86_64__)
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(into.mxcsr), "=m"(into.x87));
#else
  static_cast<void>(into);
#endif
}

void load(const floating_point_control& from) noexcept {
#if defined(__x86_64__)
  asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(from.mxcsr), "m"(from.x87));
#else
  static_cast<void>(from);
#endif
}

// ---- tools that watch stacks ----

bool runs_under_valgrind() noexcept {
#if defined(WEFT_VALGRIND)
  return RUNNING_ON_VALGRIND != 0;
#else
  return false;
#endif
}

#if defined(WEFT_ASAN) || defined(WEFT_TSAN)
const bool tools_watch = true;
#else
const bool tools_watch = runs_under_valgrind();
#endif

#if defined(WEFT_ASAN)

// AddressSanitizer keeps a second ("fake") stack per stack; it dies with a context that is left for good.
void context_leave(context_notes* from, context_notes& to) noexcept {
  __sanitizer_start_switch_fiber(from != nullptr ? &from->fake_stack : nullptr, to.low, to.size);
}

void context_arrive(context_notes& self) noexcept { __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr); }

// One that was put by has begun a switch without knowing to which stack: that ends here, and the switch to this stack begins.
[[gnu::no_sanitize_address]] void context_take_up(context_notes* left, context_notes& here) noexcept {
  void* nothing = nullptr;
  if (left == nullptr) __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  __sanitizer_start_switch_fiber(left != nullptr ? &left->fake_stack : &nothing, here.low, here.size);
  __sanitizer_finish_switch_fiber(here.fake_stack, nullptr, nullptr);
}

[[gnu::no_sanitize_address]] void context_forget(context_notes& here, context_notes& own) noexcept {
  if (here.fake_stack == nullptr) return;
  __sanitizer_start_switch_fiber(&own.fake_stack, here.low, here.size);
  __sanitizer_finish_switch_fiber(here.fake_stack, nullptr, nullptr);
  __sanitizer_start_switch_fiber(nullptr, here.low, here.size);  // ends with it
  __sanitizer_finish_switch_fiber(own.fake_stack, nullptr, nullptr);
}

#endif

void tell_attached([[maybe_unused]] context_notes& notes, [[maybe_unused]] void* low, [[maybe_unused]] std::size_t size) {
#if defined(WEFT_ASAN)
  __asan_unpoison_memory_region(low, size);
  __lsan_register_root_region(low, size);
  notes.low = low;
  notes.size = size;
  notes.fake_stack = nullptr;
#endif
#if defined(WEFT_TSAN)
  notes.shadow = __tsan_create_fiber(0);
#endif
#if defined(WEFT_VALGRIND)
  if (runs_under_valgrind()) notes.valgrind_id = VALGRIND_STACK_REGISTER(low, static_cast<char*>(low) + size);
#endif
}

void tell_detached([[maybe_unused]] context_notes& notes, [[maybe_unused]] void* low,
                   [[maybe_unused]] std::size_t size) noexcept {
#if defined(WEFT_ASAN)
  __lsan_unregister_root_region(low, size);
  __asan_unpoison_memory_region(low, size);  // the addresses may become somebody else's
#endif
#if defined(WEFT_TSAN)
  __tsan_destroy_fiber(notes.shadow);
#endif
#if defined(WEFT_VALGRIND)
  if (runs_under_valgrind()) VALGRIND_STACK_DEREGISTER(notes.valgrind_id);
#endif
}

void context_adopt_kernel_thread([[maybe_unused]] context_notes& notes) {
#if defined(WEFT_ASAN)
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* low = nullptr;
    pthread_attr_getstack(&attributes, &low, &notes.size);
    notes.low = low;
    pthread_attr_destroy(&attributes);
    __lsan_register_root_region(notes.low, notes.size);  // while a thread's stack is current, LeakSanitizer looks at that only
  }
#endif
#if defined(WEFT_TSAN)
  notes.shadow = __tsan_get_current_fiber();
#endif
}

void context_release_kernel_thread([[maybe_unused]] context_notes& notes) noexcept {
#if defined(WEFT_ASAN)
  if (notes.low != nullptr) __lsan_unregister_root_region(notes.low, notes.size);
#endif
}

}  // namespace weft::sched
