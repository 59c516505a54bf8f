// The peer offload-pool: what one does where there are no upcalls. Every call that may block is sent to a pool of kernel
// threads; the thread that sent it waits for the answer, and the scheduler runs others. The threads are weft's.
#include <weft/runtime.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "blocking_rows.hpp"
#include "within_weft.hpp"

namespace {

// Four kernel threads, which end with the program.
class kernel_thread_pool {
 public:
  kernel_thread_pool() {
    for (int i = 0; i < 4; ++i) std::thread([this] { work(); }).detach();
  }

  void submit(std::function<void()> call) {
    {
      const std::lock_guard lock(mutex_);
      calls_.push_back(std::move(call));
    }
    not_empty_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      not_empty_.wait(lock, [this] { return !calls_.empty(); });
      const std::function<void()> call = std::move(calls_.front());
      calls_.pop_front();
      lock.unlock();
      call();
    }
  }

  std::mutex mutex_;
  std::condition_variable not_empty_;
  std::deque<std::function<void()>> calls_;
};

struct weft_with_pool {
  using semaphore = weft::counting_semaphore<>;
  template <class Body> static weft::thread spawn(Body body) { return weft::thread(body); }

  template <class Fn> static void blocking(Fn fn) {
    static kernel_thread_pool& pool = *new kernel_thread_pool;
    static const weft::poster& scheduler = *new weft::poster(weft::make_poster());
    struct {
      Fn fn;
      semaphore done{0};
    } call{fn};
    pool.submit([&call] {  // a single reference: std::function needs no memory for it
      call.fn();
      scheduler.post([&call] { call.done.release(); });
    });
    call.done.acquire();
  }
};

}  // namespace

int main(int argc, char** argv) {
  return bench::run_row(argc, argv, {bench::within_weft(bench::blocking_rows<weft_with_pool>())});
}
