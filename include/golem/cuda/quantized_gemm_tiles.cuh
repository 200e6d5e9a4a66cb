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
  static constexpr int bits = Bits, lane_bytes = Block * Bits / 32 < 16 ? Block * Bits / 32 : 16, lane_columns = lane_bytes * 8 / Bits, columns = 4 * lane_columns;
};

/// Eight columns of a row as four pairs of T, from their bytes. Integers are set into the mantissa of a power of two, their sign
/// turned so that they count from the least, and both are taken off again.
template <class T, int Bits>
__device__ void unpack_eight(std::uint32_t (&pairs)[4], const std::uint32_t* words) {
  constexpr bool half = std::is_same_v<T, float16>;
  constexpr std::uint32_t one = half ? 0x3c003c00u : 0x3f803f80u;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (Bits == 4 && half) {  // columns 1 and 5, 0 and 4, 3 and 7, 2 and 6
      const std::uint32_t bytes = words[0] >> 8 * (i / 2);
      if (i % 2 == 0) pairs[i] = ptx::multiply_add_pairs<T>(ptx::mask_and_turn(bytes, 0x000f000fu, 0x64086408u), one, 0xe408e408u);  // 1024 + 8 + integer, less 1032
      else pairs[i] = ptx::multiply_add_pairs<T>(ptx::mask_and_turn(bytes, 0x00f000f0u, 0x64806480u), 0x2c002c00u, 0xd480d480u);      // 1024 + 16 (8 + integer), by 16, less 72
    } else if constexpr (Bits == 4) {  // the same columns
      pairs[i] = ptx::multiply_add_pairs<T>(ptx::mask_and_turn(words[0] >> 4 * i, 0x000f000fu, 0x43084308u), one, 0xc308c308u);  // 128 + 8 + integer, less 136
    } else {                             // columns 0 and 2, 1 and 3, and the same of the next four
      const std::uint32_t bytes = words[i / 2] >> 8 * (i % 2);
      if constexpr (half) pairs[i] = ptx::multiply_add_pairs<T>(ptx::mask_and_turn(bytes, 0x00ff00ffu, 0x64806480u), one, 0xe480e480u);  // 1024 + 128 + integer, less 1152
      else pairs[i] = ptx::pack<T>(static_cast<float>(static_cast<std::int8_t>(bytes)), static_cast<float>(static_cast<std::int8_t>(bytes >> 16)));  // bfloat16 has too few bits for that
    }
  }
}

/// Eight neighbouring elements of a token in the same pairs.
template <int Bits>
__device__ void pair_eight(std::uint32_t (&pairs)[4], const Pack<std::uint32_t, 4>& x) {
  using ptx::lower_halves, ptx::upper_halves;
  const std::uint32_t a = x.element[0], b = x.element[Bits == 4 ? 2 : 1], c = x.element[Bits == 4 ? 1 : 2], d = x.element[3];
  constexpr int lower = Bits == 4;
  pairs[lower] = lower_halves(a, b), pairs[1 - lower] = upper_halves(a, b), pairs[2 + lower] = lower_halves(c, d), pairs[3 - lower] = upper_halves(c, d);
}

/// What the warps of a block share out among them.
enum class Shared : std::uint8_t {
  columns,  // of the same rows: few tokens, many bytes under way
  rows,     // 16 to each: more tokens than 32
};

/// Tiles of 16 rows that a warp makes: two where tokens are few, so that what is made of a token serves both, and twice the bytes are under way.
template <Shared Share, int TokenTiles>
inline constexpr int row_tiles = Share == Shared::columns && TokenTiles == 1 ? 2 : 1;

/// A warp's sums: 16 Stacked rows by 8 Tiles tokens.
template <class T, class Step, int Tiles, int Stacked>
struct QuantizedWarpSums {
  static constexpr int bits = Step::bits;
  const QuantizedRows<bits>& w;
  std::int64_t rows[2 * Stacked];  // of this lane
  const T* tokens[Tiles];
  float sums[Stacked][Tiles][4]{};

  __device__ QuantizedWarpSums(const T* x, const QuantizedRows<bits>& w, std::int64_t row, std::int64_t token, std::int64_t count) : w(w) {
#pragma unroll
    for (int r = 0; r < 2 * Stacked; ++r) rows[r] = smaller(row + ptx::lane() / 4 + 8 * r, w.rows - 1);
#pragma unroll
    for (int tile = 0; tile < Tiles; ++tile) tokens[tile] = x + smaller(token + tile * 8 + ptx::lane() / 4, count - 1) * w.columns;
  }

