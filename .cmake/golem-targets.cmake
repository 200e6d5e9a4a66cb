# The targets of golem: one text for the source tree and for an installed copy, so that the machine which builds decides.
# SPDX-License-Identifier: Apache-2.0

# In:  golem_include     the folder of the headers
#      golem_components  which of io, tokenizer, mpi are wanted
#      golem_scope       GLOBAL or nothing
# Out: golem_found, golem_not_found: lists, for a summary; the second says why, and what to do.
list(PREPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
set(golem_found "")
set(golem_not_found "")

if(NOT TARGET golem::golem)
  find_package(Threads REQUIRED)
  add_library(golem::golem INTERFACE IMPORTED ${golem_scope})
  target_include_directories(golem::golem INTERFACE ${golem_include})
  target_compile_features(golem::golem INTERFACE cxx_std_20)
  target_link_libraries(golem::golem INTERFACE Threads::Threads)

  find_package(OpenMP QUIET COMPONENTS CXX)
  if(TARGET OpenMP::OpenMP_CXX)
    target_link_libraries(golem::golem INTERFACE OpenMP::OpenMP_CXX)
    list(APPEND golem_found "OpenMP ${OpenMP_CXX_VERSION}")
  else()
    list(APPEND golem_not_found "OpenMP: this compiler has none, so the CPU engine runs on one thread")
  endif()

  if(DEFINED GOLEM_ONEDNN AND NOT GOLEM_ONEDNN)
    list(APPEND golem_not_found "oneDNN: GOLEM_ONEDNN is off, so golem's own loops do the dense products")
  else()
    find_package(OneDNN QUIET)
    if(OneDNN_FOUND AND (OneDNN_THREADS STREQUAL "SEQ" OR (OneDNN_THREADS STREQUAL "OMP" AND TARGET OpenMP::OpenMP_CXX)))
      target_compile_definitions(golem::golem INTERFACE GOLEM_ONEDNN=1)
      target_link_libraries(golem::golem INTERFACE OneDNN::OneDNN)
      list(APPEND golem_found "oneDNN ${OneDNN_VERSION}")
    elseif(OneDNN_FOUND)
      list(APPEND golem_not_found "oneDNN: its threads are of kind ${OneDNN_THREADS}, which golem here does not have, so golem's own loops do the dense products")
    else()
      list(APPEND golem_not_found "oneDNN: not found, so golem's own loops do the dense products (Debian: libdnnl-dev)")
    endif()
  endif()
endif()

if(io IN_LIST golem_components AND NOT TARGET golem::io)
  find_package(nlohmann_json QUIET)
  if(TARGET nlohmann_json::nlohmann_json)
    add_library(golem::io INTERFACE IMPORTED ${golem_scope})
    target_link_libraries(golem::io INTERFACE golem::golem nlohmann_json::nlohmann_json)
    list(APPEND golem_found "golem::io (nlohmann_json ${nlohmann_json_VERSION})")
  else()
    list(APPEND golem_not_found "golem::io, for checkpoints and logs: no nlohmann_json (Debian: nlohmann-json3-dev)")
  endif()
endif()

if(tokenizer IN_LIST golem_components AND NOT TARGET golem::tokenizer)
  find_package(SentencePiece QUIET)
  if(SentencePiece_FOUND)
    add_library(golem::tokenizer INTERFACE IMPORTED ${golem_scope})
    target_link_libraries(golem::tokenizer INTERFACE golem::golem SentencePiece::SentencePiece)
    list(APPEND golem_found "golem::tokenizer (SentencePiece)")
  else()
    list(APPEND golem_not_found "golem::tokenizer: no SentencePiece (Debian: libsentencepiece-dev)")
  endif()
endif()

if(mpi IN_LIST golem_components AND NOT TARGET golem::mpi)
  set(MPI_CXX_SKIP_MPICXX TRUE)  # golem calls MPI's C functions; its old C++ ones do not compile without warnings
  find_package(MPI QUIET COMPONENTS CXX)
  if(TARGET MPI::MPI_CXX)
    add_library(golem::mpi INTERFACE IMPORTED ${golem_scope})
    target_link_libraries(golem::mpi INTERFACE golem::golem MPI::MPI_CXX)
    list(APPEND golem_found "golem::mpi (MPI ${MPI_CXX_VERSION})")
  else()
    list(APPEND golem_not_found "golem::mpi, for ranks that are processes: no MPI (Debian: libopenmpi-dev, openmpi-bin)")
  endif()
endif()

list(REMOVE_ITEM CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
