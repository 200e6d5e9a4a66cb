// Sums over rows whose parts blocks have made: added up in a fixed order, by many threads for each.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/math.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/vectors.cuh"

namespace golem::cuda {

inline constexpr int partial_warps = 16;

/// first (columns) += the sum of partial[p] (count) over all parts p, and second (count - columns) that of what is behind: a warp adds every sixteenth part of 32 columns, and the
/// first of a block's sixteen adds theirs.
template <class A>
__global__ void __launch_bounds__(32 * partial_warps) add_partials_kernel(A* first, A* second, const A* partial, std::int64_t parts, std::int64_t columns, std::int64_t count) {
  ptx::begin_kernel();
  A* shared = dynamic_shared<A>();  // (16, 32)
  const std::int64_t lane = threadIdx.x % 32, i = blockIdx.x * 32 + lane;
  A total = 0;
  if (i < count) {
#pragma unroll 8
    for (std::int64_t p = threadIdx.x / 32; p < parts; p += partial_warps) total += partial[p * count + i];
  }
  shared[threadIdx.x] = total;
  __syncthreads();
  if (threadIdx.x >= 32 || i >= count) return;
  for (int warp = 1; warp < partial_warps; ++warp) total += shared[32 * warp + lane];
  (i < columns ? first[i] : second[i - columns]) += total;
}

template <class A>
void add_partials(Device& device, A* first, A* second, const A* partial, std::int64_t parts, std::int64_t columns, std::int64_t count) {
  launch(device, {.name = "add_partials", .early = true, .blocks = ceil_div(count, 32), .threads = 32 * partial_warps, .shared_bytes = 32 * partial_warps * sizeof(A)}, add_partials_kernel<A>, first, second, partial, parts,
         columns, count);
}

}  // namespace golem::cuda
