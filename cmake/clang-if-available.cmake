# A toolchain file: clang++ where it can link with ThreadSanitizer, otherwise the system's compiler.
#
# Why: gcc's ThreadSanitizer runtime stops at 8,128 user-level threads, clang's does not. -DCMAKE_CXX_COMPILER=… wins.
find_program(WEFT_CLANG clang++)
if(WEFT_CLANG AND NOT CMAKE_CXX_COMPILER)
  file(WRITE ${CMAKE_BINARY_DIR}/clang-if-available.cpp "#include <thread>\nint main() { std::thread([] {}).join(); }\n")
  execute_process(
    COMMAND ${WEFT_CLANG} -std=c++20 -fsanitize=thread clang-if-available.cpp -o clang-if-available
    WORKING_DIRECTORY ${CMAKE_BINARY_DIR} RESULT_VARIABLE weft_clang_result OUTPUT_QUIET ERROR_QUIET)
  if(weft_clang_result EQUAL 0)
    set(CMAKE_CXX_COMPILER ${WEFT_CLANG})
  endif()
endif()
