#include "weft/channel.hpp"

#include "sched/report.hpp"

namespace weft {

channel_closed::channel_closed()
    : std::system_error(std::make_error_code(std::errc::broken_pipe), "channel::send: the channel is closed") {}

namespace detail {

void throw_channel_closed() { throw channel_closed(); }

void channel_destroyed_in_use() noexcept {
  sched::fatal("weft: a channel was destroyed while threads wait on it; close it and join them first");
}

}  // namespace detail
}  // namespace weft
