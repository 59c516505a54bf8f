// A kernel that refuses system calls, as containers do: by a seccomp filter of the calling kernel thread and its children.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

inline constexpr std::uint32_t any_argument = ~0U;

// A system call that fails with `error`: every one of this number, or those with this third argument.
struct refusal {
  long call;
  int error;
  std::uint32_t third = any_argument;
};

inline sock_filter load(std::size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)); }
inline sock_filter skip_unless(std::uint32_t value, std::uint8_t steps) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps);
}
inline sock_filter give(std::uint32_t verdict) { return BPF_STMT(BPF_RET | BPF_K, verdict); }

/// @returns false when this user may not install a filter.
inline bool refuse(const std::vector<refusal>& refused) {
  std::vector<sock_filter> program;
  for (const refusal& r : refused) {
    const bool any = r.third == any_argument;
    program.push_back(load(offsetof(seccomp_data, nr)));
    program.push_back(skip_unless(static_cast<std::uint32_t>(r.call), any ? 1 : 3));
    if (!any) {
      program.push_back(load(offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t)));  // its low half: little endian
      program.push_back(skip_unless(r.third, 1));
    }
    program.push_back(give(SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(r.error)));
  }
  program.push_back(give(SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}
