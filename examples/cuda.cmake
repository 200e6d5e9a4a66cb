# The example programs for GPUs: nvcc makes the object of the same source, where it and the CUDA toolkit are found.
# SPDX-License-Identifier: Apache-2.0
set(GOLEM_EXAMPLES_CUDA "doctor;custom_model" CACHE STRING "example programs that are built for GPUs too, as <name>_cuda: their names, ON for all, OFF for none")
set(GOLEM_EXAMPLES_CUDA_ARCHITECTURES "80;90a" CACHE STRING "what they are built for")
find_program(golem_nvcc nvcc HINTS ${CUDAToolkit_BIN_DIR} /usr/local/cuda/bin)
set(cuda_code "")
foreach(architecture IN LISTS GOLEM_EXAMPLES_CUDA_ARCHITECTURES)
  list(APPEND cuda_code -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()

# golem_add_cuda_example(name libraries...): examples/name.cpp as name_cuda, with golem::cuda, golem::nccl where it is, and these.
function(golem_add_cuda_example name)
  if(NOT GOLEM_EXAMPLES_CUDA OR (NOT GOLEM_EXAMPLES_CUDA STREQUAL ON AND NOT name IN_LIST GOLEM_EXAMPLES_CUDA))
    return()
  endif()
  set(why "")
  if(NOT TARGET golem::cuda)
    set(why "no golem::cuda")
  elseif(NOT golem_nvcc)
    set(why "no nvcc (CUDA toolkit)")
  endif()
  foreach(library IN LISTS ARGN)
    if(NOT TARGET ${library})
      set(why "no ${library}")
    endif()
  endforeach()
  if(why)
    set_property(GLOBAL APPEND PROPERTY golem_left_out "examples/${name}_cuda: ${why}")
    return()
  endif()
  string(REPLACE "," "\\," degrees "${cuda_tensor_degrees}")  # else nvcc takes it for two
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${name}_cuda.o)
  add_executable(${name}_cuda ${object})
  set_target_properties(${name}_cuda PROPERTIES LINKER_LANGUAGE CXX)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  target_link_libraries(${name}_cuda PRIVATE golem::cuda $<TARGET_NAME_IF_EXISTS:golem::nccl> ${ARGN})
  target_compile_definitions(${name}_cuda PRIVATE GOLEM_EXAMPLES_CUDA=1 "GOLEM_EXAMPLES_TP=${degrees}" $<$<TARGET_EXISTS:golem::nccl>:GOLEM_EXAMPLES_NCCL=1>)
  if(TARGET golem::mpi AND name MATCHES "^(pretrain|glm130b_.*)$")
    target_link_libraries(${name}_cuda PRIVATE golem::mpi)
    target_compile_definitions(${name}_cuda PRIVATE GOLEM_EXAMPLES_MPI)
  endif()
  set(definitions $<TARGET_PROPERTY:${name}_cuda,COMPILE_DEFINITIONS>)
  set(folders $<TARGET_PROPERTY:${name}_cuda,INCLUDE_DIRECTORIES>)
  add_custom_command(OUTPUT ${object}
    COMMAND ${golem_nvcc} -std=c++20 -O3 -x cu ${cuda_code} "$<$<BOOL:${OpenMP_CXX_FLAGS}>:-Xcompiler=${OpenMP_CXX_FLAGS}>"
      "$<$<BOOL:${folders}>:-I$<JOIN:${folders},;-I>>" "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
      -MMD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cpp -o ${object}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cpp DEPFILE ${object}.d COMMENT "${name}_cuda by nvcc" VERBATIM COMMAND_EXPAND_LISTS)
endfunction()
