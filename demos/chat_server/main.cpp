// chat_server: a chat for anybody who has nc. Names, rooms, private messages, and a polite end.
//
// It shows: a nursery of sessions, each with a thread that reads and a thread that writes, in plain blocking style; what is said
// goes into a channel for each client and is never waited for, so that one who reads slowly loses lines but holds up nobody, and
// one who reads nothing is left after a while; a cancel_scope around what a thread reads, ended from outside when the server
// ends or the client is gone; and the end: Ctrl-C is read like any other input, everybody is told, and a select waits for the
// first of three things: all have left, three seconds have passed, or somebody pressed Ctrl-C again.
//
//   build/release/demos/chat_server --port 7777      prints "listening on 127.0.0.1:7777"; --help tells the rest
//   nc 127.0.0.1 7777                                in two other terminals; then type, and /help
//
// Exit status: 0 after Ctrl-C (SIGINT) or SIGTERM, 2 when it could not start.
#include <sys/signalfd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <weft/channel.hpp>
#include <weft/io.hpp>
#include <weft/net.hpp>
#include <weft/nursery.hpp>
#include <weft/runtime.hpp>
#include <weft/select.hpp>
#include <weft/thread.hpp>

#include "../command_line.hpp"
#include "chat.hpp"
#include "session.hpp"

namespace {

using namespace std::chrono_literals;

constexpr std::string_view help =
    "Usage: chat_server [OPTION...]\n"
    "\n"
    "A chat on 127.0.0.1. Join it with: nc 127.0.0.1 PORT\n"
    "  --port N       listen on this port; 0, the default, lets the system choose one\n"
    "  --clients N    at most N at once, 1 to 100000; default 1000\n"
    "  --line N       lines of at most N bytes, 1 to 1000000; default 1000\n"
    "  --patience N   seconds until a client that reads nothing is left; 1 to 3600;\n"
    "                 default 30\n"
    "  --help         say this\n"
    "Ctrl-C (SIGINT) or SIGTERM ends it: all are told. Once more ends it at once.\n";

constexpr auto time_to_leave = 3s;

// SIGINT and SIGTERM as input: blocked before the first kernel thread is started, because each inherits the mask of the one that
// starts it.
class end_signals {
 public:
  end_signals() {
    std::signal(SIGPIPE, SIG_IGN);  // whoever reads what we print may go; the chat goes on
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    descriptor_ = weft::io::descriptor(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!descriptor_) throw std::system_error(errno, std::generic_category(), "cannot make a signalfd");
  }
  // Sends the name of each to `out`.
  void read_all(weft::channel<const char*>& out) {
    for (;;) {
      signalfd_siginfo arrived{};
      weft::io::read_exactly(descriptor_, weft::io::buffer(&arrived, sizeof arrived));
      out.send(arrived.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
    }
  }

 private:
  weft::io::descriptor descriptor_;
};

void start_stay(weft::nursery& sessions, chat& room, weft::net::tcp_stream peer, const limits& how) {
  if (sessions.size() >= how.clients) return turn_away(peer);
  sessions.spawn({.name = "client"}, [&room, &how, peer = std::move(peer)]() mutable {
    try {
      stay(room, peer, how);
    } catch (const std::exception& error) {  // most likely no memory: it must not end the others
      std::cerr << "chat_server: a client was left: " << error.what() << '\n';
    }
  });
}

// Until the listener is closed. What is wrong is said once until it is right again.
void accept_all(weft::net::tcp_listener& listener, weft::nursery& sessions, chat& room, const limits& how) {
  bool said = false;
  for (;;) {
    std::error_code refused;
    try {
      weft::net::tcp_stream peer = listener.accept(refused);
      if (refused == std::errc::bad_file_descriptor) return;
      if (!refused) start_stay(sessions, room, std::move(peer), how);
    } catch (const std::exception&) {  // no stack for its thread, or no memory
      refused = std::make_error_code(std::errc::not_enough_memory);
    }
    if (refused && !said) std::cerr << "chat_server: cannot take another client for now: " << refused.message() << '\n';
    said = static_cast<bool>(refused);
    if (refused) weft::this_thread::sleep_for(100ms);
  }
}

// Tells everybody, and gives them time to hear it.
void end_politely(chat& room, weft::nursery& sessions, weft::channel<const char*>& signals) {
  room.end("* The server ends. Goodbye.");
  weft::channel<const char*> all_left;
  weft::jthread waiter({.name = "waiter"}, [&] {
    sessions.join();
    all_left.close();
  });
  std::optional<const char*> got;
  weft::select(weft::on_receive(all_left, got), weft::on_receive(signals, got), weft::on_timeout(time_to_leave));
  sessions.request_cancel();
}

void serve(end_signals& asked_to_end, std::uint16_t port, const limits& how) {
  weft::net::tcp_listener listener(weft::net::endpoint::loopback(port));
  std::cout << "listening on " << listener.local_endpoint().to_string() << std::endl;
  chat room;
  weft::nursery sessions;
  weft::nursery helpers;
  weft::channel<const char*> signals;
  helpers.spawn({.name = "signals"}, [&] { asked_to_end.read_all(signals); });
  helpers.spawn({.name = "acceptor"}, [&] { accept_all(listener, sessions, room, how); });
  const char* const signal = signals.receive().value();
  listener.close();
  end_politely(room, sessions, signals);
  helpers.request_cancel();
  helpers.join();
  std::cout << signal << ": the end, after " << room.stays() << (room.stays() == 1 ? " client" : " clients") << std::endl;
}

int chat_as_asked(int argc, char** argv) {
  std::uint16_t port = 0;
  limits how;
  for (demo::arguments left(argc, argv); left.more();) {
    const std::string_view argument = left.next();
    if (argument == "--help" || argument == "-h") {
      std::cout << help;
      return 0;
    }
    if (argument == "--port") {
      port = static_cast<std::uint16_t>(left.number(argument, 0, 65535));
    } else if (argument == "--clients") {
      how.clients = left.number(argument, 1, 100'000);
    } else if (argument == "--line") {
      how.longest_line = left.number(argument, 1, 1'000'000);
    } else if (argument == "--patience") {
      how.patience = std::chrono::seconds(left.number(argument, 1, 3600));
    } else {
      demo::refuse_argument(argument);
    }
  }
  end_signals asked_to_end;
  weft::run([&] { serve(asked_to_end, port, how); });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return demo::run_main("chat_server", [&] { return chat_as_asked(argc, argv); });
}
