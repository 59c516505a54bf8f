// The peer asio: an echo server of completion handlers on one io_context, as Asio's own examples write one.
#include <array>
#include <asio.hpp>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "blocked_sockets.hpp"
#include "echo_load.hpp"
#include "measure.hpp"
#include "program.hpp"

namespace {

using asio::ip::tcp;

class session : public std::enable_shared_from_this<session> {
 public:
  explicit session(tcp::socket socket) : socket_(std::move(socket)) {}

  void receive() {
    socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](std::error_code error, std::size_t got) {
      if (!error) self->answer(got);
    });
  }

 private:
  void answer(std::size_t size) {
    asio::async_write(socket_, asio::buffer(buffer_, size), [self = shared_from_this()](std::error_code error, std::size_t) {
      if (!error) self->receive();
    });
  }

  tcp::socket socket_;
  std::array<char, 4096> buffer_;
};

void accept_next(tcp::acceptor& acceptor) {
  acceptor.async_accept([&acceptor](std::error_code error, tcp::socket socket) {
    if (error) throw std::system_error(error);
    socket.set_option(tcp::no_delay(true));
    std::make_shared<session>(std::move(socket))->receive();
    accept_next(acceptor);
  });
}

void serve(int listener) {
  constexpr int only_one_kernel_thread = 1;
  asio::io_context loop(only_one_kernel_thread);
  tcp::acceptor acceptor(loop, tcp::v4(), listener);
  accept_next(acceptor);
  loop.run();
}

// A receive that is under way on each socket, where the others have a thread; the handler of a cancelled one ends it.
double cancel_receives(std::span<const int> numbers) {
  using socket = asio::local::datagram_protocol::socket;
  asio::io_context loop(1);
  std::vector<socket> sockets;
  std::size_t ended = 0;
  char byte = 0;
  for (const int each : numbers) {
    socket& made = sockets.emplace_back(loop, asio::local::datagram_protocol(), each);
    made.async_receive(asio::buffer(&byte, 1), [&ended](std::error_code error, std::size_t) {
      if (error != asio::error::operation_aborted) bench::fail("a receive was not cancelled");
      ++ended;
    });
  }
  loop.poll();
  const std::int64_t start = bench::now_ns();
  for (socket& each : sockets) each.cancel();
  loop.run();
  const std::int64_t end = bench::now_ns();
  if (ended != numbers.size()) bench::fail("not all receives have ended");
  for (socket& each : sockets) each.release();
  return static_cast<double>(end - start);
}

double cancel_blocked() { return bench::cancel_blocked(SOCK_NONBLOCK, cancel_receives); }

}  // namespace

int main(int argc, char** argv) {
  return bench::run_row(argc, argv, {bench::echo_rows(serve), {{"cancel-10k", cancel_blocked}}});
}
