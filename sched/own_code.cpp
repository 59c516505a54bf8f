#include "sched/own_code.hpp"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "sched/context_interrupt.hpp"

namespace weft::sched {

namespace {

constexpr std::size_t most_words = 256 * 1024 / sizeof(std::uintptr_t);
constexpr std::size_t most_known = 65'536;

// Functions of the C library in which a thread may wait while others run.
constexpr std::array listed{
    // time
    "nanosleep", "clock_nanosleep", "usleep", "sleep", "sched_yield", "syscall",
    // files and sockets
    "read", "write", "pread", "pread64", "pwrite", "pwrite64", "readv", "writev", "preadv", "preadv64", "pwritev", "pwritev64",
    "preadv2", "preadv64v2", "pwritev2", "pwritev64v2", "open", "open64", "openat", "openat64", "creat", "creat64", "close",
    "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "ftruncate", "ftruncate64", "truncate", "truncate64", "fallocate",
    "fallocate64", "stat", "stat64", "fstat", "fstat64", "lstat", "lstat64", "fstatat", "fstatat64", "statx", "access",
    "faccessat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat",
    "symlink", "symlinkat", "readlink", "readlinkat", "chmod", "fchmod", "chown", "fchown", "utimensat", "futimens", "flock",
    "fcntl", "fcntl64", "ioctl", "sendfile", "sendfile64", "splice", "tee", "vmsplice", "copy_file_range", "connect", "accept",
    "accept4", "recv", "recvfrom", "recvmsg", "recvmmsg", "send", "sendto", "sendmsg", "sendmmsg", "msync", "tcdrain",
    "eventfd_read", "eventfd_write",
    // waiting for many
    "poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "epoll_pwait2",
    // processes and their messages
    "wait", "waitpid", "wait3", "wait4", "waitid", "msgrcv", "msgsnd", "semop", "semtimedop", "mq_receive", "mq_timedreceive",
    "mq_send", "mq_timedsend", "sigwait", "sigwaitinfo", "sigtimedwait", "pause",
    // other kernel threads
    "pthread_mutex_lock", "pthread_mutex_timedlock", "pthread_mutex_clocklock", "pthread_cond_wait", "pthread_cond_timedwait",
    "pthread_cond_clockwait", "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_rwlock_timedrdlock",
    "pthread_rwlock_timedwrlock", "pthread_rwlock_clockrdlock", "pthread_rwlock_clockwrlock", "pthread_barrier_wait",
    "pthread_join", "pthread_timedjoin_np", "sem_wait", "sem_timedwait", "sem_clockwait",
    // memory: page faults
    "memcpy", "memmove", "memset", "memcmp", "memchr", "memrchr", "memmem", "bcmp", "strlen", "strnlen", "strcmp", "strncmp",
    "strcpy", "strncpy", "strcat", "strchr", "strrchr", "strstr", "madvise"};

// Whether the instruction before `address` looks like a call.
bool follows_call(std::uintptr_t address) noexcept {
  const auto* const end = reinterpret_cast<const unsigned char*>(address);
  if (end[-5] == 0xe8) return true;           // call rel32
  const auto is_indirect = [&](int length) {  // call r/m: ff /2 with its operand bytes
    return end[-length] == 0xff && ((end[-length + 1] >> 3) & 7) == 2;
  };
  return is_indirect(2) || is_indirect(3) || is_indirect(4) || is_indirect(6) || is_indirect(7);
}

bool ends_with(const char* path, std::string_view part) noexcept {
  return path != nullptr && std::string_view(path).find(part) != std::string_view::npos;
}

// Where a handler returns to, which the C library tells the kernel with every handler.
std::uintptr_t end_of_handlers() noexcept {
  struct {
    std::uintptr_t handler, flags, end;
    std::uint64_t mask;
  } known{};
  return ::syscall(SYS_rt_sigaction, SIGTRAP, nullptr, &known, sizeof known.mask) == 0 ? known.end : 0;
}

// Where the library begins that malloc comes from.
const void* home_of_malloc() noexcept {
  void* const found = ::dlsym(RTLD_DEFAULT, "malloc");
  Dl_info where{};
  return found != nullptr && ::dladdr(found, &where) != 0 ? where.dli_fbase : nullptr;
}

}  // namespace

own_code::own_code(std::uintptr_t first) : first_(first), end_of_handlers_(end_of_handlers()), copy_(most_words) {
  malloc_ = reinterpret_cast<std::uintptr_t>(home_of_malloc());
  find_text();
  find_functions();
}

void own_code::find_text() {
  const auto visit = [](dl_phdr_info* loaded, std::size_t, void* data) {
    auto& self = *static_cast<own_code*>(data);
    const bool library = ends_with(loaded->dlpi_name, "/libc.so") || ends_with(loaded->dlpi_name, "/libc-") ||
                         (self.malloc_ != 0 && loaded->dlpi_addr == self.malloc_);
    const bool linker = ends_with(loaded->dlpi_name, "/ld-linux") || ends_with(loaded->dlpi_name, "/ld-");
    if (!library && !linker) return 0;
    const std::span<range> into = library ? std::span<range>(self.library_) : std::span<range>(self.linker_);
    auto count =
        static_cast<std::size_t>(std::find_if(into.begin(), into.end(), [](auto& r) { return r.high == 0; }) - into.begin());
    for (const auto& segment : std::span(loaded->dlpi_phdr, loaded->dlpi_phnum)) {
      if (segment.p_type != PT_LOAD || (segment.p_flags & PF_X) == 0 || count == into.size()) continue;
      const std::uintptr_t low = loaded->dlpi_addr + segment.p_vaddr;
      into[count++] = {low, low + segment.p_memsz};
    }
    return 0;
  };
  dl_iterate_phdr(visit, this);
}

// The library's own functions, not those that a sanitizer or an allocator puts before them.
void own_code::find_functions() {
  void* const library = ::dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return;
  for (const char* const name : listed) {
    if (void* const found = ::dlsym(library, name); found != nullptr) list(reinterpret_cast<std::uintptr_t>(found), 0);
  }
  ::dlclose(library);
}

// With the functions that it ends in by a jump, whose frames then stand in the place of its own: internal ones, without a name.
void own_code::list(std::uintptr_t function, int depth) {
  constexpr int deepest = 2;
  if (!listed_.insert(function).second || depth == deepest) return;
  const auto in_library = [this](std::uintptr_t a) {
    return std::any_of(library_.begin(), library_.end(), [=](const range& r) { return r.contains(a); });
  };
  const std::uintptr_t end = end_of_function(function);
  for (std::uintptr_t at = function; at + 5 < end; ++at) {
    const auto* const code = reinterpret_cast<const unsigned char*>(at);
    const bool jump = code[0] == 0xe9;                                // jmp rel32
    const bool branch = code[0] == 0x0f && (code[1] & 0xf0) == 0x80;  // jcc rel32
    if (!jump && !branch) continue;
    const std::size_t length = jump ? 5 : 6;
    std::int32_t distance = 0;
    std::memcpy(&distance, code + length - sizeof distance, sizeof distance);
    const std::uintptr_t target = at + length + static_cast<std::uintptr_t>(static_cast<std::intptr_t>(distance));
    const bool inside = target >= function && target < end;
    if (!inside && in_library(target) && beginning_of_function(target) == target) list(target, depth + 1);
  }
}

own_code::kind own_code::look_up(std::uintptr_t address) const {
  const auto in = [=](const range& r) { return r.contains(address); };
  if (std::any_of(linker_.begin(), linker_.end(), in)) return kind::linker;
  if (address == end_of_handlers_ || address + 1 == end_of_handlers_) return kind::handler;
  const std::uintptr_t begin = beginning_of_function(address);
  if (begin != 0 && begin == first_) return kind::first;
  if (std::none_of(library_.begin(), library_.end(), in)) return kind::elsewhere;
  return listed_.contains(begin) ? kind::listed : kind::library;
}

own_code::kind own_code::kind_of(std::uintptr_t address) {
  if (const auto known = known_.find(address); known != known_.end()) return known->second;
  if (known_.size() >= most_known) known_.clear();
  return known_[address] = look_up(address);
}

// What is read may change at any moment: it is read by the kernel, which minds neither races nor addresses that are gone.
own_code::copied own_code::copy_of(const thread_record* t, std::uintptr_t from) {
  copied found;
  thread_extension* extension = nullptr;
  stack_slot* slot = nullptr;
  alignas(stack_slot) std::array<std::byte, sizeof(stack_slot)> bytes{};
  if (!upcall::peek(&t->extension, extension) || extension == nullptr) return {};
  if (!upcall::peek(&extension->slot, slot) || slot == nullptr) return {};
  if (upcall::read_memory(slot, bytes.data(), bytes.size()) != bytes.size()) return {};
  if (!upcall::peek(&extension->runs, found.runs)) return {};
  found.bounds = {reinterpret_cast<std::uintptr_t>(std::bit_cast<stack_slot>(bytes).lowest()),
                  reinterpret_cast<std::uintptr_t>(slot->usable_top())};
  if (from >= found.bounds.high || from < found.bounds.low + interruption_room()) return {};
  const std::size_t wanted = (found.bounds.high - from) / sizeof(std::uintptr_t);
  if (wanted > copy_.size()) return {};
  const std::size_t got = upcall::read_memory(reinterpret_cast<const void*>(from), copy_.data(), wanted * sizeof(std::uintptr_t));
  if (got == wanted * sizeof(std::uintptr_t)) found.words = std::span(copy_.data(), wanted);
  return found;
}

// What the walk has seen so far, innermost frame first.
struct own_code::walker {
  own_code& self;
  std::uintptr_t runs;
  kind before = kind::elsewhere;
  bool good = true;
  bool complete = false;

