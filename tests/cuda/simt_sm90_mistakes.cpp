// What a kernel of sm_90a forgets, the host's way of running it reports: waits, fences, arrivals, warps and registers.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/number.hpp"
#include "golem/core/random.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/ptx.cuh"
#include "golem/cuda/ptx_sm90.cuh"
#include "golem/cuda/ptx_wgmma.cuh"
#include "golem/cuda/tensor_map.hpp"
#include "simt/runtime.hpp"

namespace kernels {

using golem::bfloat16;
namespace ptx = golem::cuda::ptx;

enum class Mistake { none, no_wait_for_box, too_many_bytes, too_few_bytes, barrier_not_shown, barrier_made_twice, too_many_arrivals, nobody_arrives, write_not_shown, no_begin, read_before_wait,
                     settled_before_wait, operand_overwritten, registers_overwritten, no_wait_at_end, one_warp_else, three_warps, within_swizzle, too_many_registers, one_warp_registers };

/// Three warpgroups multiply a box (64, 64) by itself; one thing is wrong.
__global__ void mistaken(float* out, const __grid_constant__ CUtensorMap map, Mistake mistake) {
  unsigned char* start_of_all = golem::cuda::dynamic_shared<unsigned char>();
  unsigned char* shared = start_of_all + (0u - ptx::shared_address(start_of_all)) % 1024;
  auto* box = reinterpret_cast<bfloat16*>(shared);
  auto& barrier = *reinterpret_cast<ptx::PhaseBarrier*>(shared + 8192);
  const auto is = [&](Mistake m) { return mistake == m; };
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (!is(Mistake::one_warp_registers) || warp != 2) is(Mistake::too_many_registers) ? ptx::take_registers<256>() : ptx::give_registers<128>();
  if (threadIdx.x == 0) {
    ptx::init_barrier(barrier, 1);
    if (is(Mistake::barrier_made_twice)) ptx::init_barrier(barrier, 1);
    if (!is(Mistake::barrier_not_shown)) ptx::show_shared_writes();
    if (!is(Mistake::nobody_arrives)) ptx::arrive_and_expect(barrier, is(Mistake::too_many_bytes) ? 8208 : is(Mistake::too_few_bytes) ? 8176 : 8192);
    if (is(Mistake::too_many_arrivals)) ptx::arrive(barrier);
    ptx::copy_box(box, map, 0, 0, 0, 0, barrier);
  }
  __syncthreads();
  if (!is(Mistake::no_wait_for_box)) ptx::wait_for_phase(barrier, 0);
  if (is(Mistake::write_not_shown) && threadIdx.x == 200) box[77] = bfloat16(3.0f);
  __syncthreads();
  if (is(Mistake::three_warps) && warp == 3) return;
  const unsigned start = ptx::shared_address(box) + (is(Mistake::one_warp_else) && warp == 1 ? 32 : 0) + (is(Mistake::within_swizzle) ? 128 : 0);
  const ptx::SharedMatrix matrix{std::uint64_t{start >> 4} | std::uint64_t{64} << 32 | std::uint64_t{1} << 62};
  float sums[8][4] = {};
  std::uint32_t left[4] = {};
  if (!is(Mistake::no_begin)) ptx::begin_products();
  ptx::multiply_rows_async<bfloat16>(sums, matrix, matrix, ptx::Sum::begins);
  ptx::multiply_columns_async<bfloat16>(sums, left, matrix);
  ptx::commit_products();
  if (is(Mistake::registers_overwritten)) left[3] = 1;
  if (is(Mistake::operand_overwritten) && threadIdx.x == 0) box[5] = bfloat16(1.0f);
  if (is(Mistake::read_before_wait)) out[threadIdx.x] = sums[0][0];
  if (is(Mistake::settled_before_wait)) ptx::settle(sums);
  if (is(Mistake::no_wait_at_end)) return;
  ptx::wait_for_products<0>();
  ptx::settle(sums);
  if (!is(Mistake::read_before_wait)) out[threadIdx.x] = sums[0][0];
}

}  // namespace kernels

#if !defined(__SANITIZE_ADDRESS__)  // which stops the program at some of the same places
TEST_CASE("what a kernel forgets of sm_90a's rules is reported") {
  using golem::Random, golem::View, golem::bfloat16, golem::cuda::Device, kernels::Mistake;
  using Catch::Matchers::Contains;
  const simt::MachineRestored restored;
  simt::machine().major = 9;
  Device device;
  std::vector<bfloat16> tensor(64 * 64);
  for (std::size_t i = 0; i < tensor.size(); ++i) tensor[i] = bfloat16(Random{6, 1}.normal(i));
  golem::Buffer<bfloat16, Device> data(device, 64 * 64, "test");
  device.copy_in(data.data(), tensor.data(), data.bytes());
  const CUtensorMap map = golem::cuda::describe_tensor(View<const bfloat16, 4>(data.data(), 1, 64, 1, 64), {1, 64, 1, 64});
  std::vector<float> out(384);
  const auto run = [&](Mistake mistake) {
    out.assign(384, -1);
    launch(device, {.name = "mistaken", .threads = 384, .shared_bytes = 10 << 10}, kernels::mistaken, out.data(), map, mistake);
    device.synchronize();
  };
  for (const std::uint64_t order : {0, 1, 2, 3}) {
    simt::set_order(order);
    run(Mistake::none);
    CHECK(std::isfinite(out[383]));
    if (order == 2) CHECK_THROWS_WITH(run(Mistake::no_wait_for_box), Contains("meets a box that has not arrived"));  // boxes are as late as can be
    CHECK_THROWS_WITH(run(Mistake::too_many_bytes), Contains("nobody can move") && Contains("wait for a phase of parity 0"));
    CHECK_THROWS_WITH(run(Mistake::too_few_bytes), Contains("nobody can move"));
    CHECK_THROWS_WITH(run(Mistake::nobody_arrives), Contains("nobody can move"));
    CHECK_THROWS_WITH(run(Mistake::barrier_not_shown), Contains("made and not shown"));
    CHECK_THROWS_WITH(run(Mistake::barrier_made_twice), Contains("made twice"));
    CHECK_THROWS_WITH(run(Mistake::too_many_arrivals), Contains("more arrivals than the barrier"));
    CHECK_THROWS_WITH(run(Mistake::write_not_shown), Contains("meets what was written and not shown"));
    CHECK_THROWS_WITH(run(Mistake::no_begin), Contains("without begin_products"));
    CHECK_THROWS_WITH(run(Mistake::settled_before_wait), Contains("settled before the products"));
    CHECK_THROWS_WITH(run(Mistake::operand_overwritten), Contains("shared memory changed before") || Contains("written and not shown"));
    CHECK_THROWS_WITH(run(Mistake::registers_overwritten), Contains("registers changed before"));
    CHECK_THROWS_WITH(run(Mistake::no_wait_at_end), Contains("ended before its products did"));
    CHECK_THROWS_WITH(run(Mistake::one_warp_else), Contains("asked for different products"));
    CHECK_THROWS_WITH(run(Mistake::three_warps), Contains("not all warps of a warpgroup"));
    CHECK_THROWS_WITH(run(Mistake::within_swizzle), Contains("begins within its swizzle pattern"));
    CHECK_THROWS_WITH(run(Mistake::too_many_registers), Contains("98304 registers in all"));
    CHECK_THROWS_WITH(run(Mistake::one_warp_registers), Contains("setmaxnreg was not called by all warps"));
    run(Mistake::read_before_wait);
    CHECK(std::isnan(out[0]));
  }
  simt::set_order(1);
}
#endif
