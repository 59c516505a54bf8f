#include "sched/context_interrupt.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <cstring>

#include <unistd.h>

#include "sched/context.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace weft::sched {

#if defined(__x86_64__) && !defined(WEFT_TSAN)

namespace {

constexpr std::size_t red_zone = 128;  // below its stack pointer a function may keep data (System V ABI)
constexpr std::size_t general_registers = 16 * 8;

// What XSAVE writes for the features that this kernel has switched on; 0 where there is no XSAVE.
unsigned vector_bytes() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned os_uses_xsave = 1U << 27;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & os_uses_xsave) == 0) return 0;
  return __get_cpuid_count(0xd, 0, &a, &b, &c, &d) != 0 ? b : 0;
}

}  // namespace

extern "C" {
// Read by the code below.
[[gnu::visibility("hidden")]] extern const std::uint64_t weft_vector_bytes;
const std::uint64_t weft_vector_bytes = vector_bytes();
void weft_interrupted();
}

const bool contexts_interruptible = weft_vector_bytes != 0 && !runs_under_valgrind();

// Entered by the return of a signal handler, with this on the stack, upwards: argument, function, the address to go on at, the
// red zone. The frame is described to the unwinder as that of a signal, so that a backtrace goes on into the interrupted code and
// knows that it was not left by a call. `emms`: a function finds the stack of x87 registers empty, which the interrupted code may
// have half full.
asm(R"(
.text
.globl weft_interrupted
.hidden weft_interrupted
.type weft_interrupted,@function
.p2align 4
  nop
weft_interrupted:
  .cfi_startproc
  .cfi_signal_frame
  .cfi_def_cfa rsp, 152
  .cfi_offset rip, -136
  pushfq
  .cfi_adjust_cfa_offset 8
  push %rax
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rax, 0
  push %rcx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rcx, 0
  push %rdx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rdx, 0
  push %rbx
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbx, 0
  push %rbp
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rbp, 0
  push %rsi
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rsi, 0
  push %rdi
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset rdi, 0
  push %r8
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r8, 0
  push %r9
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r9, 0
  push %r10
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r10, 0
  push %r11
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset r11, 0
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
  cld
  mov %rsp, %rbx
  .cfi_def_cfa_register rbx
  sub weft_vector_bytes(%rip), %rsp
  and $-64, %rsp
  xor %eax, %eax
  mov %rax, 512(%rsp)
  mov %rax, 520(%rsp)
  mov %rax, 528(%rsp)
  mov %rax, 536(%rsp)
  mov %rax, 544(%rsp)
  mov %rax, 552(%rsp)
  mov %rax, 560(%rsp)
  mov %rax, 568(%rsp)
  mov $-1, %eax
  mov $-1, %edx
  xsave64 (%rsp)
  emms
  mov 128(%rbx), %rdi
  call *136(%rbx)
  mov $-1, %eax
  mov $-1, %edx
  xrstor64 (%rsp)
  mov %rbx, %rsp
  .cfi_def_cfa_register rsp
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
  pop %r11
  .cfi_adjust_cfa_offset -8
  .cfi_restore r11
  pop %r10
  .cfi_adjust_cfa_offset -8
  .cfi_restore r10
  pop %r9
  .cfi_adjust_cfa_offset -8
  .cfi_restore r9
  pop %r8
  .cfi_adjust_cfa_offset -8
  .cfi_restore r8
  pop %rdi
  .cfi_adjust_cfa_offset -8
  .cfi_restore rdi
  pop %rsi
  .cfi_adjust_cfa_offset -8
  .cfi_restore rsi
  pop %rbp
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbp
  pop %rbx
  .cfi_adjust_cfa_offset -8
  .cfi_restore rbx
  pop %rdx
  .cfi_adjust_cfa_offset -8
  .cfi_restore rdx
  pop %rcx
  .cfi_adjust_cfa_offset -8
  .cfi_restore rcx
  pop %rax
  .cfi_adjust_cfa_offset -8
  .cfi_restore rax
  popfq
  .cfi_adjust_cfa_offset -8
  lea 16(%rsp), %rsp
  .cfi_adjust_cfa_offset -16
  ret $128
  .cfi_endproc
.size weft_interrupted, .-weft_interrupted
)");

interrupted_place place_of(const void* context) noexcept {
  const auto& registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  return {static_cast<std::uintptr_t>(registers[REG_RIP]), static_cast<std::uintptr_t>(registers[REG_RSP])};
}

std::size_t interruption_room() noexcept {
  // Of what `then` calls, down to the switch; the linker saves the vector registers too when a function is first called.
  const std::size_t frames = (tools_watch ? 16 * 1024 : 4096) + weft_vector_bytes;
  return red_zone + general_registers + 3 * 8 + weft_vector_bytes + 64 + frames;
}

void interrupt(void* context, interruption_target then, void* argument) noexcept {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  auto* const top = reinterpret_cast<std::uintptr_t*>(static_cast<std::uintptr_t>(registers[REG_RSP]) - red_zone);
  top[-1] = static_cast<std::uintptr_t>(registers[REG_RIP]);
  top[-2] = reinterpret_cast<std::uintptr_t>(then);
  top[-3] = reinterpret_cast<std::uintptr_t>(argument);
  registers[REG_RSP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(top - 3));
  registers[REG_RIP] = static_cast<greg_t>(reinterpret_cast<std::uintptr_t>(&weft_interrupted));
}

// The kernel's mask is 64 bits, and ends where the C library's sigset_t would go on.
std::uint64_t exchange_signal_mask(void* context, std::uint64_t now) noexcept {
  std::uint64_t before = 0;
  auto& mask = static_cast<ucontext_t*>(context)->uc_sigmask;
  std::memcpy(&before, &mask, sizeof before);
  std::memcpy(&mask, &now, sizeof now);
  return before;
}

#else

const bool contexts_interruptible = false;
std::uint64_t exchange_signal_mask(void*, std::uint64_t) noexcept { return 0; }
interrupted_place place_of(const void*) noexcept { return {}; }
std::size_t interruption_room() noexcept { return 0; }
void interrupt(void*, interruption_target, void*) noexcept {}

#endif

void set_signal_mask(std::uint64_t now) noexcept { ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &now, nullptr, sizeof now); }

}  // namespace weft::sched
