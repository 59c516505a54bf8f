// What is said when a lock crosses threads.
#pragma once

#include "holders.hpp"

namespace weft::lock_check {

/// What the second thread did with the lock that the first one holds.
enum class crossing { entered, refused, unlocked };

/// Reports on standard error, once for each pair of threads; with WEFT_LOCK_CHECK=abort, ends the program then.
/// Allocates nothing.
void tell(crossing how, const char* kind, const holding& held, sighting& second) noexcept;

}  // namespace weft::lock_check
