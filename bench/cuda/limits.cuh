// What the chip can do at most: bytes that a copy moves in a second, and flops of a large bf16 product; measured in turn with the work beside it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "golem/core/buffer.hpp"
#include "golem/core/random.hpp"
#include "golem/cuda/gemm.cuh"
#include "golem/cuda/stopwatch.hpp"
#include "golem/cuda/vectors.cuh"
#include "shapes.hpp"

namespace bench {

using golem::Buffer, golem::View;
using golem::cuda::Device, golem::cuda::Stopwatch;

/// to[i] uniform in [low, high): data on which a chip draws the power that real data make it draw.
template <class T>
__global__ void __launch_bounds__(256) fill_kernel(T* to, std::int64_t count, golem::Random random, float low, float high) {
  for (std::int64_t four = golem::cuda::first_item(); four * 4 < count; four += golem::cuda::item_step()) {
    const golem::Bits4 bits = random.bits(static_cast<std::uint64_t>(four));
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (four * 4 + i < count) to[four * 4 + i] = golem::cuda::ptx::narrow<T>(low + (high - low) * (static_cast<float>(bits.word[i] >> 8) * 0x1p-24f));
  }
}

template <class T>
void fill(Device& device, T* to, std::int64_t count, std::uint64_t stream, float low = -1, float high = 1) {
  golem::cuda::launch(device, {.name = "fill", .blocks = golem::cuda::blocks_for(device, golem::ceil_div(count, 4), 256)}, fill_kernel<T>, to, count, golem::Random{1, stream}, low, high);
}

/// Sixteen bytes a thread, four of them under way at once.
template <class T>
__global__ void __launch_bounds__(256) copy_kernel(T* to, const T* from, std::int64_t vectors) {
  using Pack = golem::cuda::Pack<T, golem::cuda::wide<T>>;
  const std::int64_t first = std::int64_t{blockIdx.x} * blockDim.x * 4 + threadIdx.x;
  Pack packs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (first + i * blockDim.x < vectors) packs[i] = reinterpret_cast<const Pack*>(from)[first + i * blockDim.x];
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (first + i * blockDim.x < vectors) reinterpret_cast<Pack*>(to)[first + i * blockDim.x] = packs[i];
}

/// The better of two copies: the driver's and a kernel's. Bytes read and bytes written both count.
class CopyLimit {
 public:
  static constexpr const char* unit = "GB/s";

  explicit CopyLimit(Device& device) : device_(&device), from_(device, shapes.copy_bytes, "limits"), to_(device, shapes.copy_bytes, "limits") {
    fill(device, reinterpret_cast<float*>(from_.data()), from_.size() / 4, 1);
  }

  /// Starts both, marking the stream before, between and behind them: 0, 1, 2.
  void start(Stopwatch& watch) {
    const std::int64_t vectors = from_.size() / 16;
    watch.mark(0);
    device_->copy(to_.data(), from_.data(), from_.bytes());
    watch.mark(1);
    golem::cuda::launch(*device_, {.name = "copy", .blocks = golem::ceil_div(vectors, 4 * 256)}, copy_kernel<float>, reinterpret_cast<float*>(to_.data()),
                        reinterpret_cast<const float*>(from_.data()), vectors);
    watch.mark(2);
  }
  double rate(Stopwatch& watch) const {
    const double seconds = golem::smaller(watch.seconds(0, 1), watch.seconds(1, 2));
    return 2.0 * static_cast<double>(from_.bytes()) / seconds;
  }

 private:
  Device* device_;
  Buffer<std::byte, Device> from_, to_;
};

/// The product of two large square matrices in bf16, by cuBLASLt.
class ProductLimit {
 public:
  static constexpr const char* unit = "TFLOP/s";

  explicit ProductLimit(Device& device) : device_(&device) {
    for (std::size_t i = 0; i < 3; ++i) {
      matrices_.emplace_back(device, side * side, "limits");
      fill(device, matrices_.back().data(), side * side, 2 + i);
    }
    multiply();  // plans it
  }

  void start(Stopwatch& watch) {
    watch.mark(0);
    multiply();
    watch.mark(1);
    watch.mark(2);
  }
  double rate(Stopwatch& watch) const { return 2.0 * static_cast<double>(side) * side * side / watch.seconds(0, 1); }

 private:
  static constexpr std::int64_t side = shapes.product_side;

  void multiply() {
    golem::cuda::project(*device_, matrices_[0].view_at(0, side, side), matrices_[1].view_at(0, side, side), matrices_[2].view_at(0, side, side), View<golem::bfloat16, 1>{});
  }

  Device* device_;
  std::vector<Buffer<golem::bfloat16, Device>> matrices_;
};

}  // namespace bench
