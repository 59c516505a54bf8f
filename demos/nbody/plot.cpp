#include "plot.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ostream>

namespace {

// In SVG's units: the whole picture, and the field inside the axes.
constexpr double width = 860;
constexpr double height = 540;
constexpr double left = 84;
constexpr double right = 826;
constexpr double top = 84;
constexpr double bottom = 470;

std::string number(double value, int digits) {
  std::array<char, 32> text{};
  return {text.data(), static_cast<std::size_t>(std::snprintf(text.data(), text.size(), "%.*f", digits, value))};
}

// Where values stand in the field.
class axes {
 public:
  explicit axes(const plot& drawn) : first_(drawn.percents.front()), last_(drawn.percents.back()) {
    double most = 0;
    for (const curve& each : drawn.curves) most = std::max(most, *std::max_element(each.seconds.begin(), each.seconds.end()));
    most = std::max(most, 1e-6);
    const double power = std::pow(10.0, std::floor(std::log10(most / 5)));
    for (const double factor : {10.0, 5.0, 2.0, 1.0}) {
      if (power * factor * 7 >= most) tick_ = power * factor;
    }
    most_ = tick_ * std::ceil(most / tick_);
    digits_ = std::max(0, static_cast<int>(std::ceil(-std::log10(tick_) - 1e-9)));
  }
  [[nodiscard]] double x(double percent) const {
    constexpr double margin = 26;
    return left + margin + (first_ - percent) / std::max(first_ - last_, 1.0) * (right - left - 2 * margin);
  }
  [[nodiscard]] double y(double seconds) const { return bottom - seconds / most_ * (bottom - top); }
  [[nodiscard]] int ticks() const { return static_cast<int>(std::lround(most_ / tick_)); }
  [[nodiscard]] double tick(int i) const { return tick_ * i; }
  [[nodiscard]] int digits() const { return digits_; }

