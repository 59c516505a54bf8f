// Names to addresses. getaddrinfo(3) may take seconds and knows no other way than to block, so it gets a kernel thread of its
// own; the weft thread waits for the end of a pipe. Whoever comes last frees what they share.
#include <netdb.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <system_error>

#include "upcall/io_call.hpp"
#include "weft/detail/abi.hpp"
#include "weft/detail/kernel_thread.hpp"
#include "weft/error.hpp"
#include "weft/net.hpp"

namespace weft::net {

namespace {

// One lookup. The kernel thread fills it, stores `done` (release) and closes its end of the pipe; the weft thread sees that
// end closed, loads `done` (acquire) and reads.
struct lookup {
  std::string host;
  int error = 0;  // of getaddrinfo
  int system_error = 0;
  std::vector<endpoint> found;
  std::atomic<bool> done{false};
};

void look_up(lookup& what) noexcept {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* first = nullptr;
  what.error = ::getaddrinfo(what.host.c_str(), nullptr, &wanted, &first);
  what.system_error = errno;
  if (what.error != 0) return;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(first, &::freeaddrinfo);
  try {
    for (const addrinfo* a = first; a != nullptr; a = a->ai_next) {
      const endpoint here(a->ai_addr, a->ai_addrlen);
      if (std::find(what.found.begin(), what.found.end(), here) == what.found.end()) what.found.push_back(here);
    }
  } catch (const std::bad_alloc&) {
    what.error = EAI_MEMORY;
  }
}

std::error_code start(const std::shared_ptr<lookup>& shared, int write_end) {
  try {
    weft::detail::kernel_thread("weft::net::resolve", "weft-resolve", weft::detail::signals::blocked, [shared, write_end] {
      look_up(*shared);
      shared->done.store(true, std::memory_order_release);
      ::close(write_end);
    }).detach();
  } catch (const std::system_error& e) {
    ::close(write_end);
    return e.code();
  }
  return {};
}

// getaddrinfo's errors: its own sentences, comparable with std::errc.
class category_of_lookup final : public std::error_category {
 public:
  [[nodiscard]] const char* name() const noexcept override { return "getaddrinfo"; }
  [[nodiscard]] std::string message(int value) const override { return ::gai_strerror(value); }
  [[nodiscard]] std::error_condition default_error_condition(int value) const noexcept override {
    switch (value) {
      case EAI_AGAIN: return std::make_error_condition(std::errc::resource_unavailable_try_again);
      case EAI_MEMORY: return std::make_error_condition(std::errc::not_enough_memory);
      default: return std::make_error_condition(std::errc::host_unreachable);
    }
  }
};

constinit const category_of_lookup category;

std::error_code error_of(const lookup& done) {
  if (done.error == 0) return {};
  return done.error == EAI_SYSTEM ? io::detail::code_of(done.system_error) : std::error_code(done.error, category);
}

endpoint with_port(const endpoint& address, std::uint16_t port) noexcept {
  endpoint made = address;
  if (made.family() == AF_INET) reinterpret_cast<sockaddr_in*>(made.data())->sin_port = htons(port);
  if (made.family() == AF_INET6) reinterpret_cast<sockaddr_in6*>(made.data())->sin6_port = htons(port);
  return made;
}

std::vector<endpoint> look_up_elsewhere(std::string_view host, std::uint16_t port, std::error_code& ec, time_point deadline) {
  const auto shared = std::make_shared<lookup>();
  shared->host = host;
  const std::array<int, 2> ends = io::pipe(ec);
  if (ec) return {};
  const io::descriptor reader(ends[0]);
  ec = start(shared, ends[1]);
  if (ec) return {};
  std::byte unused[1];
  io::read(reader, unused, ec, deadline);
  if (ec) return {};
  WEFT_CHECK(shared->done.load(std::memory_order_acquire));
  ec = error_of(*shared);
  std::vector<endpoint> found;
  for (const endpoint& here : shared->found) found.push_back(with_port(here, port));
  return found;
}

bool numeric(std::string_view host, std::uint16_t port, std::vector<endpoint>& found) {
  std::error_code ec;
  const bool v6 = host.find(':') != std::string_view::npos;
  const std::string text = (v6 ? "[" : "") + std::string(host) + (v6 ? "]:" : ":") + std::to_string(port);
  const endpoint here = endpoint::parse(text, ec);
  if (!ec && here.family() != AF_UNIX) found.push_back(here);
  return !found.empty();
}

}  // namespace

std::vector<endpoint> resolve(std::string_view host, std::uint16_t port, std::error_code& ec, time_point deadline) {
  std::vector<endpoint> found;
  ec.clear();
  if (host.empty() || host.find('\0') != std::string_view::npos) {
    ec = std::make_error_code(std::errc::invalid_argument);
  } else if (!numeric(host, port, found)) {
    if (!weft::detail::on_weft_thread()) weft::detail::throw_off_weft("net::resolve");  // before a kernel thread is made for it
    found = look_up_elsewhere(host, port, ec, deadline);
  }
  return found;
}

std::vector<endpoint> resolve(std::string_view host, std::uint16_t port, time_point deadline) {
  std::error_code ec;
  std::vector<endpoint> found = resolve(host, port, ec, deadline);
  if (ec) io::detail::fail(ec, "resolve '" + std::string(host) + "'");
  return found;
}

}  // namespace weft::net
