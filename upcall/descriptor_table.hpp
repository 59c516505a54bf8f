// What the engine knows of each descriptor: what it is, whether a transfer would succeed now, and who waits for it.
//
// A descriptor is registered once with the epoll set, edge-triggered. From then on `readable` and `writable` are kept by the
// edges that arrive and by the transfers that are made, so an operation on a descriptor that is not ready costs no system call.
//
// Descriptors of typed objects (`operation::owned`) are closed through us, so their registration can be trusted. The number
// of any other may have been closed behind our back and name another open file by now. Hence `recheck` before such an
// operation waits: EPOLL_CTL_MOD finds out and makes the kernel report the present state again, whatever we believed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "upcall/operation_list.hpp"
#include "upcall/owned_descriptors.hpp"

namespace weft::upcall::engine {

/// The two directions of a descriptor. Files have one turn for both, that of reading: it guards the file position.
enum class direction : std::uint8_t { read, write };

/// What is known of one descriptor.
struct descriptor_entry {
  enum flag : std::uint16_t {
    known = 1 << 0,            ///< classified and, unless a file, registered
    file = 1 << 1,             ///< epoll refuses it: regular files, directories, block devices
    trusted = 1 << 2,          ///< classified for its owner: nobody else closes it
    socket = 1 << 3,           ///< recv(2) and send(2) work
    drains = 1 << 4,           ///< a short transfer means that there is no more: TCP
    nonblocking = 1 << 5,      ///< O_NONBLOCK was set when we looked
    no_nowait = 1 << 6,        ///< RWF_NOWAIT is refused: ask poll(2), then make the plain call
    no_nowait_write = 1 << 7,  ///< of a file: the same for writing alone (ext4)
    watches_writing = 1 << 8,  ///< EPOLLOUT is registered too: from the first wait to write on
    readable = 1 << 9,         ///< a read is believed to succeed
    writable = 1 << 10,        ///< a write is believed to succeed
    proven = 1 << 11,          ///< `readable` was reported by an edge since the last read, not just believed
    doubtful = 1 << 12,        ///< the last such belief was wrong: ask poll(2) first, where many are asked at once
    ended = 1 << 13,           ///< end, error or urgent data were reported: a short read does not mean drained
    read_turn = 1 << 14,       ///< an operation holds the turn to read
    write_turn = 1 << 15,      ///< an operation holds the turn to write
  };

  operation_list reading;
  operation_list writing;
  operation_list watching;
  std::uint16_t flags = 0;
  std::uint16_t generation = 0;  ///< counts the closes of this number
  std::uint32_t held = 0;        ///< operations that have only its number yet: in the batch, or with workers

  [[nodiscard]] bool is(std::uint16_t bits) const noexcept { return (flags & bits) != 0; }
  void set(std::uint16_t bits) noexcept { flags = static_cast<std::uint16_t>(flags | bits); }
  void clear(std::uint16_t bits) noexcept { flags = static_cast<std::uint16_t>(flags & ~bits); }

  [[nodiscard]] operation_list& waiting(direction d) noexcept { return d == direction::read ? reading : writing; }
  [[nodiscard]] static std::uint16_t ready_flag(direction d) noexcept { return d == direction::read ? readable : writable; }
  [[nodiscard]] static std::uint16_t turn_flag(direction d) noexcept { return d == direction::read ? read_turn : write_turn; }

  /// True when the next in line may transfer in direction `d` now.
  [[nodiscard]] bool open(direction d) const noexcept { return is(file | ready_flag(d)) && !is(turn_flag(d)); }

  /// True when a transfer in direction `d` would rather be asked for than tried.
  [[nodiscard]] bool in_doubt(direction d) const noexcept {
    return d == direction::read && (flags & (doubtful | proven)) == doubtful;
  }

  /// Takes note of what the kernel reported (EPOLLIN, …).
  void edge(std::uint32_t events) noexcept;
  /// Takes note of a transfer's result: what it says about the next one.
  void settle(const operation& op, std::int32_t result) noexcept;
};

/// The direction in which `code` transfers.
[[nodiscard]] direction direction_of(opcode code) noexcept;

/// All descriptors, by number. Owns the epoll set.
class descriptor_table {
 public:
  /// @throws std::system_error when the kernel refuses an epoll set
  descriptor_table();
  ~descriptor_table();
  descriptor_table(const descriptor_table&) = delete;
  descriptor_table& operator=(const descriptor_table&) = delete;

  [[nodiscard]] int epoll() const noexcept { return epoll_; }

  /// Has the numbers of typed objects entered there from here on.
  void enter_in(owned_descriptors& list) noexcept { owned_ = &list; }

  /// The entry of `fd`, null if there never was one. Entries move when `prepare` makes a new one.
  [[nodiscard]] descriptor_entry* find(int fd) noexcept {
    return static_cast<std::size_t>(fd) < entries_.size() ? &entries_[static_cast<std::size_t>(fd)] : nullptr;
  }

  /// Finds the entry of `fd`; classifies and registers what is unknown, or was so far used without an owner.
  /// @returns 0, or a negative errno and no entry.
  [[nodiscard]] int prepare(int fd, bool owned, descriptor_entry*& entry) noexcept {
    entry = find(fd);
    const std::uint16_t enough = owned ? descriptor_entry::trusted : descriptor_entry::known;
    return entry != nullptr && entry->is(enough) ? 0 : classify(fd, owned, entry);
  }

  /// Makes sure that the open file which `fd` names now is registered, also for writing if asked, and that its present
  /// state is reported again. @returns 0, or a negative errno: -EPERM if it cannot be polled (it is a file by now).
  [[nodiscard]] int recheck(int fd, descriptor_entry& entry, bool writing) noexcept;

  /// Classifies `fd` anew: the number names something else than we believed. Its waiters stay. Returns as `prepare`.
  [[nodiscard]] int classify(int fd, bool owned, descriptor_entry*& entry) noexcept;

  /// The number is about to be closed: nothing known of it holds any longer. Its lists must be empty.
  void forget(int fd, descriptor_entry& entry) noexcept;

  /// `fd` was just made by the kernel, or has a new owner: what is known of its number may be of an earlier open file.
  /// Negative: nothing.
  void renew(int fd) noexcept {
    if (descriptor_entry* const entry = fd < 0 ? nullptr : find(fd); entry != nullptr) {
      entry->clear(descriptor_entry::known | descriptor_entry::trusted);
    }
  }

  /// Registers a descriptor of the engine itself; its edges are reported with number -1.
  void add_own(int fd);

 private:
  [[nodiscard]] int control(int request, int fd, std::uint32_t events) noexcept;

  int epoll_;
  owned_descriptors* owned_ = nullptr;
  std::vector<descriptor_entry> entries_;
};

}  // namespace weft::upcall::engine
