# Installs the headers, the CMake package and the pkg-config file; nothing in them depends on the machine.
# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package ${CMAKE_INSTALL_DATADIR}/cmake/golem)
configure_package_config_file(.cmake/golem-config.cmake.in golem-config.cmake INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(golem-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

set(pkgconfig ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH include_from_pkgconfig ${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(.cmake/golem.pc.in golem.pc @ONLY)

install(DIRECTORY include/golem DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_BINARY_DIR}/golem-config.cmake ${PROJECT_BINARY_DIR}/golem-config-version.cmake
  .cmake/golem-targets.cmake .cmake/FindNCCL.cmake .cmake/FindOneDNN.cmake .cmake/FindSentencePiece.cmake DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/golem.pc DESTINATION ${pkgconfig})
