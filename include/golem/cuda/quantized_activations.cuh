// The operands of a quantised product on the GPU: rows of integers with their scales, and tokens as they are or rounded to int8.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/quantized_tensor.hpp"
#include "golem/core/math.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

/// A quantised matrix in a kernel. Kernels are made for its bits, not for its groups.
template <int Bits>
struct QuantizedRows {
  const std::uint8_t* bytes;
  const float16* scales;
  std::int64_t rows, columns, row_bytes, groups;  // groups: of a row
  std::uint32_t group;                            // columns that share a scale

  template <Quant Q, class Byte>
  explicit QuantizedRows(const QuantizedView<Q, Byte>& w)
      : bytes(w.data.data),
        scales(w.scales.data),
        rows(w.rows),
        columns(w.columns),
        row_bytes(Q.row_bytes(w.columns)),
        groups(Q.groups(w.columns)),
        group(Q.group == 0 ? static_cast<std::uint32_t>(w.columns) : Q.group) {}

  __device__ const std::uint8_t* row(std::int64_t r) const { return bytes + r * row_bytes; }
  __device__ float scale(std::int64_t r, std::int64_t column) const {
    return ptx::widen(scales[r * groups + static_cast<std::uint32_t>(column) / group]);
  }
};

/// Integer `i` of packed bytes.
template <int Bits, int Bytes>
__device__ int unpacked(const Pack<std::uint8_t, Bytes>& pack, int i) {
  if constexpr (Bits == 8) return static_cast<std::int8_t>(pack.element[i]);
  else return int4_at(pack.element, i);
}

/// Tokens in their own precision: x (N, I).
template <class T>
struct ExactTokens {
  using A = accumulate_t<T>;
  const T* x;
  std::int64_t columns;

  /// Integers of a row, ready to meet any token.
  template <int Bits, int Bytes>
  struct Weights {
    static constexpr int count = Bytes * 8 / Bits;
    A integer[count];
    __device__ explicit Weights(const Pack<std::uint8_t, Bytes>& pack) {
#pragma unroll
      for (int i = 0; i < count; ++i) integer[i] = static_cast<A>(unpacked<Bits>(pack, i));
    }
  };

  /// The sum over the weights' columns, the first of which is `column`.
  template <int Bits, int Bytes>
  __device__ A dot(const Weights<Bits, Bytes>& w, std::int64_t token, std::int64_t column) const {
    constexpr int count = Weights<Bits, Bytes>::count, width = Bytes == 1 ? 1 : wide<T>;
    const T* from = x + token * columns + column;
    A sum = 0;
#pragma unroll
    for (int first = 0; first < count; first += width) {
      if (width == 1 && column + first >= columns) break;  // behind an odd last column
      A value[width];
      load(value, from + first);
#pragma unroll
      for (int i = 0; i < width; ++i) sum += w.integer[first + i] * value[i];
    }
    return sum;
  }
  __device__ float scale(std::int64_t, std::int64_t) const { return 1; }
};

/// Tokens as integers of a byte: x = value * scale, a scale for each block of columns. Values (N, padded) are in the order in
/// which INT4 is unpacked: of eight columns the even ones first.
struct Int8Tokens {
  const std::int8_t* values;
  const float* scales;  // (N, padded / block)
  std::int64_t padded;  // columns in whole 128s, zeros behind the last
  int block;

  /// Where a column's value lies.
  template <int Bits>
  __device__ static std::int64_t place(std::int64_t column) {
    if constexpr (Bits == 8) return column;
    else return column / 8 * 8 + column % 2 * 4 + column % 8 / 2;
  }

  template <int Bits, int Bytes>
  struct Weights {
    Pack<std::uint8_t, Bytes> pack;
    __device__ explicit Weights(const Pack<std::uint8_t, Bytes>& pack) : pack(pack) {}
  };

  template <int Bits, int Bytes>
  __device__ int dot(const Weights<Bits, Bytes>& w, std::int64_t token, std::int64_t column) const {
    const std::int8_t* from = values + token * padded;
    int sum = 0;
    if constexpr (Bytes == 1) {
#pragma unroll
      for (int i = 0; i < 8 / Bits; ++i) sum += unpacked<Bits>(w.pack, i) * from[place<Bits>(column + i)];
      return sum;
    } else {
      constexpr int words = Bytes / 4;
      const auto word = bits_as<Pack<std::uint32_t, words>>(w.pack);
      Pack<std::uint32_t, 4> x[8 / Bits];
#pragma unroll
      for (int i = 0; i < 8 / Bits; ++i) x[i] = reinterpret_cast<const Pack<std::uint32_t, 4>*>(from + column)[i];
#pragma unroll
      for (int i = 0; i < words; ++i) {
        if constexpr (Bits == 8) {
          sum = ptx::dot4(word.element[i], x[0].element[i], sum);
        } else {  // 16 times the integers: each nibble where a byte's sign is
          sum = ptx::dot4(word.element[i] & 0xf0f0f0f0u, x[i / 2].element[i % 2 * 2], sum);
          sum = ptx::dot4(word.element[i] << 4 & 0xf0f0f0f0u, x[i / 2].element[i % 2 * 2 + 1], sum);
        }
      }
      return Bits == 8 ? sum : sum / 16;
    }
  }
  __device__ float scale(std::int64_t token, std::int64_t column) const { return scales[token * (padded / block) + column / block]; }
};

/// A warp rounds one block of a token: integers, half to even, and the scale that makes the largest magnitude 127.
template <class T, int Bits, int Block>
__global__ void __launch_bounds__(256) round_tokens_kernel(std::int8_t* values, float* scales, const T* x, std::int64_t blocks, std::int64_t padded, std::int64_t columns) {
  ptx::begin_kernel();
  constexpr int each = Block / 32;
  const std::int64_t item = first_item() / 32, token = item / (padded / Block), block = item % (padded / Block);
  if (item >= blocks) return;
  float value[each];
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const std::int64_t column = block * Block + 32 * i + ptx::lane();
    value[i] = column < columns ? static_cast<float>(ptx::widen(x[token * columns + column])) : 0.0f;
    largest = larger(largest, bits_as<std::uint32_t>(value[i]) & 0x7fffffffu);
  }
  const BlockScale scale(warp_max(largest), 127);
  if (ptx::lane() == 0) scales[item] = scale.scale;
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const float integer = rintf(value[i] * scale.inverse);
    const std::int64_t column = block * Block + 32 * i + ptx::lane();
    values[token * padded + Int8Tokens::place<Bits>(column)] = static_cast<std::int8_t>(integer >= -127 && integer <= 127 ? integer : 0.0f);  // NaN: the scale tells
  }
}

}  // namespace golem::cuda
