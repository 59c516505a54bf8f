#include "status_page.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <system_error>
#include <utility>

namespace {

using std::chrono::milliseconds;

constexpr std::string_view head_end = "\r\n\r\n";

// Reads until the head of a request or response has ended, or the peer's words have.
std::string read_head(weft::net::tcp_stream& from, weft::time_point deadline) {
  std::string head;
  std::array<char, 1024> piece;
  while (head.find(head_end) == std::string::npos && head.size() < 16 * 1024) {
    const std::size_t n = from.read(piece, deadline);
    if (n == 0) break;
    head.append(piece.data(), n);
  }
  return head;
}

void answer(weft::net::tcp_stream& visitor, const std::function<std::string()>& text) {
  std::error_code gone;  // a visitor who vanishes is no trouble of ours
  try {
    const std::string request = read_head(visitor, weft::clock::now() + std::chrono::seconds(5));
    const bool known = request.starts_with("GET / ");
    const std::string body = known ? text() : "there is only one page: /\n";
    visitor.write_all(std::string("HTTP/1.1 ") + (known ? "200 OK" : "404 Not Found") +
                          "\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
                          "\r\n\r\n" + body,
                      gone);
  } catch (const std::system_error&) {
  }
}

std::string fetch(const weft::net::endpoint& page) {
  auto server = weft::net::tcp_stream::connect(page);
  server.write_all("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  std::string response;
  std::array<char, 1024> piece;
  while (const std::size_t n = server.read(piece)) response.append(piece.data(), n);
  const std::size_t head = response.find(head_end);
  if (!response.starts_with("HTTP/1.1 200 ") || head == std::string::npos) {
    throw std::system_error(std::make_error_code(std::errc::protocol_error), "the status page is no page");
  }
  return response.substr(head + head_end.size());
}

}  // namespace

status_page::status_page(const std::function<std::string()>& text)
    : listener_(weft::net::endpoint::loopback(0)), acceptor_({.name = "status page"}, [this, &text] {
        for (;;) {
          std::error_code error;
          auto visitor = listener_.accept(error);
          if (error == std::errc::bad_file_descriptor) return;
          if (error) {  // too many open files, say: they will become fewer
            weft::this_thread::sleep_for(milliseconds(10));
            continue;
          }
          weft::thread({.name = "visitor"}, [&text, peer = std::move(visitor)]() mutable { answer(peer, text); }).detach();
        }
      }) {}

status_page::~status_page() {
  std::error_code ignored;
  listener_.close(ignored);  // accept() fails: the acceptor ends
}

visits visit_repeatedly(const weft::net::endpoint& page, const std::function<bool()>& enough) {
  visits made;
  try {
    for (bool last = false; !last || made.pages.size() < 3;) {
      last = enough();
      const weft::time_point before = weft::clock::now();
      made.pages.push_back(fetch(page));
      const double took = std::chrono::duration<double, std::milli>(weft::clock::now() - before).count();
      made.slowest_ms = std::max(made.slowest_ms, took);
      if (!last) weft::this_thread::sleep_for(milliseconds(5));
    }
  } catch (const std::system_error& error) {
    made.trouble = error.what();
  }
  return made;
}
