// weft's mailboxes between kernel threads.
#include <weft/mailbox.hpp>
#include <weft/runtime.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mailbox_rows.hpp"
#include "weft_rows.hpp"

namespace bench {
namespace {

struct weft_between_kernel_threads {
  class mailbox {
   public:
    explicit mailbox(std::size_t capacity) : box_(capacity) {}
    void send(std::uint64_t value) { box_.send(value); }
    std::uint64_t receive() { return *box_.receive(); }

   private:
    weft::mailbox<std::uint64_t> box_;
  };
  template <class Body> static void run(Body body) { weft::run(body); }
};

}  // namespace

std::vector<row> weft_mailbox_rows() { return mailbox_rows<weft_between_kernel_threads>(); }

}  // namespace bench
