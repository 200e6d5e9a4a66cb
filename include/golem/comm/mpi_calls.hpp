// MPI's status codes as errors, and its names for golem's types.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <climits>
#include <cstdint>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// MPI refused or gave up; most often because another rank has died.
class MpiError : public Error {
 public:
  using Error::Error;
};

/// Throws MpiError with MPI's own words unless `code` is success.
template <class... Parts>
void mpi_check(int code, const Parts&... what) {
  if (code == MPI_SUCCESS) return;
  char words[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, words, &length);
  throw MpiError(sentence("MPI could not ", what..., ": ", static_cast<const char*>(words)));
}

/// MPI counts in int.
inline int mpi_count(std::int64_t count) {
  require(count <= INT_MAX, "a transfer of ", count, " elements from one rank is more than MPI's ", INT_MAX, ": transfer it in several calls, or, where a trainer does it, lower TrainingConfig::micro_batch or raise Layout::tp");
  return static_cast<int>(count);
}

/// How a type travels. The 16-bit types are unknown to MPI and travel as integers.
inline MPI_Datatype mpi_type(DType type) {
  switch (type) {
    case DType::f64:
      return MPI_DOUBLE;
    case DType::f32:
      return MPI_FLOAT;
    case DType::f16:
    case DType::bf16:
      return MPI_UINT16_T;
    case DType::i64:
      return MPI_INT64_T;
    case DType::i32:
      return MPI_INT32_T;
    case DType::i8:
      return MPI_INT8_T;
    case DType::u8:
      break;
  }
  return MPI_UINT8_T;
}

}  // namespace golem
