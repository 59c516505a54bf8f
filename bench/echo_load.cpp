// Starts an echo server and its load generator, and reads what the generator found.
#include "echo_load.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <string>

#include "measure.hpp"
#include "program.hpp"

namespace bench {
namespace {

int listen_on_loopback() {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  constexpr int backlog = 4096;
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, backlog) != 0) {
    fail_with_errno("cannot listen on the loopback address");
  }
  return listener;
}

int port_of(int listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

pid_t start_server(int listener, const std::function<void(int)>& serve) {
  const pid_t server = fork();
  if (server < 0) fail_with_errno("fork");
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    serve(listener);
    fail("the echo server ended by itself");
  }
  return server;
}

// The generator lies beside this program and prints two numbers: CPU ns per request, and requests per second.
struct load_report {
  double cpu_ns = 0;
  double requests_per_second = 0;
};

load_report run_load_generator(int port, int connections, pid_t server) {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "bench_echo_client";
  const std::string command =
      "exec '" + beside.string() + "' " + std::to_string(port) + ' ' + std::to_string(connections) + ' ' + std::to_string(server);
  FILE* const output = popen(command.c_str(), "r");
  if (output == nullptr) fail_with_errno(command);
  load_report report;
  const int numbers = std::fscanf(output, "%lf %lf", &report.cpu_ns, &report.requests_per_second);
  if (pclose(output) != 0 || numbers != 2) fail("the load generator failed");
  return report;
}

double echo_cpu_ns(int connections, const std::function<void(int)>& serve) {
  const int listener = listen_on_loopback();
  const pid_t server = start_server(listener, serve);
  const int port = port_of(listener);
  close(listener);
  const load_report report = run_load_generator(port, connections, server);
  kill(server, SIGKILL);
  waitpid(server, nullptr, 0);
  print_figure("echo-" + std::to_string(connections) + "-requests", report.requests_per_second);
  return report.cpu_ns;
}

}  // namespace

std::vector<row> echo_rows(std::function<void(int)> serve) {
  std::vector<row> rows;
  for (const int connections : {1, 100, 1000, 10'000}) {
    rows.push_back({"echo-" + std::to_string(connections), [=] { return echo_cpu_ns(connections, serve); }});
  }
  return rows;
}

void send_at_once(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace bench
