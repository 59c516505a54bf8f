// A test that cannot run here says so: its case counts as skipped, with a reason in the output, never as passed in silence.
//
//   TEST_CASE("a page fault is an upcall") {
//     if (!userfaultfd_works()) return skip("userfaultfd is refused to this user");
//
// A program all of whose cases were skipped exits with 77, which ctest reports as a skipped test.
#pragma once

#include <string_view>

/// Marks the running test case as skipped and prints why. From the kernel thread that runs the test cases or from a weft
/// thread on it. The case should return after it; a check that fails before or after still fails the case.
void skip(std::string_view reason);