  bool operator()(std::uintptr_t address) {
    const kind now = self.kind_of(address);
    const bool in_library = now == kind::library || now == kind::listed;
    good = now != kind::linker && now != kind::handler && (in_library || before != kind::library);
    before = now;
    complete = now == kind::first || (now == kind::elsewhere && self.begins(address, runs));
    return good && !complete;
  }
};

// Whether `address` lies in the function that begins at `function`. Asked of the same few places again and again.
bool own_code::begins(std::uintptr_t address, std::uintptr_t function) {
  const auto known = beginnings_.find(address);
  if (known != beginnings_.end()) return known->second == function;
  if (beginnings_.size() >= most_known) beginnings_.clear();
  return (beginnings_[address] = beginning_of_function(address)) == function;
}

bool own_code::is_clean(std::span<const std::uintptr_t> words) {
  return std::none_of(words.begin(), words.end(), [this](std::uintptr_t word) {
    if (word == end_of_handlers_ && word != 0) return true;
    const auto in = [=](const range& r) { return word >= r.low + 8 && word < r.high; };
    if (std::none_of(library_.begin(), library_.end(), in) && std::none_of(linker_.begin(), linker_.end(), in)) return false;
    return follows_call(word) && kind_of(word - 1) != kind::listed;
  });
}

bool own_code::is_safe(const thread_record* t, const upcall::whereabouts& at) {
  const std::lock_guard guard(lock_);
  const copied stack = copy_of(t, at.stack_pointer);
  if (stack.words.empty()) return false;
  walker seen{*this, stack.runs};
  const std::uintptr_t reached = walk_copied(at.instruction, at.stack_pointer, stack.bounds, stack.words, std::ref(seen));
  if (!seen.good || seen.complete) return seen.good;
  // What the walk did not reach. The walk has made pointers into the stack point into the copy: no address of code is one.
  const std::size_t rest = (reached - at.stack_pointer) / sizeof(std::uintptr_t);
  return seen.before != kind::library && is_clean(stack.words.subspan(std::min(stack.words.size(), rest)));
}

}  // namespace weft::sched
