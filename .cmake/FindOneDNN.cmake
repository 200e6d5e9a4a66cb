# Finds oneDNN's C header and shared library; sets OneDNN_FOUND, OneDNN_VERSION, OneDNN_THREADS (OMP, SEQ, TBB, ...), makes OneDNN::OneDNN.
# SPDX-License-Identifier: Apache-2.0

# Not oneDNN's own package: that of Debian ends the configuration where the OpenCL headers, which golem never needs, are missing.
find_path(OneDNN_INCLUDE_DIR dnnl.h)
find_library(OneDNN_LIBRARY dnnl)
mark_as_advanced(OneDNN_INCLUDE_DIR OneDNN_LIBRARY)

if(EXISTS "${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h")
  file(READ "${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h" OneDNN_version_header)
  string(REGEX MATCHALL "VERSION_(MAJOR|MINOR|PATCH) +[0-9]+" OneDNN_VERSION "${OneDNN_version_header}")
  list(TRANSFORM OneDNN_VERSION REPLACE "[^0-9]" "")
  list(JOIN OneDNN_VERSION . OneDNN_VERSION)
  file(STRINGS "${OneDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_config.h" OneDNN_THREADS REGEX "define DNNL_CPU_RUNTIME DNNL_RUNTIME_")
  string(REGEX REPLACE ".*DNNL_RUNTIME_" "" OneDNN_THREADS "${OneDNN_THREADS}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OneDNN REQUIRED_VARS OneDNN_LIBRARY OneDNN_INCLUDE_DIR VERSION_VAR OneDNN_VERSION)

if(OneDNN_FOUND AND NOT TARGET OneDNN::OneDNN)
  add_library(OneDNN::OneDNN UNKNOWN IMPORTED)
  set_target_properties(OneDNN::OneDNN PROPERTIES IMPORTED_LOCATION "${OneDNN_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${OneDNN_INCLUDE_DIR}")
endif()
