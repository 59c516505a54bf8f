// A strict reader of JSON for tests that look at what weft writes: throws std::runtime_error where the text is not JSON.
#pragma once

#include <charconv>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace json {

struct value;
using array = std::vector<value>;
using object = std::map<std::string, value, std::less<>>;

struct value {
  std::variant<std::nullptr_t, bool, double, std::string, array, object> is = nullptr;

  [[nodiscard]] bool has(std::string_view key) const { return std::get<object>(is).contains(key); }
  [[nodiscard]] const value& operator[](std::string_view key) const {
    const auto& members = std::get<object>(is);
    const auto found = members.find(key);
    if (found == members.end()) throw std::runtime_error("no member " + std::string(key));
    return found->second;
  }
  [[nodiscard]] const array& items() const { return std::get<array>(is); }
  [[nodiscard]] const std::string& text() const { return std::get<std::string>(is); }
  [[nodiscard]] double number() const { return std::get<double>(is); }
};

class reader {
 public:
  explicit reader(std::string_view text) : left_(text) {}

  value document() {
    value v = any();
    if (peek() != '\0') fail("text after the document");
    return v;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(what + " before \"" + std::string(left_.substr(0, 40)) + "\"");
  }
  char peek() {
    left_.remove_prefix(std::min(left_.find_first_not_of(" \n\r\t"), left_.size()));
    return left_.empty() ? '\0' : left_.front();
  }
  bool take(char c) {
    if (peek() != c) return false;
    left_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("no ") + c);
  }
  bool word(std::string_view w) {
    if (!left_.starts_with(w)) return false;
    left_.remove_prefix(w.size());
    return true;
  }

  value any() {
    switch (peek()) {
      case '{':
        return {members()};
      case '[':
        return {elements()};
      case '"':
        return {string()};
      default:
        break;
    }
    if (word("null")) return {};
    if (word("true")) return {true};
    if (word("false")) return {false};
    return {number()};
  }
  object members() {
    object out;
    expect('{');
    if (take('}')) return out;
    do {
      if (peek() != '"') fail("no key");
      std::string key = string();
      expect(':');
      if (!out.emplace(std::move(key), any()).second) fail("a key twice");
    } while (take(','));
    expect('}');
    return out;
  }
  array elements() {
    array out;
    expect('[');
    if (take(']')) return out;
    do {
      out.push_back(any());
    } while (take(','));
    expect(']');
    return out;
  }
  double number() {
    double n = 0;
    const auto [end, error] = std::from_chars(left_.data(), left_.data() + left_.size(), n);
    if (error != std::errc{} || left_.front() == '.') fail("no value");
    left_.remove_prefix(static_cast<std::size_t>(end - left_.data()));
    return n;
  }
  std::string string() {
    std::string out;
    expect('"');
    while (!left_.empty()) {
      const char c = left_.front();
      left_.remove_prefix(1);
      if (c == '"') return out;
      if (static_cast<unsigned char>(c) < 0x20) fail("a bare control character");
      out += c == '\\' ? escaped() : std::string(1, c);
    }
    fail("a string without end");
  }
  std::string escaped() {
    static constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    if (left_.empty()) fail("a string without end");
    const char c = left_.front();
    left_.remove_prefix(1);
    if (const auto place = letters.find(c); place != letters.npos) return std::string(1, meanings[place]);
    unsigned code = 0;
    if (c != 'u' || left_.size() < 4 || std::from_chars(left_.data(), left_.data() + 4, code, 16).ptr != left_.data() + 4) {
      fail("no escape");
    }
    left_.remove_prefix(4);
    if (code < 0x80) return std::string(1, static_cast<char>(code));
    if (code < 0x800) return {static_cast<char>(0xC0U | code >> 6U), static_cast<char>(0x80U | (code & 63U))};
    return {static_cast<char>(0xE0U | code >> 12U), static_cast<char>(0x80U | (code >> 6U & 63U)),
            static_cast<char>(0x80U | (code & 63U))};
  }

  std::string_view left_;
};

[[nodiscard]] inline value read(std::string_view text) { return reader(text).document(); }

}  // namespace json
