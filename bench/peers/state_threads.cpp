// The peer state-threads: the State Threads library of SGI, wrapped in the vocabulary of the standard one.
//
// It keeps free stacks of 64 KiB without guards, has no yield but a sleep of zero, and neither channels nor semaphores.
// Debian builds it for select() and poll() only, so it is no peer in the I/O rows.
#include <st.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <type_traits>

#include "channel_rows.hpp"
#include "program.hpp"
#include "scale_rows.hpp"
#include "structure_rows.hpp"
#include "thread_rows.hpp"

namespace {

constexpr int stack_size = 64 * 1024;

class st_thread {
 public:
  st_thread() = default;

  // The body travels inside the pointer that st_thread_create hands over, so starting a thread allocates nothing of ours.
  template <class Body> explicit st_thread(Body body) {
    static_assert(sizeof(Body) <= sizeof(void*) && std::is_trivially_copyable_v<Body>);
    void* packed = nullptr;
    std::memcpy(&packed, &body, sizeof body);
    constexpr int joinable = 1;
    handle_ = st_thread_create(run<Body>, packed, joinable, stack_size);
    if (handle_ == nullptr) bench::fail_with_errno("st_thread_create");
  }

  void join() { st_thread_join(handle_, nullptr); }
  void interrupt() { st_thread_interrupt(handle_); }

 private:
  template <class Body> static void* run(void* packed) {
    alignas(Body) std::byte storage[sizeof(Body)];
    std::memcpy(storage, &packed, sizeof storage);
    (*std::launder(reinterpret_cast<Body*>(storage)))();
    return nullptr;
  }

  st_thread_t handle_ = nullptr;
};

class st_mutex {
 public:
  st_mutex() = default;
  st_mutex(const st_mutex&) = delete;
  ~st_mutex() { st_mutex_destroy(handle_); }
  void lock() { st_mutex_lock(handle_); }
  void unlock() { st_mutex_unlock(handle_); }

 private:
  st_mutex_t handle_ = st_mutex_new();
};

class st_condition {
 public:
  st_condition() = default;
  st_condition(const st_condition&) = delete;
  ~st_condition() { st_cond_destroy(handle_); }
  void notify_one() { st_cond_signal(handle_); }

  // Nothing can run between the unlock and the wait: threads change only where one of them waits.
  void wait(std::unique_lock<st_mutex>& lock) {
    lock.unlock();
    st_cond_wait(handle_);
    lock.lock();
  }

 private:
  st_cond_t handle_ = st_cond_new();
};

struct state_threads {
  using thread = st_thread;
  using mutex = st_mutex;
  using condition_variable = st_condition;
  using buffered = bench::mailbox<state_threads>;

  static void yield() { st_usleep(0); }
  static void sleep_for(std::chrono::milliseconds duration) {
    st_usleep(static_cast<st_utime_t>(std::chrono::microseconds(duration).count()));
  }
  template <class Body> static thread spawn(Body body) { return thread(body); }
  template <class Body> static thread spawn_child_first(Body body) { return thread(body); }
  template <class Body> static thread spawn_fresh(Body body) { return thread(body); }

  class crowd : public bench::vector_of_threads<state_threads> {
   public:
    using vector_of_threads::vector_of_threads;
    void cancel() {
      for (st_thread& each : threads()) each.interrupt();
    }
  };

  static constexpr int receives_with = 0;
  static void receive(int socket) {
    const st_netfd_t wrapped = st_netfd_open_socket(socket);
    if (wrapped == nullptr) bench::fail_with_errno("st_netfd_open_socket");
    char byte = 0;
    if (st_read(wrapped, &byte, 1, ST_UTIME_NO_TIMEOUT) != -1 || errno != EINTR) bench::fail("a receive was not interrupted");
    st_netfd_free(wrapped);
  }
};

}  // namespace

int main(int argc, char** argv) {
  st_set_eventsys(ST_EVENTSYS_POLL);  // select() ends at 1,024 descriptors
  if (st_init() != 0) bench::fail_with_errno("st_init");
  const auto threads = bench::thread_rows<state_threads>();
  const auto channels = bench::channel_rows<state_threads>();
  const auto scale = bench::scale_rows<state_threads>();
  const auto structure = bench::structure_rows<state_threads>();
  return bench::run_row(argc, argv, {threads, channels, scale, structure});
}
