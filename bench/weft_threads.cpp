// weft's threads, channels and locks in the rows that every library runs.
#include <weft/channel.hpp>
#include <weft/condition_variable.hpp>
#include <weft/mutex.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

#include <cstdint>
#include <utility>
#include <vector>

#include "channel_rows.hpp"
#include "scale_rows.hpp"
#include "thread_rows.hpp"
#include "weft_rows.hpp"
#include "within_weft.hpp"

namespace bench {
namespace {

struct weft_library {
  using thread = weft::thread;
  using mutex = weft::mutex;
  using condition_variable = weft::condition_variable;
  using semaphore = weft::counting_semaphore<>;

  class buffered {
   public:
    explicit buffered(std::size_t capacity) : channel_(capacity) {}
    void send(std::uint64_t value) { channel_.send(value); }
    std::uint64_t receive() { return *channel_.receive(); }

   private:
    weft::channel<std::uint64_t> channel_;
  };

  class unbuffered : public buffered {
   public:
    unbuffered() : buffered(0) {}
  };

  static void yield() { weft::this_thread::yield(); }
  template <class Duration> static void sleep_for(Duration duration) { weft::this_thread::sleep_for(duration); }

  template <class Body> static thread spawn(Body body) { return thread(body); }
  template <class Body> static thread spawn_child_first(Body body) { return thread({.start = weft::start::now}, body); }
  template <class Body> static thread spawn_fresh(Body body) { return thread({.stack = 64 * 1024}, body); }
  template <class Body> static thread spawn_tiny(Body body) { return thread({.stack = 2 * 1024, .tiny = true}, body); }
};

}  // namespace

std::vector<row> weft_thread_rows() {
  const auto parked_tiny = [] { return parked_bytes<weft_library>([](auto body) { return weft_library::spawn_tiny(body); }); };
  std::vector<row> rows = thread_rows<weft_library>();
  for (row& each : channel_rows<weft_library>()) rows.push_back(std::move(each));
  for (row& each : scale_rows<weft_library>()) rows.push_back(std::move(each));
  rows.push_back({"parked-1m-tiny", parked_tiny});
  return within_weft(std::move(rows));
}

}  // namespace bench
