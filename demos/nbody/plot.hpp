// The figure: execution time against available memory, as SVG.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

/// One line of the plot.
struct curve {
  std::string name;
  std::string colour;           ///< as SVG spells it
  std::string marker;           ///< "circle", "square" or "triangle"
  std::vector<double> seconds;  ///< one for each percentage of memory
};

/// Where one curve rises above another.
struct crossing {
  double percent = 0;
  double seconds = 0;
};

/// The first place, from much memory to little, where `rising` gets above `other` for good; no value if it does not.
[[nodiscard]] std::optional<crossing> find_crossing(const std::vector<int>& percents, const curve& rising, const curve& other);

struct plot {
  std::string title;
  std::string subtitle;
  std::vector<int> percents;  ///< from much memory to little
  std::vector<curve> curves;
  std::optional<crossing> mark;
};

void write_svg(std::ostream& out, const plot& drawn);
