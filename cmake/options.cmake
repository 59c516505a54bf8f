# The options of the build, and the flags of everything compiled in this tree.

include(CheckCXXCompilerFlag)

option(BUILD_SHARED_LIBS "Build libweft.so instead of libweft.a" OFF)
option(WEFT_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(WEFT_DEMOS "Build the demos" ${PROJECT_IS_TOP_LEVEL})
option(WEFT_BENCH "Build the benchmarks and their peers; weft's own are built with the tests, too" OFF)
option(WEFT_WERROR "Treat warnings as errors" OFF)

# The engine that resumes threads. Boost.Context makes and first enters every context with either.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(weft_native_default native)
else()
  set(weft_native_default boost)
endif()
set(WEFT_CONTEXT ${weft_native_default} CACHE STRING "The engine that switches threads: native (x86-64 only) or boost")
set_property(CACHE WEFT_CONTEXT PROPERTY STRINGS native boost)
if(NOT WEFT_CONTEXT MATCHES "^(native|boost)$")
  message(FATAL_ERROR "WEFT_CONTEXT is \"${WEFT_CONTEXT}\"; it must be native or boost")
endif()
if(WEFT_CONTEXT STREQUAL "native" AND NOT weft_native_default STREQUAL "native")
  message(FATAL_ERROR "WEFT_CONTEXT=native is written for x86-64; on ${CMAKE_SYSTEM_PROCESSOR} use boost")
endif()

set(WEFT_SANITIZE none CACHE STRING "none, address (AddressSanitizer and UndefinedBehaviorSanitizer) or thread")
set_property(CACHE WEFT_SANITIZE PROPERTY STRINGS none address thread)
if(WEFT_SANITIZE STREQUAL "none")
  set(WEFT_SANITIZE_FLAGS "")
elseif(WEFT_SANITIZE STREQUAL "address")
  set(WEFT_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(WEFT_SANITIZE STREQUAL "thread")
  set(WEFT_SANITIZE_FLAGS -fsanitize=thread -fno-omit-frame-pointer)
else()
  message(FATAL_ERROR "WEFT_SANITIZE is \"${WEFT_SANITIZE}\"; it must be none, address or thread")
endif()

# A large frame must not jump over a stack's guard: each page of it is touched in order.
check_cxx_compiler_flag(-fstack-clash-protection WEFT_HAS_STACK_CLASH_PROTECTION)

# weft_house(TARGET): warnings and flags of our own code, and includes from the project's root ("sched/scheduler.hpp").
# All of it is private: nothing here reaches a program that uses weft.
function(weft_house target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  target_include_directories(${target} PRIVATE ${weft_SOURCE_DIR})
  target_compile_definitions(${target} PRIVATE WEFT_CONTEXT_NATIVE=$<STREQUAL:${WEFT_CONTEXT},native>)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
    $<$<BOOL:${WEFT_WERROR}>:-Werror>
    $<$<BOOL:${WEFT_HAS_STACK_CLASH_PROTECTION}>:-fstack-clash-protection>)
endfunction()
