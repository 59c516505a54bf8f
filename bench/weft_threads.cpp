// weft's threads, channels and locks in the rows that every library runs.
#include <weft/channel.hpp>
#include <weft/condition_variable.hpp>
#include <weft/io.hpp>
#include <weft/mutex.hpp>
#include <weft/nursery.hpp>
#include <weft/select.hpp>
#include <weft/semaphore.hpp>
#include <weft/thread.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "channel_rows.hpp"
#include "scale_rows.hpp"
#include "select_rows.hpp"
#include "structure_rows.hpp"
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

    weft::channel<std::uint64_t>& itself() { return channel_; }

   private:
    weft::channel<std::uint64_t> channel_;
  };

  class unbuffered : public buffered {
   public:
    unbuffered() : buffered(0) {}
  };

  class pair_choice {
   public:
    explicit pair_choice(std::vector<unbuffered>& from) : a_(from.at(0).itself()), b_(from.at(1).itself()) {}
    std::uint64_t receive() {
      std::optional<std::uint64_t> value;
      weft::select(weft::on_receive(a_, value), weft::on_receive(b_, value));
      return *value;
    }

   private:
    weft::channel<std::uint64_t>& a_;
    weft::channel<std::uint64_t>& b_;
  };

  class choice {
   public:
    explicit choice(std::vector<unbuffered>& from) {
      for (unbuffered& each : from) cases_.push_back(weft::on_receive(each.itself(), value_));
    }
    std::uint64_t receive() {
      weft::select(cases_);
      return *value_;
    }

   private:
    std::optional<std::uint64_t> value_;
    std::vector<weft::select_case> cases_;
  };

  class crowd {
   public:
    explicit crowd(std::size_t) {}
    template <class Body> void spawn(Body body) { threads_.spawn(body); }
    void join() { threads_.join(); }
    void cancel() { threads_.request_cancel(); }

   private:
    weft::nursery threads_;
  };

  static constexpr int receives_with = 0;
  static void receive(int socket) {
    std::array<char, 1> byte;
    weft::io::recv(socket, byte);
  }

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
  for (row& each : select_rows<weft_library>()) rows.push_back(std::move(each));
  for (row& each : structure_rows<weft_library>()) rows.push_back(std::move(each));
  for (row& each : scale_rows<weft_library>()) rows.push_back(std::move(each));
  rows.push_back({"parked-1m-tiny", parked_tiny});
  return within_weft(std::move(rows));
}

}  // namespace bench
