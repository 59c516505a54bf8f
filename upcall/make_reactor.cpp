// Which engine, and why.
#include <unistd.h>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "upcall/reactor.hpp"
#include "upcall/ring.hpp"
#include "weft/error.hpp"

namespace weft::upcall {

namespace {

transfer from_environment(transfer wanted, const char*& who) {
  const char* const text = std::getenv("WEFT_TRANSFER");
  if (wanted != transfer::automatic || text == nullptr || *text == '\0') return wanted;
  who = "WEFT_TRANSFER";
  const std::string_view value = text;
  if (value == "ring") return transfer::ring;
  if (value == "direct") return transfer::direct;
  if (value == "automatic") return transfer::automatic;
  const std::string what = "weft: WEFT_TRANSFER is '" + std::string(value) + "': it must be ring, direct or automatic";
  throw std::system_error(std::make_error_code(std::errc::invalid_argument), what);
}

std::string reason_of(int error) {
  switch (error) {
    case EPERM:
      return "io_uring_setup refused (EPERM): seccomp profile or kernel.io_uring_disabled";
    case EACCES:
      return "io_uring_setup refused (EACCES): security policy";
    case ENOSYS:
      return "io_uring_setup refused (ENOSYS): seccomp profile, or a kernel without io_uring";
    case EINVAL:
      return "io_uring_setup refused (EINVAL): this kernel's io_uring is older than Linux 6.1";
    case ENOMEM:
      return "io_uring_setup refused (ENOMEM): raise the limit of locked memory (ulimit -l)";
    case EMFILE:
    case ENFILE:
      return "io_uring_setup refused (EMFILE): raise the limit of open files (ulimit -n)";
    default:
      return "io_uring refused: " + std::generic_category().message(error);
  }
}

std::string text_of(transfer how, const std::string& reason) {
  return std::string("transfers ") + (how == transfer::ring ? "ring" : "direct") + ": " + reason;
}

void say(const std::string& report) {
  const char* const verbose = std::getenv("WEFT_VERBOSE");
  if (verbose == nullptr || std::string_view(verbose) != "1") return;
  const std::string line = "weft: " + report + "\n";
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

}  // namespace

std::unique_ptr<source> make_reactor(transfer wanted) {
  const char* who = "options::transfer";
  transfer how = from_environment(wanted, who);
  std::string reason = std::string(who) + " asks for it";
  auto first = std::make_unique<engine::ring>();
  if (how != transfer::direct) {
    const int error = first->prepare();
    if (error != 0 && how == transfer::ring) {
      throw std::system_error(error, std::generic_category(),
                              "weft: " + std::string(who) + " demands the ring, but " + reason_of(error));
    }
    if (how == transfer::automatic) {
      how = error == 0 ? transfer::ring : transfer::direct;
      reason = error == 0 ? "batches through io_uring" : reason_of(error);
    }
  }
  auto made = std::make_unique<engine::reactor>(how, std::move(first), text_of(how, reason));
  say(std::string(made->report()));
  return made;
}

std::string_view reactor_report(const source& made) noexcept {
  const auto* const one = dynamic_cast<const engine::reactor*>(&made);
  return one == nullptr ? std::string_view() : one->report();
}

}  // namespace weft::upcall
