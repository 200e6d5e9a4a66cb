// MPI's status codes as errors, its names for golem's types, and the reductions that it lacks.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <climits>
#include <cstdint>

#include "golem/comm/communicator.hpp"
#include "golem/comm/reduction.hpp"
#include "golem/core/error.hpp"

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
  require(count <= INT_MAX, "a transfer of ", count, " elements from one rank is more than MPI's ", INT_MAX, ": cut it in pieces");
  return static_cast<int>(count);
}

/// How a type travels. The 16-bit types are unknown to MPI and travel as integers; they are not reduced as such.
inline MPI_Datatype mpi_type(DType type) {
  switch (type) {
    case DType::f64: return MPI_DOUBLE;
    case DType::f32: return MPI_FLOAT;
    case DType::f16:
    case DType::bf16: return MPI_UINT16_T;
    case DType::i64: return MPI_INT64_T;
    case DType::i32: return MPI_INT32_T;
    case DType::i8: return MPI_INT8_T;
    case DType::u8: break;
  }
  return MPI_UINT8_T;
}

/// MPI's sum; and a maximum that keeps a NaN, as golem's other ways of communicating do.
class MpiReductions {
 public:
  MpiReductions() { mpi_check(MPI_Op_create(&larger, 1, &max_), "make an operation"); }
  /// MPI must be up still.
  ~MpiReductions() { MPI_Op_free(&max_); }
  MpiReductions(const MpiReductions&) = delete;
  MpiReductions& operator=(const MpiReductions&) = delete;

  MPI_Op of(Reduce how, DType type) const {
    if (how == Reduce::sum) return MPI_SUM;
    return type == DType::f32 || type == DType::f64 ? max_ : MPI_MAX;
  }

 private:
  static void larger(void* in, void* in_out, int* count, MPI_Datatype* type) {
    if (*type == MPI_DOUBLE) keep_larger(static_cast<const double*>(in), static_cast<double*>(in_out), *count);
    else keep_larger(static_cast<const float*>(in), static_cast<float*>(in_out), *count);
  }
  template <class T>
  static void keep_larger(const T* in, T* in_out, int count) {
    for (int i = 0; i < count; ++i) in_out[i] = reduced(in[i], in_out[i], Reduce::max);
  }

  MPI_Op max_ = MPI_OP_NULL;
};

}  // namespace golem
