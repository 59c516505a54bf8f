// What the tests of policies share.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "tests/lock_test.hpp"
#include "tests/simulated_source.hpp"
#include "weft/policy.hpp"
#include "weft/thread.hpp"

/// Runs `fn` on the simulated source under a policy; returns what it said, word by word.
template <class Fn> std::string told(weft::policy_maker by, Fn fn) {
  simulated_source source(0);
  std::string story;
  const auto say = [&story](const std::string& word) { story += (story.empty() ? "" : " ") + word; };
  weft::run({.policy = std::move(by), .source = &source}, [&] { fn(say); });
  return story;
}
