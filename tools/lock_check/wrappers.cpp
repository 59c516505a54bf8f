// weft_lock_check: a library that is linked or preloaded, and says when a lock that belongs to "this kernel thread" is used
// by two weft threads. docs/lock-check.md
//
// It stands before the C library's lock functions, calls those, and looks at what they say. A recursive mutex tells itself
// whether it was free: then whoever was in the table for it is gone, and whatever happened to it without our seeing does no harm.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include <atomic>
#include <cerrno>

#include "holders.hpp"
#include "report.hpp"

namespace weft::lock_check {
namespace {

// A function of the same name behind us, found when it is first called, which may be before main.
template <class F> class behind {
 public:
  /// `version`: of its interface, where an older one has the same name; other architectures have that one alone.
  constexpr explicit behind(const char* name, const char* version = nullptr) noexcept : name_(name), version_(version) {}
  template <class... Args> auto operator()(Args... args) noexcept(noexcept(static_cast<F*>(nullptr)(args...))) {
    F* found = found_.load(std::memory_order_relaxed);
    if (found == nullptr) found = look_up();
    return found(args...);
  }

 private:
  F* look_up() noexcept {
    void* symbol = version_ == nullptr ? nullptr : ::dlvsym(RTLD_NEXT, name_, version_);
    if (symbol == nullptr) symbol = ::dlsym(RTLD_NEXT, name_);
    F* const found = reinterpret_cast<F*>(symbol);
    found_.store(found, std::memory_order_relaxed);
    return found;
  }

  const char* name_;
  const char* version_;
  std::atomic<F*> found_{nullptr};
};

enum class kind { plain, recursive, error_checking };

// POSIX has no question for it. The low bits of glibc's word; the others say robust, shared, priority.
kind kind_of(const pthread_mutex_t* m) noexcept {
  switch (m->__data.__kind & 3) {
    case PTHREAD_MUTEX_RECURSIVE_NP:
      return kind::recursive;
    case PTHREAD_MUTEX_ERRORCHECK_NP:
      return kind::error_checking;
    default:
      return kind::plain;
  }
}

constexpr const char* words_for(kind k) noexcept { return k == kind::recursive ? "recursive mutex" : "error-checking mutex"; }

// In both: the question for the thread comes first, because a tick may interrupt libweft's code (never this library's), and then
// others use the table.

// The caller got `lock`. `was_free`: nobody held it, whatever the table says. `may_be_first`: its first level may be its own.
void took(const void* lock, const char* what, bool was_free, bool may_be_first) noexcept {
  sighting me;
  const bool on_weft_thread = me.take();
  holding* held = find(lock);
  if (held != nullptr && (was_free || !held->is_mine())) {
    remove(*held);
    held = nullptr;
  }
  if (held != nullptr) {
    ++held->depth;
    if (on_weft_thread && !held->by.same_thread(me)) tell(crossing::entered, what, *held, me);
  } else if (on_weft_thread && may_be_first) {
    me.take_stack();
    add(lock, me, 1);
  }
}

// The caller is about to give `lock` up, or was refused it as its owner.
void uses(crossing how, const void* lock, const char* what) noexcept {
  sighting me;
  const bool on_weft_thread = me.take();
  holding* const held = find(lock);
  if (held == nullptr || !held->is_mine()) return;
  if (on_weft_thread && !held->by.same_thread(me)) tell(how, what, *held, me);
  if (how == crossing::unlocked && --held->depth == 0) remove(*held);
}

int locked(pthread_mutex_t* m, int result) noexcept {
  const kind k = kind_of(m);
  if (k == kind::plain) return result;
  const bool was_free = k == kind::error_checking || m->__data.__count == 1;
  if (result == 0 || result == EOWNERDEAD) took(m, words_for(k), was_free, was_free);
  if (result == EDEADLK) uses(crossing::refused, m, words_for(k));
  return result;
}

// A condition variable gives the mutex up and takes it back where we do not see it.
template <class Wait> int while_waiting(pthread_mutex_t* m, Wait wait) {
  holding* const held = kind_of(m) == kind::plain ? nullptr : find(m);
  const bool given_up = held != nullptr && held->is_mine() && held->depth == 1;
  if (given_up) uses(crossing::unlocked, m, words_for(kind_of(m)));
  const int result = wait();
  if (given_up) took(m, words_for(kind_of(m)), true, true);
  return result;
}

// A FILE does not tell whether it was free: only the table does.
void took(FILE* file) noexcept { took(file, "FILE", false, true); }

constinit behind<int(pthread_mutex_t*)> next_lock{"pthread_mutex_lock"};
constinit behind<int(pthread_mutex_t*)> next_trylock{"pthread_mutex_trylock"};
constinit behind<int(pthread_mutex_t*, const timespec*)> next_timedlock{"pthread_mutex_timedlock"};
constinit behind<int(pthread_mutex_t*, clockid_t, const timespec*)> next_clocklock{"pthread_mutex_clocklock"};
constinit behind<int(pthread_mutex_t*)> next_unlock{"pthread_mutex_unlock"};
constinit behind<int(pthread_cond_t*, pthread_mutex_t*)> next_wait{"pthread_cond_wait", "GLIBC_2.3.2"};
constinit behind<int(pthread_cond_t*, pthread_mutex_t*, const timespec*)> next_timedwait{"pthread_cond_timedwait", "GLIBC_2.3.2"};
constinit behind<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)> next_clockwait{"pthread_cond_clockwait"};
constinit behind<void(FILE*)> next_flockfile{"flockfile"};
constinit behind<int(FILE*)> next_ftrylockfile{"ftrylockfile"};
constinit behind<void(FILE*)> next_funlockfile{"funlockfile"};

}  // namespace
}  // namespace weft::lock_check

using namespace weft::lock_check;

#pragma GCC visibility push(default)
extern "C" {

int pthread_mutex_lock(pthread_mutex_t* m) noexcept { return locked(m, next_lock(m)); }
int pthread_mutex_trylock(pthread_mutex_t* m) noexcept { return locked(m, next_trylock(m)); }
int pthread_mutex_timedlock(pthread_mutex_t* m, const timespec* until) noexcept { return locked(m, next_timedlock(m, until)); }
int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t clock, const timespec* until) noexcept {
  return locked(m, next_clocklock(m, clock, until));
}

// Before it is free: afterwards it may be another's.
int pthread_mutex_unlock(pthread_mutex_t* m) noexcept {
  const kind k = kind_of(m);
  if (k != kind::plain) uses(crossing::unlocked, m, words_for(k));
  return next_unlock(m);
}

int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  return while_waiting(m, [=] { return next_wait(c, m); });
}
int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const timespec* until) {
  return while_waiting(m, [=] { return next_timedwait(c, m, until); });
}
int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock, const timespec* until) {
  return while_waiting(m, [=] { return next_clockwait(c, m, clock, until); });
}

void flockfile(FILE* file) noexcept {
  next_flockfile(file);
  took(file);
}
int ftrylockfile(FILE* file) noexcept {
  const int result = next_ftrylockfile(file);
  if (result == 0) took(file);
  return result;
}
void funlockfile(FILE* file) noexcept {
  uses(crossing::unlocked, file, "FILE");
  next_funlockfile(file);
}
}
#pragma GCC visibility pop
