// Products: the matrix products of a device, planned once for each shape and never again.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "golem/config/hardware.hpp"
#include "golem/core/error.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"
#include "golem/cuda/blas.hpp"
#include "golem/cuda/device.hpp"
#include "golem/cuda/stopwatch.hpp"

namespace golem::cuda {

enum class Order : std::uint8_t { plain, transposed };
enum class Epilogue : std::uint8_t { nothing, bias };

/// c (m, n) = a (m, k) b (k, n), column-major; where an operand is transposed, it lies in memory as (k, m) or (n, k).
struct ProductShape {
  std::int64_t m = 0, n = 0, k = 0;
  DType input = DType::f32, output = DType::f32;  // of a and b; of c
  Order a = Order::plain, b = Order::plain;
  Epilogue epilogue = Epilogue::nothing;  // a bias (m) of the inputs' type, added to each column
  std::int64_t c_step = 0;                // from a column of c to the next, in elements; 0: m

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

  /// c = a b + bias + beta c. False where the library has no algorithm with such an epilogue; without one that is an Error. The first `kept` bytes of the device's
  /// workspace, which has workspace_bytes behind them, are left alone.
  bool multiply(Device& device, const ProductShape& shape, const void* a, const void* b, void* c, const void* bias, double beta, std::int64_t kept = 0) {
    if (shape.epilogue == Epilogue::bias && !adds_bias(shape, bias)) return false;
    Plan& plan = plan_for(device, shape, alignment_of(a, b, c));
    if (plan.algorithms.empty()) {
      if (shape.epilogue != Epilogue::nothing) return false;
      fail("cuBLASLt has no algorithm for ", shape.m, " x ", shape.n, " x ", shape.k, ", ", name_of(shape.input), " to ", name_of(shape.output), ", on ", std::string_view(device.name()),
           ": use other sizes, or another precision");
    }
    if (shape.epilogue == Epilogue::bias) blas::set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    const blas::Operands operands{.a = a, .b = b, .c = c, .d = c, .alpha = 1.0, .beta = beta};
    if (plan.algorithms.size() > 1 && !runtime::is_captured(device.stream())) keep_fastest(device, shape, plan, operands, kept);
    run(device, shape, plan, operands, plan.algorithms.front(), kept);
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
    std::vector<blas::Algorithm> algorithms;  // of which the first is taken; more than one: not tried yet
  };

  /// Whether the library is asked to add a bias. It is told the alignment of operands alone, not of the bias; and where rows of 16-bit operands are no multiples of 16 bytes, its
  /// kernels of version 13.1 round a product before they add the bias.
  static bool adds_bias(const ProductShape& shape, const void* bias) {
    const std::int64_t size = size_of(shape.input);
    return reinterpret_cast<std::uintptr_t>(bias) % 16 == 0 && (size > 2 || (step_of(shape) * size % 16 == 0 && shape.k * size % 16 == 0));
  }
  static std::int64_t step_of(const ProductShape& shape) { return shape.c_step ? shape.c_step : shape.m; }
  static DType sums_of(const ProductShape& shape) { return shape.input == DType::f64 ? DType::f64 : DType::f32; }

  /// The largest power of two up to 16 that divides all three addresses.
  static std::uint32_t alignment_of(const void* a, const void* b, const void* c) {
    const auto bits = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) | reinterpret_cast<std::uintptr_t>(c) | 16;
    return static_cast<std::uint32_t>(bits & -bits);
  }

  /// Memory for a result that nobody reads; null where there is none.
  struct Aside {
    static constexpr const char* label = "choice of products";
    Device& device;
    std::size_t bytes;
    void* memory;

    Aside(Device& device, std::size_t bytes) : device(device), bytes(bytes), memory(bytes > 0 ? device.try_allocate(bytes, label) : nullptr) {}
    ~Aside() {
      if (memory) device.release(memory, bytes, label);
    }
    Aside(const Aside&) = delete;
    Aside& operator=(const Aside&) = delete;
  };

