// Addresses as values and as text.
#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "weft/net.hpp"

namespace weft::net {

namespace {

constexpr std::string_view local_prefix = "unix:";
constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);

template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end;
}

// inet_pton wants a terminated string; every numeric address fits.
using address_text = std::array<char, INET6_ADDRSTRLEN + 1>;

bool copy(std::string_view text, address_text& to) {
  if (text.size() >= to.size() || text.find('\0') != std::string_view::npos) return false;
  *std::copy(text.begin(), text.end(), to.begin()) = '\0';
  return true;
}

bool parse_v4(std::string_view address, std::uint16_t port, endpoint& made) {
  sockaddr_in to{};
  address_text text{};
  if (!copy(address, text) || ::inet_pton(AF_INET, text.data(), &to.sin_addr) != 1) return false;
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  made = endpoint(reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  return true;
}

// The zone after '%' is an interface's name or number.
bool parse_zone(std::string_view zone, std::uint32_t& scope) {
  if (zone.empty()) return false;
  if (parse_number(zone, scope)) return true;
  scope = ::if_nametoindex(std::string(zone).c_str());
  return scope != 0;
}

bool parse_v6(std::string_view address, std::uint16_t port, endpoint& made) {
  sockaddr_in6 to{};
  address_text text{};
  const std::size_t percent = address.find('%');
  if (percent != std::string_view::npos && !parse_zone(address.substr(percent + 1), to.sin6_scope_id)) return false;
  if (!copy(address.substr(0, percent), text) || ::inet_pton(AF_INET6, text.data(), &to.sin6_addr) != 1) return false;
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  made = endpoint(reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  return true;
}

std::errc parse_local(std::string_view path, endpoint& made) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  const bool abstract = path.starts_with('@');
  if (path.empty() || (!abstract && path.find('\0') != std::string_view::npos)) return std::errc::invalid_argument;
  if (path.size() > sizeof(to.sun_path) - (abstract ? 0 : 1)) return std::errc::filename_too_long;
  std::copy(path.begin(), path.end(), to.sun_path);
  if (abstract) to.sun_path[0] = '\0';
  made = endpoint(reinterpret_cast<const sockaddr*>(&to), static_cast<socklen_t>(path_offset + path.size() + (abstract ? 0 : 1)));
  return {};
}

std::errc parse_text(std::string_view text, endpoint& made) {
  if (text.starts_with(local_prefix)) return parse_local(text.substr(local_prefix.size()), made);
  const std::size_t colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string_view::npos || !parse_number(text.substr(colon + 1), port)) return std::errc::invalid_argument;
  std::string_view address = text.substr(0, colon);
  const bool bracketed = address.size() > 1 && address.front() == '[' && address.back() == ']';
  if (bracketed) address = address.substr(1, address.size() - 2);
  const bool understood = bracketed ? parse_v6(address, port, made) : parse_v4(address, port, made);
  return understood ? std::errc() : std::errc::invalid_argument;
}

endpoint v4(in_addr_t address, std::uint16_t port) noexcept {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(address);
  return endpoint(reinterpret_cast<const sockaddr*>(&to), sizeof(to));
}

endpoint v6(const in6_addr& address, std::uint16_t port) noexcept {
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_port = htons(port);
  to.sin6_addr = address;
  return endpoint(reinterpret_cast<const sockaddr*>(&to), sizeof(to));
}

[[noreturn]] void refuse(std::errc why, std::string_view text, const char* wanted) {
  throw std::system_error(std::make_error_code(why), "weft: '" + std::string(text) + "' is no " + wanted);
}

std::string zone_name(std::uint32_t scope) {
  std::array<char, IF_NAMESIZE> name{};
  return "%" + (::if_indextoname(scope, name.data()) != nullptr ? std::string(name.data()) : std::to_string(scope));
}

}  // namespace

endpoint::endpoint(const sockaddr* address, socklen_t length) noexcept {
  size_ = std::min(length, capacity());
  if (size_ != 0) std::memcpy(&address_.path, address, size_);
}

endpoint endpoint::loopback(std::uint16_t port) noexcept { return v4(INADDR_LOOPBACK, port); }
endpoint endpoint::any(std::uint16_t port) noexcept { return v4(INADDR_ANY, port); }
endpoint endpoint::loopback_v6(std::uint16_t port) noexcept { return v6(in6addr_loopback, port); }
endpoint endpoint::any_v6(std::uint16_t port) noexcept { return v6(in6addr_any, port); }

endpoint endpoint::ip(std::string_view address, std::uint16_t port) {
  endpoint made;
  if (!parse_v4(address, port, made) && !parse_v6(address, port, made)) {
    refuse(std::errc::invalid_argument, address, "numeric IPv4 or IPv6 address");
  }
  return made;
}

endpoint endpoint::local(std::string_view path) {
  endpoint made;
  const std::errc why = parse_local(path, made);
  if (why != std::errc()) refuse(why, path, "path for a Unix-domain socket");
  return made;
}

endpoint endpoint::parse(std::string_view text) {
  endpoint made;
  const std::errc why = parse_text(text, made);
  if (why != std::errc()) refuse(why, text, "address (\"192.0.2.1:80\", \"[2001:db8::1]:80\" or \"unix:/path\")");
  return made;
}

endpoint endpoint::parse(std::string_view text, std::error_code& ec) {
  endpoint made;
  const std::errc why = parse_text(text, made);
  ec = why == std::errc() ? std::error_code() : std::make_error_code(why);
  return made;
}

std::uint16_t endpoint::port() const noexcept {
  if (family() == AF_INET) return ntohs(address_.v4.sin_port);
  return family() == AF_INET6 ? ntohs(address_.v6.sin6_port) : std::uint16_t{0};
}

std::string endpoint::path() const {
  if (family() != AF_UNIX || size_ <= path_offset) return {};
  const char* const begin = address_.path.sun_path;
  const std::size_t length = size_ - path_offset;
  if (*begin != '\0') return std::string(begin, ::strnlen(begin, length));
  return "@" + std::string(begin + 1, length - 1);
}

std::string endpoint::to_string() const {
  address_text text{};
  switch (family()) {
    case AF_INET:
      ::inet_ntop(AF_INET, &address_.v4.sin_addr, text.data(), text.size());
      return std::string(text.data()) + ":" + std::to_string(port());
    case AF_INET6: {
      ::inet_ntop(AF_INET6, &address_.v6.sin6_addr, text.data(), text.size());
      const std::uint32_t scope = address_.v6.sin6_scope_id;
      return "[" + std::string(text.data()) + (scope == 0 ? "" : zone_name(scope)) + "]:" + std::to_string(port());
    }
    case AF_UNIX:
      return std::string(local_prefix) + path();
    default:
      return "no address";
  }
}

void endpoint::resize(socklen_t n) noexcept {
  size_ = std::min(n, capacity());
  if (size_ == 0) address_.any.sa_family = AF_UNSPEC;
}

bool operator==(const endpoint& a, const endpoint& b) noexcept {
  if (a.family() != b.family()) return false;
  switch (a.family()) {
    case AF_INET:
      return a.port() == b.port() && a.address_.v4.sin_addr.s_addr == b.address_.v4.sin_addr.s_addr;
    case AF_INET6:
      return a.port() == b.port() && a.address_.v6.sin6_scope_id == b.address_.v6.sin6_scope_id &&
             std::memcmp(&a.address_.v6.sin6_addr, &b.address_.v6.sin6_addr, sizeof(in6_addr)) == 0;
    case AF_UNIX:
      return a.path() == b.path();
    default:
      return true;
  }
}

}  // namespace weft::net
