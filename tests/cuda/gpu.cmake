# The tests of the ops for a GPU: kernels by nvcc, for sm_80 and sm_90a, without a warning, everywhere; the rest by the host's compiler, where a GPU is.
# SPDX-License-Identifier: Apache-2.0
set(gpu_objects "")
set(definitions $<TARGET_PROPERTY:golem::golem,INTERFACE_COMPILE_DEFINITIONS>)  # part of golem's ABI
foreach(part rows elements attention quantized)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/gpu_${part}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${golem_nvcc} -std=c++20 -O3 -Werror all-warnings -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a
      -I${golem_include} "$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>" -MMD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/cuda/${part}.cu -o ${object}
    DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cuda/${part}.cu DEPFILE ${object}.d VERBATIM COMMAND_EXPAND_LISTS)
  list(APPEND gpu_objects ${object})
endforeach()
find_program(golem_nvidia_smi nvidia-smi)
set(shows_gpu OFF)
if(golem_nvidia_smi)
  execute_process(COMMAND ${golem_nvidia_smi} -L RESULT_VARIABLE smi_status OUTPUT_VARIABLE smi_lists ERROR_QUIET)
  if(smi_status EQUAL 0 AND smi_lists MATCHES "GPU 0")
    set(shows_gpu ON)
  endif()
endif()
set(GOLEM_TEST_GPU ${shows_gpu} CACHE BOOL "build the tests that run on a GPU; without, their kernels alone")
if(NOT GOLEM_TEST_GPU)
  add_custom_target(gpu_kernels ALL DEPENDS ${gpu_objects})
  set_property(GLOBAL APPEND PROPERTY golem_left_out "the ops on a GPU: this machine shows none, and their kernels are compiled only (GOLEM_TEST_GPU=ON builds all)")
  return()
endif()
add_executable(test_gpu ${ops} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sampling.cpp ${gpu_objects})
target_include_directories(test_gpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(test_gpu PRIVATE GOLEM_TEST_GPU)
target_compile_options(test_gpu PRIVATE -O1 -Wall -Wextra -Wpedantic)
target_link_libraries(test_gpu PRIVATE golem::cuda Catch2::Catch2WithMain)
add_test(NAME "gpu/ops" COMMAND test_gpu)
set_tests_properties("gpu/ops" PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "no GPU: left out")
