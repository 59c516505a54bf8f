# What weft is built on. Sets WEFT_DEPENDENCIES, in link order.
#
# The order is not taste. libunwind.so.8, as Debian builds it, exports _Unwind_RaiseException and its family. A program that
# finds it before libgcc_s takes its exceptions from there: pthread_exit crashes, exceptions can become uncatchable. The
# compiler puts -lgcc_s last, so weft names it once more, before -lunwind, and keeps the linker from dropping it.
# tests/unwinder_test.py proves it for static and shared builds.

find_package(Threads REQUIRED)
find_package(Boost REQUIRED COMPONENTS context)
find_package(PkgConfig REQUIRED)
pkg_check_modules(WEFT_LIBUNWIND REQUIRED IMPORTED_TARGET libunwind)
pkg_check_modules(WEFT_LIBURING REQUIRED IMPORTED_TARGET liburing)

# One item, so that nothing can be reordered into it or dropped from it.
set(WEFT_GCC_S_FIRST -Wl,--push-state,--no-as-needed,-lgcc_s,--pop-state)

# A program exports nothing by itself: what tools that are loaded into it look for is named.
set(WEFT_EXPORT_FOR_TOOLS -Wl,--export-dynamic-symbol=weft_this_thread_for_tools)

set(WEFT_DEPENDENCIES
  Boost::context
  ${WEFT_GCC_S_FIRST}
  PkgConfig::WEFT_LIBUNWIND
  PkgConfig::WEFT_LIBURING
  Threads::Threads
  ${CMAKE_DL_LIBS})
