// cuBLASLt as golem calls it: every call of the library, checked, and its descriptors as values that clean up.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/cuda/runtime.hpp"

namespace golem::cuda::blas {

/// Throws Error unless `status` is success. `parts`: what was attempted, after "cuBLASLt could not".
template <class... Parts>
void check(cublasStatus_t status, const Parts&... parts) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]] return;
  fail("cuBLASLt could not ", parts..., ": ", std::string_view(cublasLtGetStatusString(status)), " (", std::string_view(cublasLtGetStatusName(status)), ")");
}

/// "13.0.2" for 130002; of the header, and of the library that was loaded.
inline std::string version_text(std::size_t version) { return sentence(version / 10000, '.', version / 100 % 100, '.', version % 100); }
inline std::string header_version() { return version_text(CUBLAS_VERSION); }
inline std::string library_version() { return version_text(cublasLtGetVersion()); }

constexpr cudaDataType_t data_type(DType type) {
  switch (type) {
    case DType::f64: return CUDA_R_64F;
    case DType::f32: return CUDA_R_32F;
    case DType::f16: return CUDA_R_16F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::i32: return CUDA_R_32I;
    case DType::i8: return CUDA_R_8I;
    case DType::u8: return CUDA_R_8U;
    case DType::i64: return CUDA_R_64I;
  }
  return CUDA_R_32F;
}

/// What owns one object of the library. Move-only.
template <class Object, auto destroy>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Object object) : object_(object) {}
  Owned(Owned&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Owned() {
    if (object_) destroy(object_);  // nothing could be done about a failure here
  }
  Object get() const { return object_; }

 private:
  Object object_ = nullptr;
};

using Handle = Owned<cublasLtHandle_t, cublasLtDestroy>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

inline Handle create_handle() {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "start");
  return Handle(handle);
}

/// A product whose sums are held in `sums`; alpha and beta are of that type and read from the host.
inline Operation create_operation(DType sums) {
  cublasLtMatmulDesc_t operation = nullptr;
  const bool wide = sums == DType::f64;
  check(cublasLtMatmulDescCreate(&operation, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F, wide ? CUDA_R_64F : CUDA_R_32F), "describe a product");
  return Operation(operation);
}

template <class Value>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const Value& value) {
  check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value), "set attribute ", static_cast<int>(attribute), " of a product");
}

/// A column-major matrix, as the library sees it.
inline Layout create_layout(DType type, std::int64_t rows, std::int64_t columns, std::int64_t step) {
  cublasLtMatrixLayout_t layout = nullptr;
  check(cublasLtMatrixLayoutCreate(&layout, data_type(type), static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), step), "describe a matrix of ", rows, " x ", columns);
  return Layout(layout);
}

inline Preference create_preference(std::size_t workspace_bytes) {
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "describe a preference");
  Preference owned(preference);
  check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes, sizeof workspace_bytes), "limit its workspace to ", workspace_bytes, " bytes");
  const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;  // parts of a sum are not rounded to the result's type
  check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions), "have sums added up in the type that they are computed in");
  return owned;
}

/// The addresses that an algorithm may count on are multiples of `bytes`.
inline void set_alignment(const Preference& preference, std::uint32_t bytes) {
  for (const auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &bytes, sizeof bytes), "set the alignment of matrices to ", bytes);
}

struct Algorithm {  // named: nvcc 13.0 crashes on containers of the library's own unnamed structs
  cublasLtMatmulAlgo_t choice;
  std::size_t workspace_bytes;
};

inline constexpr int most_proposals = 8;  // that find_algorithms asks for

/// The first `count` algorithms that the library proposes, of most_proposals at most; none where it has none for this product, which it says by `none`, too.
inline std::vector<Algorithm> find_algorithms(const Handle& handle, const Operation& operation, const Layout& a, const Layout& b, const Layout& c, const Preference& preference, cublasStatus_t none,
                                              int count) {
  count = count < most_proposals ? count : most_proposals;
  cublasLtMatmulHeuristicResult_t results[most_proposals]{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle.get(), operation.get(), a.get(), b.get(), c.get(), c.get(), preference.get(), count, results, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == none) return {};
  check(status, "choose an algorithm");
  std::vector<Algorithm> algorithms;
  for (int i = 0; i < found; ++i)
    if (results[i].state == CUBLAS_STATUS_SUCCESS) algorithms.push_back({results[i].algo, results[i].workspaceSize});
  return algorithms;
}

/// The tile of results that a block makes.
inline cublasLtMatmulTile_t tile_of(const Algorithm& algorithm) {
  std::uint32_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;
  std::size_t written = 0;
  check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm.choice, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &written), "tell the tile of an algorithm");
  return static_cast<cublasLtMatmulTile_t>(tile);
}

/// d = alpha a b + beta c, in column-major terms; d may be c.
struct Operands {
  const void* a;
  const void* b;
  const void* c;
  void* d;
  double alpha, beta;
};

inline void multiply(const Handle& handle, const Operation& operation, const Operands& x, const Layout& a, const Layout& b, const Layout& c, DType sums, const Algorithm& algorithm,
                     void* workspace, cudaStream_t stream) {
  const float narrow[]{static_cast<float>(x.alpha), static_cast<float>(x.beta)};
  const void* alpha = sums == DType::f64 ? static_cast<const void*>(&x.alpha) : &narrow[0];
  const void* beta = sums == DType::f64 ? static_cast<const void*>(&x.beta) : &narrow[1];
  check(cublasLtMatmul(handle.get(), operation.get(), alpha, x.a, a.get(), x.b, b.get(), beta, x.c, c.get(), x.d, c.get(), &algorithm.choice, workspace, algorithm.workspace_bytes, stream),
        "multiply");
}

}  // namespace golem::cuda::blas
