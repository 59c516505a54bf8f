// The peer pthread: kernel threads through the C++ standard library, with POSIX semaphores.
//
// It stops where a machine's limits on kernel threads stop it, so it has no rows of a million threads.
#include <sched.h>
#include <semaphore.h>
#include <sys/socket.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "channel_rows.hpp"
#include "mailbox_rows.hpp"
#include "program.hpp"
#include "pthread_io.hpp"
#include "structure_rows.hpp"
#include "thread_rows.hpp"

namespace {

class posix_semaphore {
 public:
  explicit posix_semaphore(unsigned count) { sem_init(&handle_, 0, count); }
  posix_semaphore(const posix_semaphore&) = delete;
  ~posix_semaphore() { sem_destroy(&handle_); }
  void acquire() { sem_wait(&handle_); }
  void release() { sem_post(&handle_); }

 private:
  sem_t handle_;
};

struct kernel_threads {
  using thread = std::thread;
  using mutex = std::mutex;
  using condition_variable = std::condition_variable;
  using semaphore = posix_semaphore;
  using buffered = bench::mailbox<kernel_threads>;
  using mailbox = buffered;

  static void yield() { sched_yield(); }
  template <class Body> static void run(Body body) { body(); }
  template <class Body> static thread spawn(Body body) {
    try {
      return thread(body);
    } catch (const std::system_error& error) {
      bench::fail(std::string("no more kernel threads or stacks for them: ") + error.what());
    }
  }
  template <class Body> static thread spawn_fresh(Body body) { return spawn(body); }

  class crowd : public bench::vector_of_threads<kernel_threads> {
   public:
    using vector_of_threads::vector_of_threads;
    void cancel() {
      for (std::thread& each : threads()) pthread_cancel(each.native_handle());
    }
  };

  static constexpr int receives_with = 0;
  static void receive(int socket) {
    char byte = 0;
    recv(socket, &byte, 1, 0);  // does not return: a thread that is cancelled unwinds from here
  }
};

}  // namespace

int main(int argc, char** argv) {
  const auto threads = bench::thread_rows<kernel_threads>();
  const auto channels = bench::channel_rows<kernel_threads>();
  const auto mailboxes = bench::mailbox_rows<kernel_threads>();
  const auto structure = bench::structure_rows<kernel_threads>();
  return bench::run_row(argc, argv, {threads, channels, mailboxes, structure, bench::kernel_thread_io_rows()});
}
