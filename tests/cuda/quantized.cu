// Quantised products, built for the GPU that runs the tests.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/emitted.hpp"
#include "golem/cuda/dequantize.cuh"
#include "golem/cuda/quantized_gemm.cuh"

namespace golem::cuda {

template <class T, Quant... Q>
const void* const quantized_products[]{emitted(project<T, Q, const std::uint8_t>)...};

template <class T, Quant... Q>
const void* const dequantized[]{emitted(dequantize<T, Q, const std::uint8_t>)...};

constexpr Activations int8 = Activations::int8;

/// So that the tables count as used.
const void* const* quantized_products_of_tests() {
  static const void* const all[]{
      quantized_products<float, Quant{.bits = 8}, Quant{.bits = 4}, Quant{.bits = 4, .group = 32}, Quant{.bits = 4, .group = 64}, Quant{.bits = 8, .group = 64}, Quant{.bits = 4, .group = 256},
                         Quant{.bits = 8, .group = 0, .activations = int8}, Quant{.bits = 4, .group = 0, .activations = int8}, Quant{.bits = 8, .group = 32, .activations = int8},
                         Quant{.bits = 4, .group = 32, .activations = int8}, Quant{.bits = 8, .group = 64, .activations = int8}, Quant{.bits = 4, .group = 64, .activations = int8},
                         Quant{.bits = 4, .group = 128, .activations = int8}, Quant{.bits = 8, .group = 256, .activations = int8}>,
      quantized_products<double, Quant{.bits = 4}, Quant{.bits = 4, .group = 64}, Quant{.bits = 8}, Quant{.bits = 4, .group = 0, .activations = int8}, Quant{.bits = 8, .group = 32, .activations = int8}>,
      quantized_products<float16, Quant{.bits = 4, .group = 64}, Quant{.bits = 8}, Quant{.bits = 4, .group = 0, .activations = int8}, Quant{.bits = 8, .group = 32, .activations = int8},
                         Quant{.bits = 4}, Quant{.bits = 8, .group = 32}, Quant{.bits = 4, .group = 32}, Quant{.bits = 4, .group = 128}>,
      quantized_products<bfloat16, Quant{.bits = 4, .group = 64}, Quant{.bits = 8}, Quant{.bits = 4, .group = 0, .activations = int8}, Quant{.bits = 8, .group = 32, .activations = int8},
                         Quant{.bits = 4}, Quant{.bits = 8, .group = 32}, Quant{.bits = 4, .group = 32}, Quant{.bits = 4, .group = 128}>,
      dequantized<float, Quant{.bits = 8}, Quant{.bits = 4}, Quant{.bits = 4, .group = 32}>, dequantized<float16, Quant{.bits = 8}, Quant{.bits = 4}, Quant{.bits = 4, .group = 32}>,
      dequantized<bfloat16, Quant{.bits = 8}, Quant{.bits = 4}, Quant{.bits = 4, .group = 32}>, dequantized<double, Quant{.bits = 8}, Quant{.bits = 4}, Quant{.bits = 4, .group = 32}>};
  return all;
}

}  // namespace golem::cuda
