// The host's way of running what is sm_90a's own: boxes and products are where the instruction set says.
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

using golem::bfloat16, golem::float16;
using golem::cuda::dynamic_shared;
namespace ptx = golem::cuda::ptx;

/// The first place of shared memory that swizzle patterns begin at.
__device__ unsigned char* aligned_shared() {
  unsigned char* start = dynamic_shared<unsigned char>();
  return start + (0u - ptx::shared_address(start)) % 1024;
}

/// Operands as they are to lie in shared memory, and how products find them, but for where they begin.
struct Laid {
  std::uint64_t matrix = 0;  // its start is the step of 16 along k
  std::vector<std::uint16_t> memory;
};
constexpr unsigned b_begin = 32 << 10;

/// c (64, 8 Columns) = a bT over 16 `steps`, both by rows; or, where `registers` are given, [step][thread][4], registers times b by columns.
template <class T, int Columns>
__global__ void multiply(float* c, const std::uint16_t* a, int a_size, std::uint64_t a_matrix, const std::uint32_t* registers, const std::uint16_t* b, int b_size, std::uint64_t b_matrix, int steps) {
  unsigned char* shared = aligned_shared();
  auto* a_place = reinterpret_cast<std::uint16_t*>(shared);
  auto* b_place = reinterpret_cast<std::uint16_t*>(shared + b_begin);
  for (int i = static_cast<int>(threadIdx.x); i < a_size; i += 128) a_place[i] = a[i];
  for (int i = static_cast<int>(threadIdx.x); i < b_size; i += 128) b_place[i] = b[i];
  ptx::show_shared_writes();
  __syncthreads();
  float sums[Columns][4];
  for (int n = 0; n < Columns; ++n)
    for (float& sum : sums[n]) sum = 0;
  std::uint32_t left[4][4];
  ptx::begin_products();
  const auto start = [](std::uint64_t matrix, const void* place, int step) {
    return ptx::SharedMatrix{(matrix & ~std::uint64_t{0x3fff}) | ((ptx::shared_address(place) >> 4) + (matrix & 0x3fff) * static_cast<unsigned>(step))};
  };
  for (int k = 0; k < steps; ++k) {
    if (!registers) {
      ptx::multiply_rows_async<T>(sums, start(a_matrix, a_place, k), start(b_matrix, b_place, k), k == 0 ? ptx::Sum::begins : ptx::Sum::goes_on);
      continue;
    }
    for (int i = 0; i < 4; ++i) left[k][i] = registers[(k * 128 + static_cast<int>(threadIdx.x)) * 4 + i];
    ptx::multiply_columns_async<T>(sums, left[k], start(b_matrix, b_place, k));
  }
  ptx::commit_products();
  ptx::wait_for_products<0>();
  ptx::settle(sums);
  const int row = static_cast<int>(threadIdx.x) / 32 * 16 + ptx::lane() / 4;
  for (int n = 0; n < Columns; ++n)
    for (int e = 0; e < 4; ++e) c[(row + e / 2 * 8) * 8 * Columns + 8 * n + 2 * (ptx::lane() % 4) + e % 2] = sums[n][e];
}

__global__ void copy(std::uint16_t* out, const __grid_constant__ CUtensorMap map, int x, int y, int z, int w, int elements) {
  unsigned char* shared = aligned_shared();
  auto* box = reinterpret_cast<std::uint16_t*>(shared);
  auto& barrier = *reinterpret_cast<ptx::PhaseBarrier*>(shared + 32768);
  if (threadIdx.x == 0) {
    ptx::init_barrier(barrier, 1);
    ptx::show_shared_writes();
    ptx::arrive_and_expect(barrier, 2 * elements);
    ptx::copy_box(box, map, x, y, z, w, barrier);
  }
  __syncthreads();
  ptx::wait_for_phase(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < elements; i += static_cast<int>(blockDim.x)) out[i] = box[i];
}

}  // namespace kernels

