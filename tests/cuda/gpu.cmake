# The tests of the ops for a GPU: kernels by nvcc, for sm_80 and sm_90a, without a warning; Catch2 by the host's compiler. Skipped where no GPU is.
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
add_executable(test_gpu ${ops} ${CMAKE_CURRENT_SOURCE_DIR}/cuda/sampling.cpp ${gpu_objects})
target_include_directories(test_gpu PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(test_gpu PRIVATE GOLEM_TEST_GPU)
target_compile_options(test_gpu PRIVATE -O1 -Wall -Wextra -Wpedantic)
target_link_libraries(test_gpu PRIVATE golem::cuda Catch2::Catch2WithMain)
add_test(NAME "gpu/ops" COMMAND test_gpu)
set_tests_properties("gpu/ops" PROPERTIES LABELS gpu SKIP_REGULAR_EXPRESSION "no GPU: left out")
