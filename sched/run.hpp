// A scheduler from its making to its end, for weft::run and for those that begin together.
#pragma once

#include <functional>

#include "sched/inbox.hpp"
#include "weft/runtime.hpp"

namespace weft::sched {

class scheduler;

/// Runs a scheduler on the calling kernel thread. `ready` is called when everything is there and nothing has run; what it throws
/// leaves as it is, and `main` does not run. `asked_by` begins the sentences. @throws as weft::run
void run_scheduler(const char* asked_by, const options& how, detail::start_block* main,
                   const std::function<void(scheduler&)>& ready);
/// @throws std::system_error(operation_not_permitted) when the calling kernel thread runs a scheduler
void refuse_inside_run(const char* asked_by);

/// What a post does that asks a scheduler's main thread to end. `asked_by` as above.
void end_main_of_caller(const char* asked_by);

/// A way into the scheduler that has this inbox. @throws std::bad_alloc
[[nodiscard]] poster poster_to(const std::shared_ptr<inbox>& to);

}  // namespace weft::sched