namespace {

using golem::Random, golem::View, golem::bfloat16, golem::float16;
using golem::cuda::Device;
using Catch::Matchers::Contains;
using kernels::Laid;

/// Chunk `chunk` of 16 bytes of row `row`, in rows of `span` bytes that are swizzled by it (PTX ISA, swizzling modes).
int swizzled_chunk(int row, int chunk, int span) { return span == 128 ? chunk ^ row % 8 : span == 64 ? chunk ^ row / 2 % 4 : span == 32 ? chunk ^ row / 4 % 2 : chunk; }

std::uint64_t mode_of(int span) { return std::uint64_t{span == 128 ? 1u : span == 64 ? 2u : span == 32 ? 3u : 0u} << 62; }
std::uint64_t matrix_of(int step, int leading, int stride, int span) {
  return static_cast<std::uint64_t>(step >> 4) | static_cast<std::uint64_t>(leading >> 4) << 16 | static_cast<std::uint64_t>(stride >> 4) << 32 | mode_of(span);
}

/// x (rows, k) by rows: k is all that fits in a swizzled row, or 16 in two halves, each of contiguous blocks of 8 rows by 16 bytes.
Laid laid_by_rows(const std::vector<std::uint16_t>& x, int rows, int k, int span) {
  Laid laid{span ? matrix_of(32, 0, 8 * span, span) : matrix_of(0, rows * 16, 128, 0), std::vector<std::uint16_t>(x.size())};
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < k; ++j) {
      const int chunk = span ? i * span / 16 + swizzled_chunk(i, j / 8, span) : j / 8 * rows + i;
      laid.memory[static_cast<std::size_t>(chunk * 8 + j % 8)] = x[static_cast<std::size_t>(i * k + j)];
    }
  return laid;
}

/// x (k, columns) by columns: boxes as wide as the swizzle, or of 8 columns, one behind the other.
Laid laid_by_columns(const std::vector<std::uint16_t>& x, int k, int columns, int span) {
  const int wide = span ? span / 2 : 8, box_bytes = k * wide * 2;
  Laid laid{span ? matrix_of(16 * span, box_bytes, 8 * span, span) : matrix_of(256, 128, box_bytes, 0), std::vector<std::uint16_t>(x.size())};
  for (int i = 0; i < k; ++i)
    for (int j = 0; j < columns; ++j) {
      const int chunk = j / wide * box_bytes / 16 + i * wide / 8 + swizzled_chunk(i, j % wide / 8, span);
      laid.memory[static_cast<std::size_t>(chunk * 8 + j % 8)] = x[static_cast<std::size_t>(i * columns + j)];
    }
  return laid;
}

template <class T>
std::vector<std::uint16_t> random_bits(int count, std::uint64_t stream) {
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = T(Random{5, stream}.normal(i)).bits;
  return bits;
}

/// The largest difference of c (64, columns) from a (64, k) times b, whose element (k, column) is b[k * b_k + column * b_column].
template <class T>
double difference(const std::vector<float>& c, const std::vector<std::uint16_t>& a, const std::vector<std::uint16_t>& b, int columns, int k, int b_k, int b_column) {
  const auto value = [](const std::vector<std::uint16_t>& x, int i) { return static_cast<double>(T::from_bits(x[static_cast<std::size_t>(i)])); };
  double largest = 0;
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < columns; ++j) {
      double sum = 0;
      for (int l = 0; l < k; ++l) sum += value(a, i * k + l) * value(b, l * b_k + j * b_column);
      const double d = std::abs(sum - static_cast<double>(c[static_cast<std::size_t>(i * columns + j)]));
      if (!(d <= largest)) largest = d;
    }
  return largest;
}

template <class T, int Columns>
void check_products(int span) {
  Device device;
  const int columns = 8 * Columns, by_rows = span ? span / 2 : 16, by_columns = 64;
  std::vector<float> c(static_cast<std::size_t>(64 * columns));
  const auto run = [&](const Laid& a, const std::vector<std::uint32_t>& registers, const Laid& b, int steps) {
    launch(device, {.name = "multiply", .threads = 128, .shared_bytes = 65 << 10}, kernels::multiply<T, Columns>, c.data(), a.memory.data(), static_cast<int>(a.memory.size()), a.matrix,
           registers.empty() ? nullptr : registers.data(), b.memory.data(), static_cast<int>(b.memory.size()), b.matrix, steps);
    device.synchronize();
  };
  INFO("swizzle " << span << ", " << columns << " columns");
  const auto a = random_bits<T>(64 * by_rows, 1), b = random_bits<T>(columns * by_rows, 2);
  run(laid_by_rows(a, 64, by_rows, span), {}, laid_by_rows(b, columns, by_rows, span), by_rows / 16);
  CHECK(difference<T>(c, a, b, columns, by_rows, 1, by_rows) < 1e-4);

  const auto left = random_bits<T>(64 * by_columns, 3), right = random_bits<T>(by_columns * columns, 4);
  std::vector<std::uint32_t> registers;  // PTX ISA, fragments of A in registers
  for (int k = 0; k < by_columns; k += 16)
    for (int thread = 0; thread < 128; ++thread)
      for (int i = 0; i < 4; ++i) {
        const int at = (thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8) * by_columns + k + thread % 4 * 2 + i / 2 * 8;
        registers.push_back(left[static_cast<std::size_t>(at)] | std::uint32_t{left[static_cast<std::size_t>(at + 1)]} << 16);
      }
  run({}, registers, laid_by_columns(right, by_columns, columns, span), by_columns / 16);
  CHECK(difference<T>(c, left, right, columns, by_columns, columns, 1) < 1e-4);
}

