// no-sanitizer
// A program that brings its own malloc: its code cannot be told from the program's own, so nobody is taken over inside it.
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/all_code.hpp"
#include "tests/captured_errors.hpp"
#include "weft/thread.hpp"

extern "C" {
void* __libc_malloc(std::size_t);
void __libc_free(void*);
void* malloc(std::size_t size) { return __libc_malloc(size); }
void free(void* memory) { __libc_free(memory); }
}

TEST_CASE("takeover of all code is refused where malloc is linked into the program, and a sentence says so") {
  CHECK(!all_code_works());
  const captured_errors errors;
  int ran = 0;
  weft::run({.activations = weft::activations::all}, [&] {
    weft::thread other([&] { ++ran; });
    other.join();
  });
  CHECK(ran == 1);
  CHECK(errors.count("options::activations is all") == 1);
}
