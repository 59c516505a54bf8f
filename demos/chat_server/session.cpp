#include "session.hpp"

#include <array>
#include <string>
#include <string_view>
#include <system_error>
#include <weft/nursery.hpp>
#include <weft/thread.hpp>

#include "text.hpp"

namespace {

using namespace std::chrono_literals;

constexpr std::size_t one_write = 16 * 1024;
constexpr auto last_look = 1s;  // for a client to see the end before the connection is closed

// @returns false when the client is gone, or took not a byte for `patience`
bool send(weft::net::tcp_stream& peer, std::string_view text, std::chrono::seconds patience) {
  while (!text.empty()) {
    std::error_code trouble;
    text.remove_prefix(peer.write(text, trouble, weft::clock::now() + patience));
    if (trouble) return false;
  }
  return true;
}

// Writes what `me` is to hear until nothing more will be said. @returns whether all of it was taken
bool write_all(member& me, weft::net::tcp_stream& peer, std::chrono::seconds patience) {
  std::string batch;
  while (std::optional<message> next = me.outbox.receive()) {
    batch = **next;
    while (batch.size() < one_write && (next = me.outbox.try_receive())) batch += **next;
    if (!send(peer, batch, patience)) return false;
  }
  return me.last_words.empty() || send(peer, me.last_words + '\n', patience);
}

void read_all(chat& room, member& me, weft::net::tcp_stream& peer, std::size_t longest_line) {
  line_splitter lines(longest_line);
  // A client that sends faster than others read must not have the processor for itself: one line, one turn.
  const auto hear = [&](std::string_view line) {
    weft::this_thread::yield();
    return !me.listening.cancel_requested() && room.hear(me, line);
  };
  const auto too_long = [&] {
    chat::tell(me, "! That line was longer than " + std::to_string(longest_line) + " bytes; nobody has heard it.");
    return true;
  };
  std::array<char, 4096> piece;
  std::error_code gone;
  while (const std::size_t n = peer.read(piece, gone)) {
    if (!lines.take(std::string_view(piece.data(), n), hear, too_long)) return;
    weft::this_thread::yield();  // one who never ends a line, too
  }
  if (!gone) lines.finish(hear, too_long);
}

// Closing with something unread would reset the connection, and the client might lose what it was told last.
void let_it_see_the_end(weft::net::tcp_stream& peer) {
  std::error_code ignored;
  peer.shutdown(SHUT_WR, ignored);
  static_cast<void>(weft::with_timeout(last_look, [&] {
    std::array<char, 4096> unread;
    while (peer.read(unread, ignored) > 0) continue;
  }));
}

}  // namespace

void stay(chat& room, weft::net::tcp_stream& peer, const limits& how) {
  member me(how.waiting_lines);
  bool told_all = false;
  weft::with_nursery([&](weft::nursery& threads) {
    threads.spawn({.name = "writer"}, [&] {
      told_all = write_all(me, peer, how.patience);
      me.listening.request_cancel();
    });
    {
      const chat::place here(room, me);
      static_cast<void>(me.listening.run([&] { read_all(room, me, peer, how.longest_line); }));
    }
    me.outbox.close();
  });
  if (told_all) let_it_see_the_end(peer);
}

void turn_away(weft::net::tcp_stream& peer) {
  std::error_code ignored;
  peer.write("! The chat is full; try again later.\n", ignored, weft::clock::now());
  peer.shutdown(SHUT_WR, ignored);
}
