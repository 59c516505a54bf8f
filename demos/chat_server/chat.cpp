#include "chat.hpp"

#include <algorithm>
#include <utility>

#include "text.hpp"

namespace {

constexpr std::string_view commands[] = {
    "* What you type is said to everybody in your room. Commands:",
    "*   /nick NAME       call yourself NAME",
    "*   /join ROOM       go to another room; all begin in the lobby",
    "*   /msg NAME TEXT   say something to one person, in whatever room",
    "*   /who             who is where",
    "*   /quit            leave",
};

std::string in_words(std::string_view a, std::string_view b, std::string_view c = {}, std::string_view d = {}) {
  return std::string(a).append(b).append(c).append(d);
}

}  // namespace

chat::place::place(chat& in, member& who) : chat_(in), who_(who) {
  std::size_t number = ++in.stays_;
  do {
    who.nick = "guest" + std::to_string(number++);
  } while (in.find(who.nick) != nullptr);
  at_ = in.members_.insert(in.members_.end(), &who);
  if (in.ending_) {
    who.last_words = in.ending_words_;
    who.listening.request_cancel();
    return;
  }
  tell(who, in_words("* Welcome, ", who.nick, ". /help tells the commands."));
  in.tell_room(who.room, in_words("* ", who.nick, " is here"), &who);
}

chat::place::~place() {
  chat_.members_.erase(at_);
  if (!chat_.ending_) chat_.tell_room(who_.room, in_words("* ", who_.nick, " has left"), nullptr);
}

bool chat::hear(member& who, std::string_view line) {
  const std::string clean = printable(line);
  std::string_view text = clean;
  if (text.find_first_not_of(' ') == text.npos) return true;
  if (!text.starts_with('/')) {
    say(who, text);
    return true;
  }
  text.remove_prefix(1);
  const std::string_view name = take_word(text);
  return command(who, name, text);
}

bool chat::command(member& who, std::string_view name, std::string_view rest) {
  if (name == "quit") {
    who.last_words = "* Goodbye.";
    return false;
  }
  if (name == "nick") {
    rename(who, take_word(rest));
  } else if (name == "join") {
    move(who, take_word(rest));
  } else if (name == "msg") {
    whisper(who, rest);
  } else if (name == "who") {
    list(who);
  } else if (name == "help") {
    for (const std::string_view each : commands) tell(who, each);
  } else {
    tell(who, in_words("! There is no command /", name, "; /help tells which there are."));
  }
  return true;
}

void chat::tell(member& who, std::string_view text) {
  if (who.outbox.closed()) return;
  std::string line;
  if (who.lost > 0) line = "! You read too slowly; lines lost here: " + std::to_string(who.lost) + '\n';
  line.append(text).append("\n");
  if (who.outbox.try_send(std::make_shared<const std::string>(std::move(line)))) {
    who.lost = 0;
  } else {
    ++who.lost;
  }
}

void chat::say(const member& from, std::string_view text) { tell_room(from.room, in_words("<", from.nick, "> ", text), &from); }

// One copy for all who have missed nothing.
void chat::tell_room(const std::string& room, std::string_view text, const member* but) {
  const message shared = std::make_shared<const std::string>(std::string(text) + '\n');
  for (member* const each : members_) {
    if (each == but || each->room != room || each->outbox.closed()) continue;
    if (each->lost > 0 || !each->outbox.try_send(message(shared))) tell(*each, text);
  }
}

void chat::rename(member& who, std::string_view name) {
  if (!good_name(name)) return tell(who, "! A name is 1 to 20 letters, digits, - and _: /nick anna");
  if (name == who.nick) return tell(who, in_words("! You are ", name, " already."));
  if (find(name) != nullptr) return tell(who, in_words("! Somebody else is ", name, "."));
  const std::string before = std::exchange(who.nick, std::string(name));
  tell_room(who.room, in_words("* ", before, " is now ", who.nick), nullptr);
}

void chat::move(member& who, std::string_view room) {
  if (!good_name(room)) return tell(who, "! A room's name is 1 to 20 letters, digits, - and _: /join lobby");
  if (room == who.room) return tell(who, in_words("! You are in ", room, " already."));
  tell_room(who.room, in_words("* ", who.nick, " went to ", room), &who);
  who.room = room;
  tell_room(who.room, in_words("* ", who.nick, " is in ", who.room), nullptr);
}

void chat::whisper(member& from, std::string_view rest) {
  const std::string_view name = take_word(rest);
  if (name.empty() || rest.empty()) return tell(from, "! It takes a name and something to say: /msg anna hello");
  member* const to = find(name);
  if (to == nullptr) return tell(from, in_words("! Nobody is called ", name, "; /who tells who is here."));
  tell(*to, in_words("[", from.nick, "] ", rest));
}

// A room after the other, in lines that fit a terminal.
void chat::list(member& who) {
  std::list<const member*> left(members_.begin(), members_.end());
  tell(who, in_words("* Here: ", std::to_string(left.size()), left.size() == 1 ? " person" : " people"));
  while (!left.empty()) {
    const std::string& room = left.front()->room;
    std::string line = in_words("*   ", room, ":");
    for (auto each = left.begin(); each != left.end();) {
      if ((*each)->room != room) {
        ++each;
        continue;
      }
      if (line.size() + 1 + (*each)->nick.size() > 78) tell(who, std::exchange(line, "*    "));
      line.append(" ").append((*each)->nick);
      each = left.erase(each);
    }
    tell(who, line);
  }
}

member* chat::find(std::string_view nick) {
  const auto found = std::ranges::find_if(members_, [nick](const member* each) { return each->nick == nick; });
  return found == members_.end() ? nullptr : *found;
}

void chat::end(std::string_view last_words) {
  ending_ = true;
  ending_words_ = last_words;
  for (member* const each : members_) {
    each->last_words = last_words;
    each->listening.request_cancel();
  }
}
