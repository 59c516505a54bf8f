#include "galaxy.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <random>

namespace {

constexpr double half_width = 4;  // the square that is divided: from -4 to 4; who flies out counts as on its edge
constexpr unsigned levels = 15;   // of division, at most
constexpr double step_of_time = 0.002;

std::uint64_t spread(std::uint64_t bits) {
  std::uint64_t out = 0;
  for (unsigned i = 0; i < levels; ++i) out |= ((bits >> i) & 1) << (2 * i);
  return out;
}

// The path from the root to a place, two bits a level: sorted by it, the bodies of any cell stand together.
std::uint64_t path_to(vector2 place) {
  const auto grid = [](double at) {
    constexpr double most = (1U << levels) - 1;
    return static_cast<std::uint64_t>(std::clamp((at + half_width) / (2 * half_width) * (most + 1), 0.0, most));
  };
  return spread(grid(place.x)) | (spread(grid(place.y)) << 1);
}

struct range {
  std::size_t begin;
  std::size_t end;
  unsigned level;
};

// Appends those quarters of the cell `parent` that are not empty.
void divide(range parent, const std::vector<std::uint64_t>& paths, std::vector<range>& ranges) {
  const unsigned shift = 2 * (levels - parent.level - 1);
  for (std::size_t begin = parent.begin; begin < parent.end;) {
    std::size_t end = begin;
    while (end < parent.end && paths[end] >> shift == paths[begin] >> shift) ++end;
    ranges.push_back({begin, end, parent.level + 1});
    begin = end;
  }
}

template <class T> void reorder(std::vector<T>& values, const std::vector<std::size_t>& order) {
  std::vector<T> sorted;
  sorted.reserve(values.size());
  for (const std::size_t from : order) sorted.push_back(values[from]);
  values.swap(sorted);
}

}  // namespace

// A disk, denser within, whose bodies circle the middle.
galaxy::galaxy(std::size_t bodies, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto fraction = [&random] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  for (std::size_t i = 0; i < bodies; ++i) {
    const double radius = 0.1 + 2.5 * std::pow(fraction(), 0.7);
    const double angle = 2 * std::numbers::pi * fraction();
    const double speed = std::sqrt(std::min(radius, 1.0));
    places_.push_back({radius * std::cos(angle), radius * std::sin(angle)});
    speeds_.push_back({-speed * std::sin(angle), speed * std::cos(angle)});
  }
  make_tree();
}

void galaxy::move(const std::vector<vector2>& accelerations) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    speeds_[i].x += step_of_time * accelerations[i].x;
    speeds_[i].y += step_of_time * accelerations[i].y;
    places_[i].x += step_of_time * speeds_[i].x;
    places_[i].y += step_of_time * speeds_[i].y;
  }
  make_tree();
}

void galaxy::make_tree() {
  const std::vector<std::uint64_t> paths = sort_by_path();
  // Level by level: `ranges[n]` are the bodies of cell n, and its children are appended when its turn comes.
  std::vector<range> ranges{{0, paths.size(), 0}};
  cells_.clear();
  for (std::size_t n = 0; n < ranges.size(); ++n) {
    const range mine = ranges[n];
    cell made;
    made.width = std::ldexp(2 * half_width, -static_cast<int>(mine.level));
    made.first_child = static_cast<std::uint32_t>(ranges.size());
    if (mine.end - mine.begin > 1 && mine.level < levels) divide(mine, paths, ranges);
    made.children = static_cast<std::uint32_t>(ranges.size()) - made.first_child;
    for (std::size_t i = mine.begin; made.children == 0 && i < mine.end; ++i) {
      made.mass += 1.0 / static_cast<double>(places_.size());
      made.centre.x += places_[i].x / static_cast<double>(mine.end - mine.begin);
      made.centre.y += places_[i].y / static_cast<double>(mine.end - mine.begin);
    }
    cells_.push_back(made);
  }
  sum_up();
}

// @returns the path of each body in its new order.
std::vector<std::uint64_t> galaxy::sort_by_path() {
  std::vector<std::uint64_t> paths;
  for (const vector2 place : places_) paths.push_back(path_to(place));
  std::vector<std::size_t> order(paths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return paths[a] < paths[b]; });
  reorder(places_, order);
  reorder(speeds_, order);
  reorder(paths, order);
  return paths;
}

// Children come after their parents, so from the last to the first each finds its children done.
void galaxy::sum_up() noexcept {
  for (std::size_t n = cells_.size(); n-- > 0;) {
    cell& parent = cells_[n];
    for (std::uint32_t i = 0; i < parent.children; ++i) {
      const cell& child = cells_[parent.first_child + i];
      parent.mass += child.mass;
      parent.centre.x += child.mass * child.centre.x;
      parent.centre.y += child.mass * child.centre.y;
    }
    if (parent.children == 0) continue;
    parent.centre.x /= parent.mass;
    parent.centre.y /= parent.mass;
  }
}

std::uint64_t galaxy::fingerprint() const noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const vector2 place : places_) {
    for (const double value : {place.x, place.y}) {
      std::uint64_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      hash = (hash ^ bits) * 0x100000001b3;
    }
  }
  return hash;
}
