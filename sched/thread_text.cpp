#include "sched/thread_text.hpp"

namespace weft::sched {

plain_text& operator<<(plain_text& text, const thread_record& t) noexcept {
  text << "thread " << t.number;
  const std::string_view name = t.name();
  if (!name.empty()) text << " \"" << name << "\"";
  return text;
}

std::string who(const thread_record& t) {
  if (t.state == thread_state::vacant) return "a thread that has ended";
  plain_text text;
  return std::string((text << t).view());
}

const char* state_text(thread_state state) noexcept {
  switch (state) {
    case thread_state::vacant:
      return "vacant";
    case thread_state::created:
      return "has not run yet";
    case thread_state::ready:
      return "ready";
    case thread_state::running:
      return "running";
    case thread_state::parked:
      return "parked";
    case thread_state::in_kernel:
      return "in kernel";
    case thread_state::away:
      return "in a blocking region";
    case thread_state::finished:
      return "has ended and waits to be joined";
  }
  return "in no known state";
}

std::string operation_text(const upcall::operation& request, std::string_view name) {
  const std::string text(name);
  if (request.code == upcall::opcode::open && request.address != nullptr) {
    return text + " of \"" + static_cast<const char*>(request.address) + "\"";
  }
  return text + " of descriptor " + std::to_string(request.fd);
}

std::string address_text(const void* address) {
  plain_text text;
  return std::string(text.hex(reinterpret_cast<std::uintptr_t>(address)).view());
}

std::string plural(std::size_t count, const char* word) { return std::to_string(count) + " " + word + (count == 1 ? "" : "s"); }

stack_bounds bounds_of(const thread_record& t) noexcept {
  stack_slot* const slot = t.extension->slot;
  return {reinterpret_cast<std::uintptr_t>(slot->lowest()), reinterpret_cast<std::uintptr_t>(slot->usable_top())};
}

const thread_record* running_thread() noexcept {
  const detail::scheduler_face& face = detail::this_scheduler_face();
  const thread_record* const current = face.current != nullptr ? face.current : face.away;
  return current == nullptr || current->number == 0 ? nullptr : current;  // 0: the activation's own stack
}

}  // namespace weft::sched