struct Hopper {
  simt::MachineRestored restored;
  Hopper() { simt::machine().major = 9; }
  ~Hopper() { simt::set_order(1); }
};

}  // namespace

TEMPLATE_TEST_CASE("a warpgroup multiplies matrices that lie as each swizzle mode says", "", float16, bfloat16) {
  const Hopper hopper;
  for (const int span : {0, 32, 64, 128}) {
    check_products<TestType, 8>(span);
    check_products<TestType, 16>(span);
  }
}

TEST_CASE("a box arrives swizzled, with zeros for what is outside of the tensor") {
  const Hopper hopper;
  constexpr int w = 3, z = 5, y = 2, x = 72;
  Device device;
  std::vector<bfloat16> tensor(w * z * y * x);
  for (std::size_t i = 0; i < tensor.size(); ++i) tensor[i] = bfloat16::from_bits(static_cast<std::uint16_t>(i + 1));
  golem::Buffer<bfloat16, Device> data(device, w * z * y * x, "test");
  device.copy_in(data.data(), tensor.data(), data.bytes());
  const CUtensorMap map = golem::cuda::describe_tensor(View<const bfloat16, 4>(data.data(), w, z, y, x), {2, 4, 1, 64});
  struct Corner {
    int x, y, z, w;
  };
  for (const std::uint64_t order : {1, 2})
    for (const Corner from : {Corner{0, 0, 0, 0}, Corner{8, 1, 1, 1}, Corner{64, 1, 3, 2}, Corner{-3, 0, -2, -1}, Corner{0, 2, 0, 0}}) {
      simt::set_order(order);
      std::vector<std::uint16_t> out(2 * 4 * 64, 0xffff);
      launch(device, {.name = "copy", .threads = 64, .shared_bytes = 34 << 10}, kernels::copy, out.data(), map, from.x, from.y, from.z, from.w, 2 * 4 * 64);
      device.synchronize();
      int wrong = 0;
      for (int row = 0; row < 8; ++row)
        for (int i = 0; i < 64; ++i) {
          const int tx = from.x + i, ty = from.y, tz = from.z + row % 4, tw = from.w + row / 4;
          const bool inside = tx >= 0 && tx < x && ty >= 0 && ty < y && tz >= 0 && tz < z && tw >= 0 && tw < w;
          const int expected = inside ? ((tw * z + tz) * y + ty) * x + tx + 1 : 0;
          wrong += out[static_cast<std::size_t>(row * 64 + swizzled_chunk(row, i / 8, 128) * 8 + i % 8)] != expected;
        }
      CHECK(wrong == 0);
    }
}

TEST_CASE("tensors that the copy engine cannot take are refused") {
  const Hopper hopper;
  std::vector<bfloat16> memory(4096);
  const auto describe = [&](const bfloat16* data, std::int64_t dims, int rows) { return golem::cuda::describe_tensor(View<const bfloat16, 4>(data, 1, 8, 2, dims), {1, rows, 1, 64}); };
  CHECK_THROWS_WITH(describe(memory.data() + 1, 64, 8), Contains("could not describe a tensor of shape (1, 8, 2, 64) for copies of 1 x 8 x 1 x 64") && Contains("returned 1"));
  CHECK_THROWS_WITH(describe(memory.data(), 60, 8), Contains("(1, 8, 2, 60)"));
  CHECK_THROWS_WITH(describe(memory.data(), 64, 257), Contains("257"));
  CHECK_THROWS_WITH(golem::cuda::runtime::driver_function("cuNoSuchThing", 12000), Contains("the driver has no cuNoSuchThing of CUDA 12.0: install a newer driver"));
}
