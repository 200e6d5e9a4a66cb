// The host's way of running kernels finds what is wrong with a kernel, and lets pass what a GPU lets pass.
// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.hpp"

#include <cmath>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/core/number.hpp"
#include "golem/core/random.hpp"
#include "golem/cuda/launch.hpp"
#include "golem/cuda/ptx.cuh"

namespace kernels {

using golem::bfloat16, golem::float16;
using golem::cuda::dynamic_shared;
namespace ptx = golem::cuda::ptx;

/// A block's sum, finished by warp 0 alone; the other warps end.
__global__ void sum(float* out, const float* in, int count) {
  float* partial = dynamic_shared<float>();
  float total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) total += in[i];
  for (int lanes = 16; lanes > 0; lanes /= 2) total += ptx::shuffle_xor(total, lanes);
  if (ptx::lane() == 0) partial[threadIdx.x / 32] = total;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  total = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f;
  for (int lanes = 16; lanes > 0; lanes /= 2) total += ptx::shuffle_xor(total, lanes);
  if (threadIdx.x == 0) out[blockIdx.x] = total;
}

/// Threads beyond `count` return before the barrier that the others meet at.
__global__ void early_return(float* out, int count) {
  float* shared = dynamic_shared<float>();
  if (static_cast<int>(threadIdx.x) >= count) return;
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = shared[static_cast<unsigned>(count) - 1 - threadIdx.x];
}

__global__ void divergent(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[0] = 1;
  } else {
    __syncthreads();
    out[1] = 1;
  }
}

__global__ void half_in_shuffle(float* out) {
  if (threadIdx.x < 48) out[threadIdx.x] = ptx::shuffle_xor(1.0f, 1);
  else __syncthreads();
}

__global__ void missing_barrier(float* out) {
  float* shared = dynamic_shared<float>();
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = shared[threadIdx.x ^ 32];
}

/// The barrier behind the read is missing: a fast thread overwrites what a slow one has still to read.
__global__ void missing_second_barrier(float* out) {
  float* shared = dynamic_shared<float>();
  for (int round = 0; round < 4; ++round) {
    shared[threadIdx.x] = static_cast<float>(round);
    __syncthreads();
    const float other = shared[threadIdx.x ^ 32];
    if (other != static_cast<float>(round)) out[0] = 1;
  }
}

/// The same between warps that are many steps of their own away from it.
__global__ void missing_second_barrier_behind_shuffles(float* out) {
  float* shared = dynamic_shared<float>();
  for (int round = 0; round < 4; ++round) {
    shared[threadIdx.x] = static_cast<float>(round);
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += ptx::shuffle_xor(static_cast<float>(i), i);
    if (shared[threadIdx.x ^ 32] != static_cast<float>(round) || sum < 0) out[0] = 1;
  }
}

__global__ void named_barriers(float* out) {
  float* shared = dynamic_shared<float>();
  const unsigned half = threadIdx.x / 64;
  shared[threadIdx.x] = static_cast<float>(threadIdx.x);
  ptx::meet(1 + static_cast<int>(half), 64);
  out[threadIdx.x] = shared[threadIdx.x ^ 63];
}

__global__ void beyond_shared(float*) { dynamic_shared<float>()[threadIdx.x + 1] = 1; }

__global__ void copies(float* out, const float* in, int wait) {
  float* shared = dynamic_shared<float>();
  ptx::copy_async(shared + 4 * threadIdx.x, in + 4 * threadIdx.x);
  ptx::commit_copies();
  if (wait) ptx::wait_for_copies<0>();
  __syncthreads();
  out[threadIdx.x] = shared[4 * (threadIdx.x ^ 1)];
  if (!wait) ptx::wait_for_copies<0>();
}

__global__ void copy_left_over(float*, const float* in) {
  ptx::copy_async(dynamic_shared<float>(), in);
}

/// c (16, 8) = a (16, 16) b (16, 8), a by rows, b by rows.
template <class T>
__global__ void multiply(float* c, const T* a, const T* b) {
  T* shared = dynamic_shared<T>();  // a, then b in rows of 16, of which 8 are used
  for (int i = ptx::lane(); i < 256; i += 32) shared[i] = a[i], shared[256 + i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : T(0.0f);
  __syncwarp();
  std::uint32_t left[4], right[4];
  float sums[4]{};
  ptx::load_matrices(left, shared + ptx::lane() % 16 * 16 + ptx::lane() / 16 * 8);
  ptx::load_matrices_transposed(right, shared + 256 + ptx::lane() % 16 * 16 + ptx::lane() / 16 * 8);
  const std::uint32_t first[2]{right[0], right[1]};
  ptx::multiply_add<T>(sums, left, first);
  const int row = ptx::lane() / 4, column = 2 * (ptx::lane() % 4);
  c[row * 8 + column] = sums[0], c[row * 8 + column + 1] = sums[1], c[(row + 8) * 8 + column] = sums[2], c[(row + 8) * 8 + column + 1] = sums[3];
}

__global__ void multiply_in_half_a_warp(float* out) {
  const std::uint32_t a[4]{}, b[2]{};
  float c[4]{};
  if (ptx::lane() < 16) ptx::multiply_add<float16>(c, a, b);
  out[0] = c[0];
}

}  // namespace kernels

