// cuBLASLt on the host: products by plain double loops, with the epilogues that golem asks for.
// SPDX-License-Identifier: Apache-2.0
#include <cublasLt.h>

#include <cstring>
#include <stdexcept>

#include "golem/core/number.hpp"
#include "simt/runtime.hpp"
#include "simt/simt.hpp"

namespace {

struct Operation {
  cublasComputeType_t sums = CUBLAS_COMPUTE_32F;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;
  int bias_type = -1;  // a cudaDataType_t; -1: that of the result
};

struct Layout {
  cudaDataType_t type = CUDA_R_32F;
  std::uint64_t rows = 0, columns = 0;
  std::int64_t step = 0;
};

/// What may add up the parts of a sum that several blocks make.
struct Preference {
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
};

static_assert(sizeof(Operation) <= sizeof(cublasLtMatmulDescOpaque_t) && sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));

template <class Value, class Opaque>
Value& open(Opaque* object) {
  return *reinterpret_cast<Value*>(object);
}

double read(const void* memory, cudaDataType_t type, std::int64_t i) {
  switch (type) {
    case CUDA_R_64F: return static_cast<const double*>(memory)[i];
    case CUDA_R_32F: return static_cast<const float*>(memory)[i];
    case CUDA_R_16F: return static_cast<double>(static_cast<const golem::float16*>(memory)[i]);
    case CUDA_R_16BF: return static_cast<double>(static_cast<const golem::bfloat16*>(memory)[i]);
    default: throw std::runtime_error("cuBLASLt on the host was given a type that it does not know");
  }
}

void write(void* memory, cudaDataType_t type, std::int64_t i, double value) {
  switch (type) {
    case CUDA_R_64F: static_cast<double*>(memory)[i] = value; break;
    case CUDA_R_32F: static_cast<float*>(memory)[i] = static_cast<float>(value); break;
    case CUDA_R_16F: static_cast<golem::float16*>(memory)[i] = golem::float16(static_cast<float>(value)); break;
    case CUDA_R_16BF: static_cast<golem::bfloat16*>(memory)[i] = golem::bfloat16(static_cast<float>(value)); break;
    default: throw std::runtime_error("cuBLASLt on the host was given a type that it does not know");
  }
}

double rounded(double value, cudaDataType_t type) {
  double stored = 0;
  write(&stored, type, 0, value);
  return read(&stored, type, 0);
}

struct Product {
  Operation operation;
  Layout a, b, c;  // d lies as c
  const void *a_data, *b_data, *c_data;
  void* d_data;
  double alpha, beta;
  bool rounds_parts;  // two parts of each sum are added in c's type

  /// As cuBLASLt 13.1 does on an H200.
  bool rounds_before_bias() const {
    const auto odd = [](const Layout& matrix) { return (matrix.type == CUDA_R_16F || matrix.type == CUDA_R_16BF) && matrix.step % 8 != 0; };
    return operation.epilogue == CUBLASLT_EPILOGUE_BIAS && (odd(a) || odd(c));
  }

