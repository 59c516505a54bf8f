# weft_system_call_names(FILE): writes the names of this machine's system calls, as the compiler's headers number them, to FILE:
# a line {NUMBER, "NAME"}, for each. upcall/system_call_name.cpp includes it.
function(weft_system_call_names file)
  file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/system_calls.cpp "#include <sys/syscall.h>\n")
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -dM -E ${CMAKE_BINARY_DIR}/CMakeFiles/system_calls.cpp
    OUTPUT_VARIABLE macros RESULT_VARIABLE failed)
  if(failed)
    message(FATAL_ERROR "the compiler cannot preprocess <sys/syscall.h>: ${failed}")
  endif()
  string(REGEX MATCHALL "#define __NR_[a-z0-9_]+ [0-9]+" definitions "${macros}")
  set(lines "")
  foreach(definition IN LISTS definitions)
    string(REGEX REPLACE "#define __NR_([a-z0-9_]+) ([0-9]+)" "{\\2, \"\\1\"},\n" line "${definition}")
    string(APPEND lines "${line}")
  endforeach()
  file(CONFIGURE OUTPUT ${file} CONTENT "${lines}" @ONLY)
endfunction()
