// The one way in which weft makes kernel threads: activations, the schedulers of run_on, those that work or watch beside them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

namespace weft::detail {

/// What a kernel thread does about signals sent to the program.
enum class signals : std::uint8_t {
  blocked,  ///< it takes none: they are for the program's own kernel threads
  as_here,  ///< what its maker does, because it is to run the program's code
};

/// A kernel thread with a name. Whoever destroys it waits for its end.
class kernel_thread {
 public:
  kernel_thread() noexcept = default;
  /// Starts one that calls `work`, which must not throw. Of `name` 15 bytes are kept.
  /// @throws std::system_error(resource_unavailable_try_again) when the kernel gives none: the text begins with `asked_by` and
  ///         says what to change; std::bad_alloc.
  kernel_thread(const char* asked_by, const std::string& name, signals what, std::function<void()> work);
  ~kernel_thread() { join(); }
  kernel_thread(kernel_thread&&) noexcept = default;
  kernel_thread& operator=(kernel_thread&& other) noexcept {
    join();
    thread_ = std::move(other.thread_);
    return *this;
  }

  /// Waits for its end; at once when there is none.
  void join() noexcept {
    if (thread_.joinable()) thread_.join();
  }
  /// Lets it go on alone.
  void detach() noexcept { thread_.detach(); }

 private:
  std::thread thread_;
};

}  // namespace weft::detail
