// What tests of activations::all ask first.
#pragma once

#include <algorithm>
#include <string_view>

#include "weft/runtime.hpp"

inline constexpr std::string_view no_all_code = "takeover of all code is refused here (weft::probe says why)";

/// Whether this kernel, this user and this build let activations take over threads that wait in their own code.
inline bool all_code_works() {
  const weft::capabilities found = weft::probe();
  return std::any_of(found.items.begin(), found.items.end(),
                     [](const auto& i) { return i.what == "takeover of all code" && i.there; });
}