  void run() const {
    const bool at = operation.a == CUBLAS_OP_T, bt = operation.b == CUBLAS_OP_T;
    const auto m = static_cast<std::int64_t>(c.rows), n = static_cast<std::int64_t>(c.columns), k = static_cast<std::int64_t>(at ? a.rows : a.columns);
    if (static_cast<std::int64_t>(at ? a.columns : a.rows) != m || static_cast<std::int64_t>(bt ? b.rows : b.columns) != n || static_cast<std::int64_t>(bt ? b.columns : b.rows) != k)
      throw std::runtime_error("cuBLASLt on the host was given matrices that do not fit");
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = 0; i < m; ++i) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) {
          if (rounds_parts && l == k / 2) sum = rounded(sum, c.type);
          sum += read(a_data, a.type, at ? l + i * a.step : i + l * a.step) * read(b_data, b.type, bt ? j + l * b.step : l + j * b.step);
        }
        sum *= alpha;
        if (rounds_before_bias()) sum = rounded(sum, c.type);
        if (beta != 0) sum += beta * read(c_data, c.type, i + j * c.step);
        if (operation.epilogue == CUBLASLT_EPILOGUE_BIAS && reinterpret_cast<std::uintptr_t>(operation.bias) % 16) throw std::runtime_error("cuBLASLt on the host may read the bias in vectors of 16 bytes");
        if (operation.epilogue == CUBLASLT_EPILOGUE_BIAS) sum += read(operation.bias, operation.bias_type == -1 ? c.type : static_cast<cudaDataType_t>(operation.bias_type), i);
        write(d_data, c.type, i + j * c.step, sum);
      }
  }
};

}  // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (simt::machine().fail_call == "cublasLtCreate") return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = reinterpret_cast<cublasLtHandle_t>(new int);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete reinterpret_cast<int*>(handle);
  return CUBLAS_STATUS_SUCCESS;
}
std::size_t cublasLtGetVersion() { return simt::machine().lt_version; }
const char* cublasLtGetStatusName(cublasStatus_t) { return "CUBLAS_STATUS"; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "the host's cuBLASLt was told to fail"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t sums, cudaDataType_t) {
  *operation = new cublasLtMatmulDescOpaque_t;
  open<Operation>(*operation) = {};
  open<Operation>(*operation).sums = sums;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t object, cublasLtMatmulDescAttributes_t attribute, const void* value, std::size_t bytes) {
  auto& operation = open<Operation>(object);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: std::memcpy(&operation.a, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: std::memcpy(&operation.b, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: std::memcpy(&operation.epilogue, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: std::memcpy(&operation.bias, value, bytes); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: std::memcpy(&operation.bias_type, value, bytes); break;
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows, std::uint64_t columns, std::int64_t step) {
  *layout = new cublasLtMatrixLayoutOpaque_t;
  open<Layout>(*layout) = {type, rows, columns, step};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  open<Preference>(*preference) = {};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const void* value, std::size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) std::memcpy(&open<Preference>(preference).reductions, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t preference, int most, cublasLtMatmulHeuristicResult_t results[], int* found) {
  ++simt::counts().heuristics;
  if (simt::fails("cublasLtMatmulAlgoGetHeuristic")) return CUBLAS_STATUS_ALLOC_FAILED;
  *found = 0;
  if (!simt::machine().lt_epilogues && open<Operation>(operation).epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (open<Operation>(operation).epilogue != CUBLASLT_EPILOGUE_DEFAULT && open<Layout>(a).type != open<Layout>(c).type) return CUBLAS_STATUS_INVALID_VALUE;  // as cuBLASLt 13.1 does on an H200
  for (; *found < most && (*found == 0 || static_cast<std::size_t>(*found) < simt::machine().lt_milliseconds.size()); ++*found) {
    results[*found] = {};
    results[*found].workspaceSize = open<Operation>(operation).epilogue == CUBLASLT_EPILOGUE_DEFAULT ? 2048 : 1024;  // so that tensor ranks need different ones
    results[*found].algo.data[0] = (open<Preference>(preference).reductions & (CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE)) != 0;
    results[*found].algo.data[1] = static_cast<std::uint64_t>(*found);
    if (const auto number = static_cast<std::size_t>(*found); number < simt::machine().lt_workspaces.size()) results[*found].workspaceSize = simt::machine().lt_workspaces[number];
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute, void* value, std::size_t bytes, std::size_t*) {
  if (attribute != CUBLASLT_ALGO_CONFIG_TILE_ID || bytes != sizeof(std::uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  const auto number = static_cast<std::size_t>(algorithm->data[1]);
  const auto tile = static_cast<std::uint32_t>(number < simt::machine().lt_tiles.size() ? simt::machine().lt_tiles[number] : 0);
  std::memcpy(value, &tile, sizeof tile);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, std::size_t workspace_bytes, cudaStream_t stream) {
  if (workspace_bytes > 0 && workspace == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  ++simt::counts().products;
  const bool wide = open<Operation>(operation).sums == CUBLAS_COMPUTE_64F;
  const auto number = [wide](const void* value) { return wide ? *static_cast<const double*>(value) : static_cast<double>(*static_cast<const float*>(value)); };
  const Product product{open<Operation>(operation), open<Layout>(a_layout), open<Layout>(b_layout), open<Layout>(c_layout), a, b, c, d, number(alpha), number(beta), algorithm->data[0] != 0};
  simt::enqueue([product, workspace, workspace_bytes, number = algorithm->data[1]] {
    if (workspace_bytes > 0) std::memset(workspace, 0xff, workspace_bytes);
    product.run();
    simt::counts().milliseconds = simt::counts().milliseconds + (simt::machine().lt_milliseconds.empty() ? 0 : simt::machine().lt_milliseconds.at(number));
    simt::counts().last_algorithm = number;
  }, stream);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
