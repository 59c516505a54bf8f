// Who is here, in which room, and who hears what. Knows nothing of sockets.
//
// No locks: threads of one scheduler change only where one of them waits, and nothing here waits.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <weft/cancel.hpp>
#include <weft/channel.hpp>

/// One line to be sent, with its end; shared by all who are to hear it.
using message = std::shared_ptr<const std::string>;

/// Somebody in the chat.
struct member {
  explicit member(std::size_t waiting_lines) : outbox(waiting_lines) {}

  std::string nick;
  std::string room = "lobby";
  weft::channel<message> outbox;  // what was said, until it is written; closed when nothing more will be
  std::size_t lost = 0;           // lines for which the outbox had no room since the last one that went in
  std::string last_words;         // sent when the outbox is drained
  weft::cancel_scope listening;   // ended to make the member's thread stop reading
};

class chat {
 public:
  /// Ends somebody's stay when it dies.
  class place {
   public:
    place(chat& in, member& who);
    ~place();
    place(const place&) = delete;
    place& operator=(const place&) = delete;

   private:
    chat& chat_;
    member& who_;
    std::list<member*>::iterator at_;
  };

  /// One line from `who`: something to say, or a command. @returns false when it was /quit.
  bool hear(member& who, std::string_view line);
  /// Puts a line into somebody's outbox. Never waits: where there is no room it is lost, and counted.
  static void tell(member& who, std::string_view text);

  /// Everybody is told, and reads no more.
  void end(std::string_view last_words);

  [[nodiscard]] std::size_t size() const { return members_.size(); }
  [[nodiscard]] std::size_t stays() const { return stays_; }  ///< since the beginning

 private:
  void say(const member& from, std::string_view text);
  void tell_room(const std::string& room, std::string_view text, const member* but);
  bool command(member& who, std::string_view name, std::string_view rest);
  void rename(member& who, std::string_view name);
  void move(member& who, std::string_view room);
  void whisper(member& from, std::string_view rest);
  void list(member& who);
  [[nodiscard]] member* find(std::string_view nick);

  std::list<member*> members_;
  std::size_t stays_ = 0;
  bool ending_ = false;
  std::string ending_words_;
};
