// The peer boost-fiber: Boost.Fiber's default round-robin scheduler, its own channels, and 64 KiB stacks from a
// pool. Its stacks have no guard pages.
#include <boost/fiber/all.hpp>

#include "channel_rows.hpp"
#include "mailbox_rows.hpp"
#include "program.hpp"
#include "scale_rows.hpp"
#include "structure_rows.hpp"
#include "thread_rows.hpp"

namespace {

namespace fibers = boost::fibers;

constexpr std::size_t stack_size = 64 * 1024;

struct boost_fiber {
  using thread = fibers::fiber;
  using mutex = fibers::mutex;
  using condition_variable = fibers::condition_variable;

  static void yield() { boost::this_fiber::yield(); }
  template <class Duration> static void sleep_for(Duration duration) { boost::this_fiber::sleep_for(duration); }

  template <class Body> static thread spawn(Body body) { return start(fibers::launch::post, body); }
  template <class Body> static thread spawn_child_first(Body body) { return start(fibers::launch::dispatch, body); }
  template <class Body> static thread spawn_fresh(Body body) {
    return thread(std::allocator_arg, fibers::fixedsize_stack(stack_size), body);
  }

  class unbuffered {
   public:
    void send(std::uint64_t value) { channel_.push(value); }
    std::uint64_t receive() { return channel_.value_pop(); }

   private:
    fibers::unbuffered_channel<std::uint64_t> channel_;
  };

  class buffered {
   public:
    explicit buffered(std::size_t capacity) : channel_(capacity) {}
    void send(std::uint64_t value) { channel_.push(value); }
    std::uint64_t receive() { return channel_.value_pop(); }

   private:
    fibers::buffered_channel<std::uint64_t> channel_;
  };

  using mailbox = buffered;
  template <class Body> static void run(Body body) { spawn(body).join(); }

 private:
  template <class Body> static thread start(fibers::launch policy, Body body) {
    static fibers::pooled_fixedsize_stack stacks(stack_size);
    return thread(policy, std::allocator_arg, stacks, body);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const auto threads = bench::thread_rows<boost_fiber>();
  const auto channels = bench::channel_rows<boost_fiber>();
  const auto mailboxes = bench::mailbox_rows<boost_fiber>();
  const auto scale = bench::scale_rows<boost_fiber>();
  const auto structure = bench::structure_rows<boost_fiber>();
  return bench::run_row(argc, argv, {threads, channels, mailboxes, scale, structure});
}
