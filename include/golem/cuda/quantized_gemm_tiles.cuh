// A quantised matrix times 16-bit tokens by matrix instructions of sm_80: integers become exact 16-bit numbers in registers.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "golem/cuda/quantized_activations.cuh"

namespace golem::cuda {

/// How a row is walked: each of the four lanes that share it loads lane_bytes, and these columns lie in one block of `Block`
/// columns (Quant::block), thus in one group. In which order columns meet in a product does not matter: they stay as they lie.
template <int Bits, int Block>
struct QuantizedStep {
  static constexpr int lane_bytes = Block * Bits / 32 < 16 ? Block * Bits / 32 : 16, lane_columns = lane_bytes * 8 / Bits, columns = 4 * lane_columns;
};

/// Eight columns of a row as four pairs of T, from their bytes. Integers are set into the mantissa of a power of two, and that
/// is taken off again.
template <class T, int Bits>
__device__ void unpack_eight(std::uint32_t (&pairs)[4], const std::uint32_t* words) {
  if constexpr (Bits == 4) {  // columns 1 and 5, 0 and 4, 3 and 7, 2 and 6
    constexpr std::uint32_t power = std::is_same_v<T, float16> ? 0x64006400u : 0x43004300u, shifted = power + 0x00080008u;  // 1024 or 128, and 8 more
#pragma unroll
    for (int i = 0; i < 4; ++i) pairs[i] = ptx::subtract_pairs<T>(((words[0] >> 4 * i & 0x000f000fu) ^ 0x00080008u) | power, shifted);
  } else {  // columns 0 and 2, 1 and 3, and the same of the next four
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bytes = words[i / 2] >> 8 * (i % 2);
      if constexpr (std::is_same_v<T, float16>)
        pairs[i] = ptx::subtract_pairs<T>(((bytes & 0x00ff00ffu) ^ 0x00800080u) | 0x64006400u, 0x64806480u);  // 1024, and 128 more
      else  // bfloat16 has too few bits for that
        pairs[i] = ptx::pack<T>(static_cast<float>(static_cast<std::int8_t>(bytes)), static_cast<float>(static_cast<std::int8_t>(bytes >> 16)));
    }
  }
}

/// Eight neighbouring elements of a token in the same pairs.
template <int Bits>
__device__ void pair_eight(std::uint32_t (&pairs)[4], const Pack<std::uint32_t, 4>& x) {
  const auto low = [](std::uint32_t a, std::uint32_t b) { return (a & 0xffffu) | b << 16; };
  const auto high = [](std::uint32_t a, std::uint32_t b) { return a >> 16 | (b & 0xffff0000u); };
  const std::uint32_t a = x.element[0], b = x.element[Bits == 4 ? 2 : 1], c = x.element[Bits == 4 ? 1 : 2], d = x.element[3];
  if constexpr (Bits == 4) pairs[0] = high(a, b), pairs[1] = low(a, b), pairs[2] = high(c, d), pairs[3] = low(c, d);
  else pairs[0] = low(a, b), pairs[1] = high(a, b), pairs[2] = low(c, d), pairs[3] = high(c, d);
}

/// What the warps of a block share out among them.
enum class Shared : std::uint8_t {
  columns,  // of the same 16 rows: few tokens, many bytes under way
  rows,     // 16 to each: many tokens
};

