// Whose the descriptors of typed objects are, for those who close one on another kernel thread.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "weft/upcall.hpp"

namespace weft::upcall::engine {

/// The numbers of typed objects that one reactor has worked on. Threads may wait on them there, and only the reactor can end
/// their calls. So whoever closes such a number elsewhere leaves that to the reactor: the number stays in use until it has ended
/// them, and names nothing else meanwhile.
///
/// One table for the process, under one lock, which is taken when a reactor first sees an object and when that is closed. In a
/// child made by fork() nobody owns anything.
class owned_descriptors {
 public:
  /// `wakes` is woken whenever there are numbers to close. @throws std::system_error when the process cannot guard its forks
  explicit owned_descriptors(source& wakes);
  /// Closes what was left to it, and owns nothing any more.
  ~owned_descriptors();
  owned_descriptors(const owned_descriptors&) = delete;
  owned_descriptors& operator=(const owned_descriptors&) = delete;

  /// The reactor works on `fd`: it is ours from here on, whosever it was. @throws std::bad_alloc
  void add(int fd);
  /// The reactor would close `fd`, and nobody waits for it here: it is not ours any more. @returns whether to close it; otherwise
  /// it was another reactor's, which will.
  [[nodiscard]] bool remove(int fd) noexcept { return !leave(fd, this); }

  /// True when others have left numbers to us.
  [[nodiscard]] bool has_left() const noexcept { return has_left_.load(std::memory_order_relaxed); }
  /// Adds them to `to`; they are not ours any more. Without memory for that they stay.
  void take_left(std::vector<int>& to) noexcept;

  /// From a kernel thread that runs no reactor: leaves closing `fd` to the one whose it is. @returns false when it is nobody's.
  [[nodiscard]] static bool leave_to_owner(int fd) noexcept { return leave(fd, nullptr); }

 private:
  static void guard_forks();
  static bool leave(int fd, owned_descriptors* mine) noexcept;
  static std::vector<owned_descriptors*>& owners();  // by number

  static inline std::mutex lock_;

  source* source_;
  std::vector<int> left_;
  std::atomic<bool> has_left_{false};
};

}  // namespace weft::upcall::engine