namespace {

using golem::cuda::Device, golem::cuda::Launch;
using Catch::Matchers::Contains;

constexpr std::uint64_t orders[]{0, 1, 2, 3, 4};

struct OrderRestored {
  ~OrderRestored() { simt::set_order(1); }
};

/// Runs a kernel under one order of threads and returns what it wrote to its first argument.
template <class Kernel, class... Arguments>
std::vector<float> run(Kernel kernel, std::size_t size, const Launch& how, Arguments... arguments) {
  Device device;
  std::vector<float> out(size, -1.0f);
  launch(device, how, kernel, out.data(), arguments...);
  device.synchronize();
  return out;
}

}  // namespace

TEST_CASE("a block's sum that warp 0 finishes alone is right in every order of threads") {
  const OrderRestored restored;
  std::vector<float> in(1000);
  float expected = 0;
  for (std::size_t i = 0; i < in.size(); ++i) expected += in[i] = static_cast<float>(i);
  for (const std::uint64_t order : orders) {
    simt::set_order(order);
    CHECK(run(kernels::sum, 1, {.name = "sum", .threads = 256, .shared_bytes = 8 * sizeof(float)}, in.data(), 1000)[0] == expected);
  }
}

TEST_CASE("threads that have ended are not waited for") {
  const OrderRestored restored;
  for (const std::uint64_t order : orders) {
    simt::set_order(order);
    const auto out = run(kernels::early_return, 64, {.name = "early return", .threads = 64, .shared_bytes = 256}, 40);
    CHECK(out[0] == 39);
    CHECK(out[39] == 0);
    CHECK(out[40] == -1);
  }
}

TEST_CASE("threads that wait in vain are reported, with kernel, block, threads and barriers") {
  CHECK_THROWS_WITH(run(kernels::divergent, 2, {.name = "divergent", .threads = 64}), Contains("met at different barriers") && Contains("kernels::divergent") && Contains("block (0, 0, 0)"));
  CHECK_THROWS_WITH(run(kernels::half_in_shuffle, 64, {.name = "half", .threads = 64}),
                    Contains("nobody can move") && Contains("threads 48 to 63 wait at barrier 0") && Contains("threads 32 to 47 wait in shuffle_xor for the lanes 0xffffffff"));
  CHECK_THROWS_WITH(run(kernels::multiply_in_half_a_warp, 1, {.name = "half", .threads = 32}), Contains("nobody can move") && Contains("threads 16 to 31 have ended"));
}

TEST_CASE("a missing barrier shows, whatever it misses") {
  const OrderRestored restored;
  int wrong = 0, overwritten = 0, far_away = 0;
  for (const std::uint64_t order : orders) {
    simt::set_order(order);
    const auto out = run(kernels::missing_barrier, 64, {.name = "missing", .threads = 64, .shared_bytes = 256});
    for (std::size_t i = 0; i < out.size(); ++i) wrong += !(out[i] == static_cast<float>(i ^ 32));
    far_away += run(kernels::missing_second_barrier_behind_shuffles, 1, {.name = "missing", .threads = 64, .shared_bytes = 256})[0] == 1;
    overwritten += run(kernels::missing_second_barrier, 1, {.name = "missing", .threads = 64, .shared_bytes = 256})[0] == 1;
  }
  CHECK(wrong > 0);
  CHECK(overwritten > 0);
  CHECK(far_away > 0);
}

TEST_CASE("halves of a block meet at barriers of their own") {
  const auto out = run(kernels::named_barriers, 128, {.name = "named", .threads = 128, .shared_bytes = 512});
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == static_cast<float>(i ^ 63));
}

#if !defined(__SANITIZE_ADDRESS__)  // which stops the program at the same places
TEST_CASE("writes beyond shared memory are found") {
  CHECK_THROWS_WITH(run(kernels::beyond_shared, 1, {.name = "beyond", .threads = 32, .shared_bytes = 128}), Contains("written beyond its 128 bytes"));
}

TEST_CASE("a copy that is read before it was waited for is NaN") {
  std::vector<float> in(128);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  CHECK(run(kernels::copies, 32, {.name = "copies", .threads = 32, .shared_bytes = 512}, in.data(), 1)[3] == 8);
  CHECK(std::isnan(run(kernels::copies, 32, {.name = "copies", .threads = 32, .shared_bytes = 512}, in.data(), 0)[3]));
  CHECK_THROWS_WITH(run(kernels::copy_left_over, 1, {.name = "copies", .threads = 1, .shared_bytes = 512}, in.data()), Contains("thread 0 ended before its copies"));
}
#endif

TEMPLATE_TEST_CASE("matrices go through a warp as the instruction set says", "", golem::float16, golem::bfloat16) {
  std::vector<TestType> a(256), b(128);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = TestType(golem::Random{1, 1}.normal(i));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = TestType(golem::Random{1, 2}.normal(i));
  const auto c = run(kernels::multiply<TestType>, 128, {.name = "multiply", .threads = 32, .shared_bytes = 1024}, a.data(), b.data());
  for (std::size_t i = 0; i < 16; ++i)
    for (std::size_t j = 0; j < 8; ++j) {
      double expected = 0;
      for (std::size_t k = 0; k < 16; ++k) expected += static_cast<double>(a[i * 16 + k]) * static_cast<double>(b[k * 8 + j]);
      CHECK(c[i * 8 + j] == Approx(expected).margin(1e-5));
    }
}