  void run(Device& device, const ProductShape& shape, const Plan& plan, const blas::Operands& operands, const blas::Algorithm& algorithm, std::int64_t kept) const {
    std::byte* workspace = device.workspace<std::byte>(kept + static_cast<std::int64_t>(algorithm.workspace_bytes)) + kept;
    blas::multiply(handle_, plan.operation, operands, plan.a, plan.b, plan.c, sums_of(shape), algorithm, workspace, device.stream());
  }

  /// Runs all in turn, a few times, and keeps the first, or another that takes less than 0.95 of the best before it: a GPU that has just been idle runs faster than it will, and
  /// tells lesser differences wrongly. What would be added to c goes to memory of its own; where there is none, the first is kept.
  void keep_fastest(Device& device, const ProductShape& shape, Plan& plan, blas::Operands operands, std::int64_t kept) const {
    constexpr int turns = 4;
    constexpr double never = std::numeric_limits<double>::infinity();
    const Aside aside(device, operands.beta != 0 ? static_cast<std::size_t>(step_of(shape) * shape.n * size_of(shape.output)) : 0);
    if (operands.beta != 0) operands.d = aside.memory;
    std::vector<double> least(operands.d ? plan.algorithms.size() : 1, never);
    Stopwatch watch(device);
    for (int turn = 0; turn < turns && least.size() > 1; ++turn)
      for (std::size_t i = 0; i < least.size(); ++i) {
        if (turn > 0 && least[i] == never) continue;
        try {
          watch.mark(0);
          run(device, shape, plan, operands, plan.algorithms[i], kept);
          watch.mark(1);
          least[i] = smaller(least[i], watch.seconds(0, 1));
        } catch (const Error&) {  // no memory for its workspace, or the library cannot after all; where none can, the product itself says why
        }
      }
    std::size_t best = 0;
    for (std::size_t i = 1; i < least.size(); ++i)
      if (least[i] < 0.95 * least[best]) best = i;
    plan.algorithms = {plan.algorithms[best]};
  }

  /// Whether writing results takes about as long as summing them up: those of a gradient of weights over few tokens, which is added to 32-bit sums. The library proposes
  /// tiles as large as registers hold, which wait for that; smaller ones, further down its list, take 0.80 to 0.87 of the time for 2048 tokens, and 1.05 for 16384 (one H200, 2026-11-27).
  static bool writes_much(const Device& device, const ProductShape& shape) {
    constexpr std::int64_t few_tokens = 4096;
    return device.compute_capability() == 90 && size_of(shape.input) == 2 && shape.output == DType::f32 && shape.b == Order::transposed && shape.k <= few_tokens;
  }
  static void put_small_tiles_first(std::vector<blas::Algorithm>& algorithms) {
    std::stable_partition(algorithms.begin(), algorithms.end(), [](const blas::Algorithm& algorithm) { return blas::tile_of(algorithm) == CUBLASLT_MATMUL_TILE_128x160; });
  }

  Plan& plan_for(const Device& device, const ProductShape& shape, std::uint32_t alignment) {
    if (const auto known = plans_.find({shape, alignment}); known != plans_.end()) return known->second;
    Plan plan;  // which is kept once it is whole
    const bool times = device.product_choice() == ProductChoice::fastest, small_tiles = writes_much(device, shape);
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
    plan.c = blas::create_layout(shape.output, shape.m, shape.n, step_of(shape));
    const blas::Preference preference = blas::create_preference(static_cast<std::size_t>(workspace_bytes));
    blas::set_alignment(preference, alignment);
    const cublasStatus_t none = shape.epilogue == Epilogue::bias ? CUBLAS_STATUS_INVALID_VALUE : CUBLAS_STATUS_NOT_SUPPORTED;  // a bias of a type that it does not add, to cuBLASLt 13.1
    plan.algorithms = blas::find_algorithms(handle_, plan.operation, plan.a, plan.b, plan.c, preference, none, small_tiles || times ? blas::most_proposals : 1);
    if (small_tiles) put_small_tiles_first(plan.algorithms);
    if (!times && plan.algorithms.size() > 1) plan.algorithms.resize(1);
    return plans_.emplace(Key{shape, alignment}, std::move(plan)).first->second;
  }

  blas::Handle handle_;
  std::map<Key, Plan> plans_;
};

}  // namespace GOLEM_ABI
}  // namespace golem::cuda