  /// Adds the columns of a step; All: every lane has some.
  template <bool All>
  __device__ void add(std::int64_t step) {
    const std::int64_t column = step * Step::columns + ptx::lane() % 4 * Step::lane_columns;
    const bool inside = All || column < w.columns;
    using Words = Pack<std::uint32_t, Step::lane_bytes / 4>;
    Words words[2 * Stacked]{};
#pragma unroll
    for (int r = 0; r < 2 * Stacked; ++r)
      if (inside) words[r] = *reinterpret_cast<const Words*>(w.row(rows[r]) + column * bits / 8);
    float part[Stacked][Tiles][4]{};
#pragma unroll
    for (int eight = 0; eight < Step::lane_columns / 8; ++eight) {
      std::uint32_t weights[2 * Stacked][4];
#pragma unroll
      for (int r = 0; r < 2 * Stacked; ++r) unpack_eight<T, bits>(weights[r], words[r].element + eight * bits / 4);
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile) {
        Pack<std::uint32_t, 4> elements{};
        if (inside) elements = *reinterpret_cast<const Pack<std::uint32_t, 4>*>(tokens[tile] + column + eight * 8);
        std::uint32_t pairs[4];
        pair_eight<bits>(pairs, elements);
#pragma unroll
        for (int s = 0; s < Stacked; ++s) {
          const auto &upper = weights[2 * s], &lower = weights[2 * s + 1];
#pragma unroll
          for (int half = 0; half < 4; half += 2)
            ptx::multiply_add<T>(part[s][tile], {upper[half], lower[half], upper[half + 1], lower[half + 1]}, {pairs[half], pairs[half + 1]});
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2 * Stacked; ++r) {
      const float scale = w.scale(rows[r], step * Step::columns);
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
        for (int i = r % 2 * 2; i < r % 2 * 2 + 2; ++i) sums[r / 2][tile][i] += scale * part[r / 2][tile][i];
    }
  }

  /// Calls act(row, token, sum) for each of this lane's sums, row and token counted from the warp's first.
  template <class Act>
  __device__ void for_each(Act act) const {
#pragma unroll
    for (int s = 0; s < Stacked; ++s)
#pragma unroll
      for (int tile = 0; tile < Tiles; ++tile)
#pragma unroll
        for (int i = 0; i < 4; ++i) act(16 * s + ptx::lane() / 4 + i / 2 * 8, tile * 8 + ptx::lane() % 4 * 2 + i % 2, sums[s][tile][i]);
  }
};

/// y (N, O), as many rows of a warp as row_tiles says by 8 Tiles tokens.
template <class T, int Bits, int Block, int Tiles, Shared Share, int Warps>
__global__ void __launch_bounds__(32 * Warps, row_tiles<Share, Tiles> == 2 ? 2 : 0) quantized_tiles_kernel(T* y, const T* x, QuantizedRows<Bits> w, const T* bias, std::int64_t count) {
  ptx::begin_kernel();
  using Step = QuantizedStep<Bits, Block>;
  constexpr int height = 16 * row_tiles<Share, Tiles>, stride = Share == Shared::columns ? Warps : 1;
  const int warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t pieces = ceil_div(count, 8 * Tiles), token = blockIdx.x % pieces * (8 * Tiles);
  const std::int64_t row = (Share == Shared::rows ? blockIdx.x / pieces * Warps + warp : blockIdx.x / pieces) * height, whole_steps = w.columns / Step::columns;
  QuantizedWarpSums<T, Step, Tiles, row_tiles<Share, Tiles>> sums(x, w, row, token, count);
  std::int64_t step = Share == Shared::columns ? warp : 0;
#pragma unroll 2
  for (; step < whole_steps; step += stride) sums.template add<true>(step);
  if (step * Step::columns < w.columns) sums.template add<false>(step);

  const auto put = [&](std::int64_t r, std::int64_t n, float sum) {
    if (r < w.rows && n < count) y[n * w.rows + r] = ptx::narrow<T>(sum + (bias ? ptx::widen(bias[r]) : 0.0f));
  };
  if constexpr (Share == Shared::rows) {
    sums.for_each([&](int r, int n, float sum) { put(row + r, token + n, sum); });
  } else {
    constexpr int elements = 8 * Tiles * height;
    float* shared = dynamic_shared<float>();  // (Warps, 8 Tiles tokens, rows)
    sums.for_each([&](int r, int n, float sum) { shared[warp * elements + n * height + r] = sum; });
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < elements; e += 32 * Warps) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < Warps; ++i) sum += shared[i * elements + e];
      put(row + e % height, token + e / height, sum);
    }
  }
}

template <class T, int Bits, int Block, int Tiles, Shared Share>
void launch_quantized_tiles(Device& device, T* y, const T* x, const QuantizedRows<Bits>& w, const T* bias, std::int64_t count) {
  constexpr int warps = Share == Shared::columns ? 8 : 4, height = 16 * row_tiles<Share, Tiles>, rows = Share == Shared::columns ? height : height * warps;
  const Launch how{.name = "quantized_tiles", .early = true,
                   .blocks = ceil_div(w.rows, rows) * ceil_div(count, 8 * Tiles),
                   .threads = 32 * warps,
                   .shared_bytes = Share == Shared::columns ? warps * 8 * Tiles * height * sizeof(float) : 0,
                   .architecture = 80};
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
