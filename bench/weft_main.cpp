// weft itself, measured.
#include "program.hpp"
#include "weft_rows.hpp"

int main(int argc, char** argv) {
  return bench::run_row(argc, argv,
                        {bench::weft_thread_rows(), bench::weft_policy_rows(), bench::weft_mailbox_rows(),
                         bench::weft_blocking_rows(), bench::weft_io_rows()});
}
