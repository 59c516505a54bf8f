#include "weft/detail/kernel_thread.hpp"

#include <pthread.h>

#include <optional>
#include <system_error>
#include <utility>

#include "upcall/signals_blocked.hpp"

namespace weft::detail {

// The mask is inherited, so that not one signal meets the new one before it could block them. Its maker names it: so the name is
// there when the constructor returns.
kernel_thread::kernel_thread(const char* asked_by, const std::string& name, signals what, std::function<void()> work) {
  std::optional<upcall::signals_blocked> inherited;
  if (what == signals::blocked) inherited.emplace();
  try {
    thread_ = std::thread(std::move(work));
  } catch (const std::system_error& error) {
    throw std::system_error(
        error.code(),
        std::string(asked_by) + ": the kernel gives no kernel thread (ulimit -u, or the pids limit of this container)");
  }
  static_cast<void>(::pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str()));
}

}  // namespace weft::detail
