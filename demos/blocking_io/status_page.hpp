// A web server with one page, which tells how far the search is: a thread per connection, plain blocking calls.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>
#include <weft/net.hpp>
#include <weft/thread.hpp>

class status_page {
 public:
  /// Serves what `text` returns at the moment, on a free port of the loopback interface. `text` must outlive weft::run: a
  /// visitor may still be served when this object is gone.
  explicit status_page(const std::function<std::string()>& text);
  ~status_page();
  status_page(const status_page&) = delete;
  status_page& operator=(const status_page&) = delete;

  [[nodiscard]] weft::net::endpoint address() const { return listener_.local_endpoint(); }

 private:
  weft::net::tcp_listener listener_;
  weft::jthread acceptor_;
};

/// What a client made of the page.
struct visits {
  std::vector<std::string> pages;  ///< what it said, each time
  double slowest_ms = 0;           ///< the longest visit, from connect to the last byte
  std::string trouble;             ///< a sentence, when a visit failed: it was the last
};

/// Fetches the page every few milliseconds, for the last time when `enough()`; three times at least.
[[nodiscard]] visits visit_repeatedly(const weft::net::endpoint& page, const std::function<bool()>& enough);
