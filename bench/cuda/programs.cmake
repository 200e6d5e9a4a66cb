# The benchmarks of the CUDA engine: each .cu is a program bench_cuda_<name>; nvcc is called as any other tool, so that no CUDA language is enabled.
# SPDX-License-Identifier: Apache-2.0
set(GOLEM_BENCH_ARCHITECTURES "80;90a" CACHE STRING "what nvcc compiles bench/cuda for")
set(gencode "")
foreach(architecture IN LISTS GOLEM_BENCH_ARCHITECTURES)
  list(APPEND gencode -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()
set(definitions $<TARGET_PROPERTY:golem::golem,INTERFACE_COMPILE_DEFINITIONS>)  # part of golem's ABI
set(folders $<FILTER:$<TARGET_PROPERTY:benchmark::benchmark,INTERFACE_INCLUDE_DIRECTORIES>,EXCLUDE,^/usr/include$>)
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/*.cu)
foreach(source IN LISTS sources)
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda_${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${golem_nvcc} -std=c++20 -O3 -Werror all-warnings ${gencode}
      "$<$<BOOL:${OpenMP_CXX_FLAGS}>:-Xcompiler=${OpenMP_CXX_FLAGS}>" -I${golem_include}
      "$<$<BOOL:${folders}>:-isystem;$<JOIN:${folders},;-isystem;>>" "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
      -MMD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d VERBATIM COMMAND_EXPAND_LISTS)
  add_executable(bench_cuda_${name} ${object})
  set_target_properties(bench_cuda_${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(bench_cuda_${name} PRIVATE golem::cuda benchmark::benchmark)
endforeach()
