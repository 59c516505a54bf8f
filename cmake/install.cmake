# cmake --install: headers, library, weftConfig.cmake for find_package(weft) and weft.pc for pkg-config.
# Both find everything relative to themselves, so an installed tree may be moved.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(weft_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weft)
set(weft_installed weft)
if(TARGET weft_lock_check)
  list(APPEND weft_installed weft_lock_check)
endif()
install(TARGETS ${weft_installed} EXPORT weftTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/weft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT weftTargets NAMESPACE weft:: DESTINATION ${weft_cmake_dir})

configure_package_config_file(cmake/weftConfig.cmake.in weftConfig.cmake INSTALL_DESTINATION ${weft_cmake_dir})
write_basic_package_version_file(weftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/weftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/weftConfigVersion.cmake
  DESTINATION ${weft_cmake_dir})

# A shared weft brings its own dependencies; a static one leaves them to the program's link line, in our order: pkg-config
# prints the Libs of a package before those of what it requires.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(weft_pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH weft_pc_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" weft_pc_up "${weft_pc_up}")
  set(weft_pc_prefix "\${pcfiledir}/${weft_pc_up}")
endif()
string(JOIN " " weft_pc_sanitize ${WEFT_SANITIZE_FLAGS})
if(BUILD_SHARED_LIBS)
  set(weft_pc_requires "")
  set(weft_pc_libs "")
else()
  set(weft_pc_requires "libunwind liburing")
  set(weft_pc_libs "-lboost_context ${WEFT_GCC_S_FIRST} -pthread -ldl ${WEFT_EXPORT_FOR_TOOLS}")
endif()
configure_file(cmake/weft.pc.in weft.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/weft.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
