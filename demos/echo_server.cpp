// echo_server: sends back whatever arrives, with a thread per connection.
//
// It shows: a server in plain blocking style (accept, read, write in loops, one thread each) that holds thousands of
// connections on one kernel thread; detached threads, which weft::run cancels and waits for when its function returns;
// and a clean end on Ctrl-C without a signal handler: a thread reads the signal from a signalfd like any other input.
//
//   build/release/demos/echo_server --port 7777      prints "listening on 127.0.0.1:7777"
//   nc 127.0.0.1 7777                                in another terminal, or in a thousand
//
// Exit status: 0 after Ctrl-C (SIGINT) or SIGTERM, 2 when it could not start.
#include <sys/signalfd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <weft/io.hpp>
#include <weft/net.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

namespace {

constexpr std::string_view help =
    "Usage: echo_server [--port N]\n"
    "\n"
    "Listens on 127.0.0.1 and sends back whatever arrives, with a thread per connection.\n"
    "  --port N   listen on this port; 0, the default, lets the system choose a free one\n"
    "  --help     say this\n"
    "Ctrl-C ends it.\n";

void echo(weft::net::tcp_stream& peer) {
  std::array<char, 16 * 1024> buffer;
  std::error_code gone;  // a peer that vanishes is no trouble of ours
  while (const std::size_t n = peer.read(buffer, gone)) {
    peer.write_all(std::string_view(buffer.data(), n), gone);
    if (gone) return;
  }
}

void serve(weft::net::tcp_listener& listener, std::size_t& served) {
  for (;;) {
    std::error_code refused;
    weft::net::tcp_stream peer = listener.accept(refused);
    if (refused == std::errc::bad_file_descriptor) return;  // the listener was closed
    if (refused) {                                          // most likely too many open files: let some connections end
      std::cerr << "echo_server: cannot accept: " << refused.message() << '\n';
      weft::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    ++served;
    weft::thread({.name = "connection"}, [peer = std::move(peer)]() mutable { echo(peer); }).detach();
  }
}

// Ctrl-C as input: the signal is blocked, so it waits to be read. Blocked before the first kernel thread is started, because
// each inherits the mask of the one that starts it.
class end_signal {
 public:
  end_signal() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    descriptor_ = weft::io::descriptor(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!descriptor_) throw std::system_error(errno, std::generic_category(), "cannot make a signalfd");
  }
  std::string_view wait() {
    signalfd_siginfo arrived{};
    weft::io::read_exactly(descriptor_, weft::io::buffer(&arrived, sizeof arrived));
    return arrived.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM";
  }

 private:
  weft::io::descriptor descriptor_;
};

void run_server(std::uint16_t port) {
  end_signal asked_to_end;
  weft::run([&] {
    weft::net::tcp_listener listener(weft::net::endpoint::loopback(port));
    std::cout << "listening on " << listener.local_endpoint().to_string() << std::endl;
    std::size_t served = 0;
    weft::jthread acceptor({.name = "acceptor"}, [&] { serve(listener, served); });
    const std::string_view signal = asked_to_end.wait();
    listener.close();
    acceptor.join();
    std::cout << signal << ": the end, after " << served << (served == 1 ? " connection" : " connections") << std::endl;
  });  // connections still open are cancelled here, and waited for
}

std::uint16_t port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    throw std::invalid_argument("--port wants a number from 0 to 65535, not \"" + std::string(text) + "\"");
  }
  return port;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::uint16_t port = 0;
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (argument == "--help" || argument == "-h") {
        std::cout << help;
        return 0;
      }
      if (argument == "--port" && i + 1 < argc) {
        port = port_of(argv[++i]);
      } else if (argument == "--port" || argument.starts_with("--port=")) {
        port = port_of(argument == "--port" ? "" : argument.substr(7));
      } else {
        throw std::invalid_argument("it knows --port N and --help, not \"" + std::string(argument) + "\"");
      }
    }
    run_server(port);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "echo_server: " << error.what() << '\n';
    return 2;
  }
}