 private:
  double first_;
  double last_;
  double tick_ = 1;
  double most_ = 1;
  int digits_ = 0;
};

struct style {
  const char* anchor = "start";
  int size = 14;
  const char* more = "";
};

void text(std::ostream& out, double x, double y, const std::string& words, style how = {}) {
  out << "<text x=\"" << number(x, 1) << "\" y=\"" << number(y, 1) << "\" text-anchor=\"" << how.anchor << "\" font-size=\""
      << how.size << "\" " << how.more << '>' << words << "</text>\n";
}

void line(std::ostream& out, double x1, double y1, double x2, double y2, const char* how) {
  out << "<line x1=\"" << number(x1, 1) << "\" y1=\"" << number(y1, 1) << "\" x2=\"" << number(x2, 1) << "\" y2=\""
      << number(y2, 1) << "\" " << how << "/>\n";
}

void draw_marker(std::ostream& out, double x, double y, const curve& of) {
  out << "<g transform=\"translate(" << number(x, 1) << ' ' << number(y, 1) << ")\" fill=\"" << of.colour
      << "\" stroke=\"white\" stroke-width=\"1.5\">";
  if (of.marker == "square") {
    out << "<rect x=\"-5.5\" y=\"-5.5\" width=\"11\" height=\"11\"/>";
  } else if (of.marker == "triangle") {
    out << "<path d=\"M0 -7 L6.5 5 L-6.5 5 Z\"/>";
  } else {
    out << "<circle r=\"6\"/>";
  }
  out << "</g>\n";
}

void draw_axes(std::ostream& out, const plot& drawn, const axes& at) {
  for (int i = 0; i <= at.ticks(); ++i) {
    const double y = at.y(at.tick(i));
    line(out, left, y, right, y, i == 0 ? "stroke=\"#444\" stroke-width=\"1.5\"" : "stroke=\"#ddd\"");
    text(out, left - 10, y + 5, number(at.tick(i), at.digits()), {"end"});
  }
  for (const int percent : drawn.percents) {
    line(out, at.x(percent), bottom, at.x(percent), bottom + 6, "stroke=\"#444\" stroke-width=\"1.5\"");
    text(out, at.x(percent), bottom + 24, std::to_string(percent) + " %", {"middle"});
  }
  line(out, left, top, left, bottom, "stroke=\"#444\" stroke-width=\"1.5\"");
  text(out, (left + right) / 2, bottom + 54, "available memory, of what the tree needs", {"middle", 15});
  text(out, 26, (top + bottom) / 2, "execution time, s", {"middle", 15, "transform=\"rotate(-90 26 277)\""});
}

void draw_curve(std::ostream& out, const plot& drawn, const axes& at, const curve& of) {
  out << "<polyline fill=\"none\" stroke-width=\"2.5\" stroke-linejoin=\"round\" stroke=\"" << of.colour << "\" points=\"";
  for (std::size_t i = 0; i < drawn.percents.size(); ++i) {
    out << number(at.x(drawn.percents[i]), 1) << ',' << number(at.y(of.seconds[i]), 1) << ' ';
  }
  out << "\"/>\n";
  for (std::size_t i = 0; i < drawn.percents.size(); ++i) draw_marker(out, at.x(drawn.percents[i]), at.y(of.seconds[i]), of);
}

void draw_legend(std::ostream& out, const plot& drawn) {
  double y = top + 24;
  out << "<rect x=\"" << left + 12 << "\" y=\"" << top + 6 << "\" width=\"312\" height=\"84\" fill=\"white\"/>\n";
  for (const curve& each : drawn.curves) {
    line(out, left + 22, y, left + 62, y, ("stroke-width=\"2.5\" stroke=\"" + each.colour + "\"").c_str());
    draw_marker(out, left + 42, y, each);
    text(out, left + 74, y + 5, each.name);
    y += 25;
  }
}

void draw_mark(std::ostream& out, const axes& at, const crossing& where) {
  const double x = at.x(where.percent);
  const double y = at.y(where.seconds);
  out << "<circle cx=\"" << number(x, 1) << "\" cy=\"" << number(y, 1)
      << "\" r=\"12\" fill=\"none\" stroke=\"#222\" stroke-width=\"1.5\" stroke-dasharray=\"3 2\"/>\n";
  const double above = std::max(y - 60, top + 16);
  line(out, x - 9, y - 9, x - 34, above + 6, "stroke=\"#222\"");
  text(out, x - 30, above, "they cross at " + number(where.percent, 0) + " %", {"end", 13, "font-style=\"italic\""});
}

}  // namespace

std::optional<crossing> find_crossing(const std::vector<int>& percents, const curve& rising, const curve& other) {
  std::optional<crossing> found;
  for (std::size_t i = 0; i < percents.size(); ++i) {
    const double lead = rising.seconds[i] - other.seconds[i];
    if (lead <= 0) found.reset();
    if (lead <= 0 || found) continue;
    if (i == 0) {
      found = crossing{static_cast<double>(percents[0]), other.seconds[0]};
      continue;
    }
    const double before = rising.seconds[i - 1] - other.seconds[i - 1];
    const double part = before / (before - lead);
    found = crossing{percents[i - 1] + part * (percents[i] - percents[i - 1]),
                     other.seconds[i - 1] + part * (other.seconds[i] - other.seconds[i - 1])};
  }
  return found;
}

void write_svg(std::ostream& out, const plot& drawn) {
  const axes at(drawn);
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " << width << ' ' << height << "\" width=\"" << width
      << "\" height=\"" << height
      << "\" font-family=\"Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\" fill=\"#222\">\n"
      << "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  text(out, left, 36, drawn.title, {"start", 19, "font-weight=\"bold\""});
  text(out, left, 60, drawn.subtitle, {"start", 13, "fill=\"#555\""});
  draw_axes(out, drawn, at);
  for (const curve& each : drawn.curves) draw_curve(out, drawn, at, each);
  if (drawn.mark) draw_mark(out, at, *drawn.mark);
  draw_legend(out, drawn);
  out << "</svg>\n";
}
