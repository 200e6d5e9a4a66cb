// TileRing: tiles pass through two places in their order, whatever the order of threads; a place that is given back too early, or never, is reported.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/number.hpp"
#include "golem/core/random.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/tile_ring.cuh"
#include "simt/runtime.hpp"

namespace kernels {

using golem::bfloat16;
using namespace golem::cuda;

enum class Leave { read, unread, never };

/// A block's memory here.
struct Places {
  TileRing<BoxTile<bfloat16, 64, 64>, 2> tiles;
};

/// out [tile][warpgroup](64, 64): each tile times itself, transposed.
template <Leave When>
__global__ void __launch_bounds__(384, 1) squares(float* out, const __grid_constant__ CUtensorMap tensor, int count) {
  auto& places = golem::cuda::aligned_shared<Places>();
  const int reader = static_cast<int>(threadIdx.x) / 128 - 1;
  if (threadIdx.x == 0) places.tiles.init(), ptx::show_shared_writes();
  __syncthreads();
  if (reader < 0) {
    for (int t = 0; t < count && threadIdx.x == 0; ++t) places.tiles.fetch(t, tensor, 0, 64 * t, 0);
    return;
  }
  for (int t = 0; t < count; ++t) {
    float sums[8][4];
    places.tiles.wait(t);
    ptx::begin_products();
    multiply_transposed_async(sums, places.tiles.at(t), 0, places.tiles.at(t));
    ptx::commit_products();
    if (When == Leave::unread) places.tiles.leave(t);
    ptx::wait_for_products<0>();
    ptx::settle(sums);
    if (When == Leave::read) places.tiles.leave(t);
    const int row = static_cast<int>(threadIdx.x) % 128 / 32 * 16 + ptx::lane() / 4;
    for (int n = 0; n < 8; ++n)
      for (int e = 0; e < 4; ++e) out[((2 * t + reader) * 64 + row + e / 2 * 8) * 64 + 8 * n + 2 * (ptx::lane() % 4) + e % 2] = sums[n][e];
  }
}

}  // namespace kernels

TEST_CASE("tiles pass through fewer places than there are tiles") {
  using Catch::Matchers::Contains;
  using golem::bfloat16, golem::cuda::Device, golem::Random;
  constexpr int count = 5, tokens = 64 * count - 7;
  const simt::MachineRestored restored;
  simt::machine().major = 9;
  Device device;
  std::vector<bfloat16> x(tokens * 64);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = bfloat16(Random{8, 1}.normal(i));
  golem::Buffer<bfloat16, Device> data(device, tokens * 64, "test");
  device.copy_in(data.data(), x.data(), data.bytes());
  const CUtensorMap tensor = golem::cuda::describe_for_tiles<bfloat16>(data.data(), 1, tokens, 1, 64);
  std::vector<float> out;
  const auto run = [&](void (*kernel)(float*, CUtensorMap, int)) {
    out.assign(count * 2 * 64 * 64, -1);
    launch(device, {.name = "squares", .threads = 384, .shared_bytes = sizeof(kernels::Places) + golem::cuda::box_alignment}, kernel, out.data(), tensor, count);
    device.synchronize();
  };
  for (const std::uint64_t order : {0, 1, 2, 3, 4}) {
    simt::set_order(order);
    run(kernels::squares<kernels::Leave::read>);
    double largest = 0;
    for (int t = 0; t < count; ++t)
      for (int i = 0; i < 64; ++i)
        for (int j = 0; j < 64; ++j) {
          double sum = 0;
          for (int k = 0; k < 64 && 64 * t + std::max(i, j) < tokens; ++k)
            sum += static_cast<double>(x[static_cast<std::size_t>((64 * t + i) * 64 + k)]) * static_cast<double>(x[static_cast<std::size_t>((64 * t + j) * 64 + k)]);
          for (int reader = 0; reader < 2; ++reader) {
            const double d = std::abs(sum - static_cast<double>(out[static_cast<std::size_t>((2 * t + reader) * 64 + i) * 64 + static_cast<std::size_t>(j)]));
            if (!(d <= largest)) largest = d;
          }
        }
    CHECK(largest < 1e-4);
    CHECK_THROWS_WITH(run(kernels::squares<kernels::Leave::unread>), Contains("shared memory changed before a product that reads it was waited for") || Contains("meets a box that has not arrived"));
    CHECK_THROWS_WITH(run(kernels::squares<kernels::Leave::never>), Contains("nobody can move") && Contains("wait for a phase"));
  }
  simt::set_order(1);
}
