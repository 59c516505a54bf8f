#include "sched/context_identity.hpp"

#include <cxxabi.h>
#include <sys/auxv.h>
#include <unistd.h>

#include <cerrno>

#include "sched/context.hpp"
#include "sched/thread_record.hpp"

#if defined(__x86_64__)
#include <asm/prctl.h>
#include <sys/syscall.h>
#endif

namespace weft::sched {

#if defined(__x86_64__) && !defined(WEFT_TSAN)

namespace {

// The kernel lets user code write fs (Linux 5.9, and a processor that can).
const bool may_write_fs = (::getauxval(AT_HWCAP2) & 2) != 0;

}  // namespace

const bool identities_move = !runs_under_valgrind();

// No errno: the one that this would set may be somebody else's.
[[gnu::noinline]] void assume(const identity& who) noexcept {
  if (may_write_fs) [[likely]] {
    asm volatile("wrfsbase %0" : : "r"(who.base) : "memory");
    return;
  }
  long result = SYS_arch_prctl;
  asm volatile("syscall" : "+a"(result) : "D"(ARCH_SET_FS), "S"(who.base) : "rcx", "r11", "memory");
}

namespace {
// The first word of what fs points to is its own address (System V ABI, thread-local storage).
std::uintptr_t own_base() noexcept {
  std::uintptr_t base = 0;
  asm volatile("movq %%fs:0, %0" : "=r"(base));
  return base;
}
}  // namespace

#else

const bool identities_move = false;
void assume(const identity&) noexcept {}
namespace {
std::uintptr_t own_base() noexcept { return 0; }
}  // namespace

#endif

#if defined(WEFT_ASAN) || defined(WEFT_TSAN)
const bool library_calls_are_plain = false;
#else
const bool library_calls_are_plain = true;
#endif

identity own_identity() noexcept { return {own_base(), reinterpret_cast<exception_state*>(abi::__cxa_get_globals()), &errno}; }

}  // namespace weft::sched

#if !defined(__x86_64__)

// See abi.hpp: what other architectures have no few instructions for.
namespace weft::detail {

scheduler_face& this_scheduler_face() noexcept { return *weft_this_scheduler; }

long call_kernel(long number, long a, long b, long c) noexcept {
  const long result = ::syscall(number, a, b, c);
  return result < 0 ? -errno : result;
}

}  // namespace weft::detail

#endif
