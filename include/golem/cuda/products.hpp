// Products: the matrix products of a device, planned once for each shape and never again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "golem/config/hardware.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/cuda/blas.hpp"
#include "golem/cuda/device.hpp"

namespace golem::cuda {

enum class Order : std::uint8_t { plain, transposed };
enum class Epilogue : std::uint8_t { nothing, bias };

/// c (m, n) = a (m, k) b (k, n), column-major; where an operand is transposed, it lies in memory as (k, m) or (n, k).
struct ProductShape {
  std::int64_t m = 0, n = 0, k = 0;
  DType input = DType::f32, output = DType::f32;  // of a and b; of c
  Order a = Order::plain, b = Order::plain;
  Epilogue epilogue = Epilogue::nothing;  // a bias (m) of the inputs' type, added to each column

  friend auto operator<=>(const ProductShape&, const ProductShape&) = default;
};

inline namespace GOLEM_ABI {

/// Kept by the device for as long as it lives.
class Products {
 public:
  Products() : handle_(blas::create_handle()) {}

  static Products& of(Device& device) {
    if (!device.products()) device.products() = std::make_shared<Products>();
    return *device.products();
  }

  /// c = a b + bias + beta c. False where the library has no algorithm with such an epilogue; without one that is an Error.
  bool multiply(Device& device, const ProductShape& shape, const void* a, const void* b, void* c, const void* bias, double beta) {
    if (shape.epilogue == Epilogue::bias && reinterpret_cast<std::uintptr_t>(bias) % 16) return false;  // cuBLASLt is told the alignment of operands alone
    Plan& plan = plan_for(shape, alignment_of(a, b, c));
    if (!plan.algorithm) {
      if (shape.epilogue != Epilogue::nothing) return false;
      fail("cuBLASLt has no algorithm for ", shape.m, " x ", shape.n, " x ", shape.k, ", ", name_of(shape.input), " to ", name_of(shape.output), ", on ", std::string_view(device.name()),
           ": use other sizes, or another precision");
    }
    if (shape.epilogue == Epilogue::bias) blas::set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    std::byte* workspace = device.workspace<std::byte>(static_cast<std::int64_t>(plan.algorithm->workspace_bytes));
    blas::multiply(handle_, plan.operation, {a, b, c, 1.0, beta}, plan.a, plan.b, plan.c, sums_of(shape), *plan.algorithm, workspace, device.stream());
    return true;
  }

  std::size_t plans() const { return plans_.size(); }

 private:
  struct Key {
    ProductShape shape;
    std::uint32_t alignment = 0;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Plan {
    blas::Operation operation;
    blas::Layout a, b, c;
    std::optional<blas::Algorithm> algorithm;
  };

  static DType sums_of(const ProductShape& shape) { return shape.input == DType::f64 ? DType::f64 : DType::f32; }

  /// The largest power of two up to 16 that divides all three addresses.
  static std::uint32_t alignment_of(const void* a, const void* b, const void* c) {
    const auto bits = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) | reinterpret_cast<std::uintptr_t>(c) | 16;
    return static_cast<std::uint32_t>(bits & -bits);
  }

  Plan& plan_for(const ProductShape& shape, std::uint32_t alignment) {
    if (const auto known = plans_.find({shape, alignment}); known != plans_.end()) return known->second;
    Plan plan;  // which is kept once it is whole
    const bool a_transposed = shape.a == Order::transposed, b_transposed = shape.b == Order::transposed;
    plan.operation = blas::create_operation(sums_of(shape));
    blas::set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    blas::set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (shape.epilogue == Epilogue::bias) {
      blas::set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      if (shape.input != shape.output) blas::set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, blas::data_type(shape.input));
    }
    plan.a = a_transposed ? blas::create_layout(shape.input, shape.k, shape.m, shape.k) : blas::create_layout(shape.input, shape.m, shape.k, shape.m);
    plan.b = b_transposed ? blas::create_layout(shape.input, shape.n, shape.k, shape.n) : blas::create_layout(shape.input, shape.k, shape.n, shape.k);
    plan.c = blas::create_layout(shape.output, shape.m, shape.n, shape.m);
    const blas::Preference preference = blas::create_preference(static_cast<std::size_t>(workspace_bytes));
    blas::set_alignment(preference, alignment);
    // A bias of a type that it does not add is an invalid value to cuBLASLt 13.1.
    plan.algorithm = blas::find_algorithm(handle_, plan.operation, plan.a, plan.b, plan.c, preference, shape.epilogue == Epilogue::bias ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_NOT_SUPPORTED);
    return plans_.emplace(Key{shape, alignment}, std::move(plan)).first->second;
  }

  blas::Handle handle_;
  std::map<Key, Plan> plans_;
};

}  // namespace GOLEM_ABI
}  // namespace golem::cuda