/// y (N, O), 16 rows of a warp by 8 Tiles tokens.
template <class T, int Bits, int Block, int Tiles, Shared Share, int Warps>
__global__ void __launch_bounds__(32 * Warps) quantized_tiles_kernel(T* y, const T* x, QuantizedRows<Bits> w, const T* bias, std::int64_t count) {
  using Step = QuantizedStep<Bits, Block>;
  const int warp = static_cast<int>(threadIdx.x / 32), g = ptx::lane() / 4, t = ptx::lane() % 4;
  const std::int64_t pieces = ceil_div(count, 8 * Tiles), token = blockIdx.x % pieces * (8 * Tiles);
  const std::int64_t row = (Share == Shared::rows ? blockIdx.x / pieces * Warps + warp : blockIdx.x / pieces) * 16;
  const std::int64_t rows[2]{smaller(row + g, w.rows - 1), smaller(row + g + 8, w.rows - 1)}, steps = ceil_div(w.columns, Step::columns);
  float sums[Tiles][4]{};
#pragma unroll 2
  for (std::int64_t step = Share == Shared::columns ? warp : 0; step < steps; step += Share == Shared::columns ? Warps : 1) {
    const std::int64_t column = step * Step::columns + t * Step::lane_columns;
    const bool inside = column < w.columns;
    Pack<std::uint32_t, Step::lane_bytes / 4> words[2]{};
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (inside) words[r] = *reinterpret_cast<const Pack<std::uint32_t, Step::lane_bytes / 4>*>(w.row(rows[r]) + column * Bits / 8);
    float part[Tiles][4]{};
#pragma unroll
    for (int eight = 0; eight < Step::lane_columns / 8; ++eight) {
      std::uint32_t upper[4], lower[4];
      unpack_eight<T, Bits>(upper, words[0].element + eight * Bits / 4);
      unpack_eight<T, Bits>(lower, words[1].element + eight * Bits / 4);
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile) {
        Pack<std::uint32_t, 4> elements{};
        if (inside) elements = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(x + smaller(token + tile * 8 + g, count - 1) * w.columns + column + eight * 8);
        std::uint32_t pairs[4];
        pair_eight<Bits>(pairs, elements);
#pragma unroll
        for (int half = 0; half < 4; half += 2)
          ptx::multiply_add<T>(part[tile], {upper[half], lower[half], upper[half + 1], lower[half + 1]}, {pairs[half], pairs[half + 1]});
      }
    }
    const float scale[2]{w.scale(rows[0], step * Step::columns), w.scale(rows[1], step * Step::columns)};
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[tile][i] += scale[i / 2] * part[tile][i];
  }
  const auto put = [&](std::int64_t r, std::int64_t n, float sum) {
    if (r < w.rows && n < count) y[n * w.rows + r] = ptx::narrow<T>(sum + (bias ? ptx::widen(bias[r]) : 0.0f));
  };
  if constexpr (Share == Shared::rows) {
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) put(row + g + i / 2 * 8, token + tile * 8 + 2 * t + i % 2, sums[tile][i]);
  } else {
    constexpr int elements = Tiles * 128;
    float* shared = dynamic_shared<float>();  // (Warps, 8 Tiles tokens, 16 rows)
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) shared[warp * elements + (tile * 8 + 2 * t + i % 2) * 16 + g + i / 2 * 8] = sums[tile][i];
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < elements; e += 32 * Warps) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < Warps; ++i) sum += shared[i * elements + e];
      put(row + e % 16, token + e / 16, sum);
    }
  }
}

template <class T, int Bits, int Block, int Tiles, Shared Share>
void launch_quantized_tiles(Device& device, T* y, const T* x, const QuantizedRows<Bits>& w, const T* bias, std::int64_t count) {
  constexpr int warps = Share == Shared::columns ? 8 : 4, rows = Share == Shared::columns ? 16 : 16 * warps;
  const Launch how{.name = "quantized_tiles",
                   .blocks = ceil_div(w.rows, rows) * ceil_div(count, 8 * Tiles),
                   .threads = 32 * warps,
                   .shared_bytes = Share == Shared::columns ? warps * Tiles * 128 * sizeof(float) : 0};
  launch(device, how, quantized_tiles_kernel<T, Bits, Block, Tiles, Share, warps>, y, x, w, bias, count);
}

/// The product by matrix instructions; false where T, the device or the alignment of rows does not allow it.
template <class T, int Bits, int Block>
bool multiply_quantized_tiles(Device& device, T* y, const T* x, const QuantizedRows<Bits>& w, const T* bias, std::int64_t count) {
  if constexpr (sizeof(T) != 2) return false;
  else {
    using Step = QuantizedStep<Bits, Block>;
    if (device.compute_capability() < 80 || w.columns % Step::lane_columns != 0 || w.row_bytes % Step::lane_bytes != 0 ||
        reinterpret_cast<std::uintptr_t>(w.bytes) % Step::lane_bytes != 0 || !fits_wide<T>(w.columns, x))
      return false;
    if (count <= 8) launch_quantized_tiles<T, Bits, Block, 1, Shared::columns>(device, y, x, w, bias, count);
    else if (count <= 32) launch_quantized_tiles<T, Bits, Block, 4, Shared::columns>(device, y, x, w, bias, count);
    else launch_quantized_tiles<T, Bits, Block, 8, Shared::rows>(device, y, x, w, bias, count);
    return true;
  }
}

}  // namespace golem::cuda
