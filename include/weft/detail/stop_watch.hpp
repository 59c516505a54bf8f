// Word of a stop request, which any kernel thread may make, for a weft thread.
#pragma once

#include <memory>
#include <optional>
#include <stop_token>

#include "weft/detail/abi.hpp"

namespace weft::detail {

class stop_relay;

/// Is told of a stop, by the holder of the processor.
class stop_listener {
 public:
  virtual void stop() noexcept = 0;

 protected:
  stop_listener() = default;
  stop_listener(const stop_listener&) = default;
  stop_listener& operator=(const stop_listener&) = default;
  ~stop_listener() = default;
};

/// Tells when a stop is requested, by whichever kernel thread. While one exists, an idle scheduler does not take itself for
/// deadlocked.
class stop_watch {
 public:
  /// From the beginning it tells `first`, if there is one: before this returns, where the stop was requested already and the
  /// caller has the processor. `call` names the function in the text of an error.
  /// @throws std::bad_alloc; std::system_error(operation_not_permitted) off a weft thread
  stop_watch(const char* call, const std::stop_token& token, stop_listener* first = nullptr);
  /// Waits for a stop request that is being made this very moment: it only leaves word, and needs nothing of our own.
  ~stop_watch();
  stop_watch(const stop_watch&) = delete;
  stop_watch& operator=(const stop_watch&) = delete;

  /// Whom to tell from here on; null: nobody. For the holder of the processor, as the next one.
  void tell(stop_listener* whom) noexcept;
  /// Whether word of a stop has come.
  [[nodiscard]] bool stopped() const noexcept;

 private:
  struct request {
    stop_relay* to;
    void operator()() const noexcept;
  };
  std::shared_ptr<stop_relay> relay_;  // shared with the word that was left, which may arrive later than anybody cares for
  std::optional<std::stop_callback<request>> callback_;
};

}  // namespace weft::detail
