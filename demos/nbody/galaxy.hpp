// The bodies, and the tree of Barnes and Hut over them: who pulls at a body is either a body nearby or a far-off crowd.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

struct vector2 {
  double x = 0;
  double y = 0;
};

/// A square of the plane with something in it: its children, or one body. Cells are numbered level by level from the root, so
/// the first few are what every body looks at, and of the others neighbours in the plane have neighbouring numbers.
struct cell {
  vector2 centre;  // of mass
  double mass = 0;
  double width = 0;
  std::uint32_t first_child = 0;
  std::uint32_t children = 0;  // 0: one body, or several at the same place
};

/// A flat galaxy of bodies of equal mass that pull at each other.
class galaxy {
 public:
  /// The same bodies for the same `seed`. The tree is made.
  galaxy(std::size_t bodies, std::uint64_t seed);

  [[nodiscard]] std::size_t size() const noexcept { return places_.size(); }
  [[nodiscard]] const std::vector<cell>& cells() const noexcept { return cells_; }

  /// The acceleration of body `i`: walks the tree, and calls `visit(number)` before it looks at cell `number`.
  template <class Visit> [[nodiscard]] vector2 pull_on(std::size_t i, Visit visit) const;

  /// Moves every body by one step of time under its acceleration, and makes the tree anew.
  void move(const std::vector<vector2>& accelerations);

  /// Of all places, to the last bit: two ways that computed the same have the same.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept;

 private:
  void make_tree();
  std::vector<std::uint64_t> sort_by_path();
  void sum_up() noexcept;

  static constexpr double opening = 0.4;     // a cell is a point for whoever is further away than width / opening
  static constexpr double softening = 0.01;  // so that close encounters stay finite

  std::vector<vector2> places_;  // neighbours in the plane have neighbouring numbers
  std::vector<vector2> speeds_;
  std::vector<cell> cells_;
};

template <class Visit> vector2 galaxy::pull_on(std::size_t i, Visit visit) const {
  const vector2 here = places_[i];
  vector2 pull;
  std::uint32_t open[128] = {0};
  for (std::size_t count = 1; count > 0;) {
    const std::uint32_t number = open[--count];
    visit(number);
    const cell& at = cells_[number];
    const double dx = at.centre.x - here.x;
    const double dy = at.centre.y - here.y;
    const double square = dx * dx + dy * dy;
    if (at.children != 0 && at.width * at.width > opening * opening * square) {
      for (std::uint32_t child = 0; child < at.children; ++child) open[count++] = at.first_child + child;
    } else {
      const double distance2 = square + softening * softening;
      const double strength = at.mass / (distance2 * std::sqrt(distance2));
      pull.x += strength * dx;
      pull.y += strength * dy;
    }
  }
  return pull;
}
