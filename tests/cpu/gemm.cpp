// What is the CPU's own of the products of a linear layer: threads, instruction sets, packing, and oneDNN beside golem's kernels.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/gemm.hpp"

#include <cstring>
#include <vector>

#include "ops/linear.hpp"

using namespace ops;
using golem::cpu::Isa;

namespace {

template <class T>
View<T, 2> matrix(std::vector<T>& values, std::int64_t rows, std::int64_t columns) {
  return {values.data(), rows, columns};
}

std::vector<Isa> levels() {
  std::vector<Isa> all;
  for (int level = 0; level <= static_cast<int>(golem::cpu::detect_isa()); ++level) all.push_back(static_cast<Isa>(level));
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("project gives the same bits for any number of threads", "", float, double, bfloat16, float16) {
  for (const Isa isa : {Isa::plain, golem::cpu::detect_isa()})
    for (const Shape s : {Shape{3, 200, 333}, Shape{300, 210, 410}, Shape{520, 64, 800}, Shape{2048, 200, 40}}) {
      TestDevice one({.threads = 1, .isa = isa});
      const Results<TestType, TestType> expected(one, s);
      for (const int threads : {2, 3, 8}) {
        TestDevice device({.threads = threads, .isa = isa});
        const Results<TestType, TestType> got(device, s);
        INFO(threads << " threads, " << name_of(isa) << ", N " << s.n);
        CHECK(same_bits(got.y, expected.y));
        CHECK(same_bits(got.dx, expected.dx));
        CHECK(same_bits(got.dw, expected.dw));
        CHECK(same_bits(got.dbias, expected.dbias));
      }
    }
}

TEST_CASE("a row is the same number whether it is projected alone or with fifteen others") {
  TestDevice device({.threads = 2});
  constexpr std::int64_t rows = 16, inputs = 211, outputs = 39;
  auto x = draw<bfloat16>(rows * inputs, 1), w = draw<bfloat16>(outputs * inputs, 2);
  std::vector<float> together(rows * outputs), alone(outputs);
  project(device, matrix(together, rows, outputs), matrix(x, rows, inputs), matrix(w, outputs, inputs), {});
  for (std::int64_t r = 0; r < rows; ++r) {
    project(device, matrix(alone, 1, outputs), View<const bfloat16, 2>(x.data() + r * inputs, 1, inputs), matrix(w, outputs, inputs), {});
    REQUIRE(std::memcmp(alone.data(), together.data() + r * outputs, outputs * sizeof(float)) == 0);
  }
}

TEST_CASE("widening and narrowing in vectors are the scalar conversions") {
  for (const Isa isa : levels()) {
    std::vector<float> values;
    for (std::uint32_t i = 0; i < 0xffffu; ++i) values.push_back(golem::bits_as<float>(i * 65551u));  // all exponents, both signs, ties, NaN
    for (std::uint32_t i = 0; i < 0x8000u; ++i)
      values.push_back(0.5f * (static_cast<float>(float16::from_bits(static_cast<std::uint16_t>(i))) +
                               static_cast<float>(float16::from_bits(static_cast<std::uint16_t>(i + 1)))));
    const auto count = static_cast<std::int64_t>(values.size());
    std::vector<float16> halves(values.size());
    std::vector<bfloat16> brains(values.size());
    golem::cpu::run_on(isa, golem::cpu::Narrow<float16>{halves.data(), values.data(), count});
    golem::cpu::run_on(isa, golem::cpu::Narrow<bfloat16>{brains.data(), values.data(), count});
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (halves[i] != float16(values[i]) || brains[i] != bfloat16(values[i]))
        FAIL(values[i] << " became " << halves[i].bits << " and " << brains[i].bits);
    }
    std::vector<float> strip(golem::cpu::strip_lines);
    for (std::uint32_t i = 0; i < 65536; i += 16) {
      float16 source[16];
      for (std::uint32_t j = 0; j < 16; ++j) source[j] = float16::from_bits(static_cast<std::uint16_t>(i + j));
      golem::cpu::run_on(isa, golem::cpu::PackStrips<float, float16>{strip.data(), {source, 1, 16}, 16, 1});
      for (std::size_t j = 0; j < 16; ++j) {
        const float expected = static_cast<float>(source[j]);
        if (golem::bits_as<std::uint32_t>(strip[j]) != golem::bits_as<std::uint32_t>(expected))
          FAIL("float16 " << source[j].bits << " became " << strip[j]);
      }
    }
  }
}

TEST_CASE("project cuts operands that are too large to be packed at once") {
  constexpr Shape s{1600, 6200, 17};  // 6200 deep: slabs of 768 lines
  TestDevice device({.threads = 2, .isa = Isa::plain});
  auto x = draw<float>(s.n * s.i, 1), w = draw<float>(s.o * s.i, 2);
  std::vector<float> y(static_cast<std::size_t>(s.n * s.o)), swapped(y.size());
  project(device, matrix(y, s.n, s.o), matrix(x, s.n, s.i), matrix(w, s.o, s.i), {});
  using golem::cpu::Product;
  multiply_plain(device, Product<float, float>{s.o, s.n, s.i, {w.data(), s.i, 1}, {x.data(), s.i, 1}, swapped.data(), s.n});
  for (std::int64_t r = 0; r < s.n; r += 7)
    for (std::int64_t c = 0; c < s.o; ++c) REQUIRE(y[static_cast<std::size_t>(r * s.o + c)] == swapped[static_cast<std::size_t>(c * s.n + r)]);
  double expected = 0;
  for (std::int64_t k = 0; k < s.i; ++k) expected += double{x[static_cast<std::size_t>(1599 * s.i + k)]} * w[static_cast<std::size_t>(16 * s.i + k)];
  REQUIRE(y.back() == Approx(expected).margin(1e-3));
}

#if GOLEM_ONEDNN
TEMPLATE_TEST_CASE("oneDNN and golem's kernels agree, float and bfloat16", "", float, bfloat16) {
  using golem::cpu::Product;
  if (std::is_same_v<TestType, bfloat16> && golem::cpu::detect_isa() < Isa::avx512) return;  // oneDNN 2.6 refuses bfloat16 there, and golem never asks
  TestDevice device({.threads = 2});
  for (const Shape s : shapes) {
    auto x = draw<TestType>(s.n * s.i, 1), w = draw<TestType>(s.o * s.i, 2), bias = draw<TestType>(s.o, 3), dy = draw<TestType>(s.n * s.o, 4);
    std::vector<float> vendor(static_cast<std::size_t>(s.n * s.o)), own(vendor.size());
    std::vector<float> dw(static_cast<std::size_t>(s.o * s.i), 0.5f), dw_own(dw);
    std::vector<TestType> dx(static_cast<std::size_t>(s.n * s.i)), dx_own(dx);
    for (int repeat = 0; repeat < 2; ++repeat) {  // the second time from the cache
      multiply_onednn(device, Product<TestType, float>{s.n, s.o, s.i, {x.data(), s.i, 1}, {w.data(), s.i, 1}, vendor.data(), s.o, bias.data()});
      multiply_plain(device, Product<TestType, float>{s.n, s.o, s.i, {x.data(), s.i, 1}, {w.data(), s.i, 1}, own.data(), s.o, bias.data()});
      multiply_onednn(device, Product<TestType, TestType>{s.n, s.i, s.o, {dy.data(), s.o, 1}, {w.data(), 1, s.i}, dx.data(), s.i});
      multiply_plain(device, Product<TestType, TestType>{s.n, s.i, s.o, {dy.data(), s.o, 1}, {w.data(), 1, s.i}, dx_own.data(), s.i});
      multiply_onednn(device, Product<TestType, float>{s.o, s.i, s.n, {dy.data(), 1, s.o}, {x.data(), 1, s.i}, dw.data(), s.i, nullptr, true});
      multiply_plain(device, Product<TestType, float>{s.o, s.i, s.n, {dy.data(), 1, s.o}, {x.data(), 1, s.i}, dw_own.data(), s.i, nullptr, true});
    }
    INFO("N " << s.n << ", I " << s.i << ", O " << s.o);
    require_close<float>(vendor, widened(own), s.i);
    require_close<float>(dx, widened(dx_own), s.o);
    require_close<float>(dw, widened(dw_own), 2 * s.n);
  }
}

TEST_CASE("oneDNN is kept to the calling thread outside parallel regions") {
#if defined(_OPENMP)
  const int before = omp_get_max_threads();
  {
    const golem::cpu::OneThread one_thread;
    CHECK(omp_get_max_threads() == 1);
  }
  CHECK(omp_get_max_threads() == before);
#endif
}
#endif
