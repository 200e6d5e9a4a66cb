// Absmax and searched scales: GLM-130B's format to the bit, clamping and zero scales counted, errors within half a step.
// SPDX-License-Identifier: Apache-2.0
#include "golem/quant/absmax.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "golem/core/random.hpp"
#include "golem/quant/search.hpp"

using golem::bfloat16, golem::float16, golem::Quant, golem::QuantizationReport, golem::QuantizedView, golem::View;

namespace {

template <Quant Q>
struct Matrix {
  std::int64_t rows, columns;
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(static_cast<std::size_t>(rows * Q.row_bytes(columns)), 0xee);
  std::vector<float16> scales = std::vector<float16>(static_cast<std::size_t>(rows * Q.groups(columns)));
  QuantizedView<Q, std::uint8_t> view() { return {rows, columns, bytes.data(), scales.data()}; }
};

template <class T>
std::vector<T> normal_weights(std::int64_t count, float deviation) {
  const golem::Random random{.seed = 7, .stream = golem::stream_of("weights")};
  std::vector<T> w;
  for (std::int64_t i = 0; i < count; ++i) w.push_back(T(static_cast<float>(random.normal(static_cast<std::uint64_t>(i))) * deviation));
  return w;
}

/// The specification's formula (5.1) for one row, step by step, in double and fp16 bits; nothing of golem's is in it.
namespace plain {

double value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent > 0 ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return bits >> 15 ? -magnitude : magnitude;
}

/// The nearest fp16 number, ties to the even one.
double fp16(double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  const double unit = std::ldexp(1.0, std::max(exponent - 11, -24));
  return std::nearbyint(x / unit) * unit;
}

struct Row {
  double scale = 0;
  std::vector<int> integers;
};

Row quantized(const std::uint16_t* weights, std::int64_t columns, int largest) {
  Row row;
  for (std::int64_t i = 0; i < columns; ++i) row.scale = std::max(row.scale, std::fabs(value(weights[i])));
  row.scale = fp16(row.scale / largest);
  for (std::int64_t i = 0; i < columns; ++i) {
    const double integer = row.scale > 0 ? std::nearbyint(fp16(value(weights[i]) / row.scale)) : 0;
    row.integers.push_back(static_cast<int>(std::min<double>(std::max<double>(integer, -largest), largest)));
  }
  return row;
}

}  // namespace plain

/// Counts of rows with a subnormal and with no scale, that the test met them.
template <Quant Q>
std::pair<int, int> compare_with_plain(std::int64_t rows, std::int64_t columns, const std::vector<std::uint16_t>& bits) {
  std::vector<float16> w;
  for (const std::uint16_t b : bits) w.push_back(float16::from_bits(b));
  Matrix<Q> found{rows, columns};
  golem::quantize(found.view(), View<const float16, 2>(w.data(), rows, columns));
  std::pair<int, int> met{0, 0};
  for (std::int64_t r = 0; r < rows; ++r) {
    const plain::Row row = plain::quantized(bits.data() + r * columns, columns, Q.bits == 8 ? 127 : 7);
    met.first += row.scale > 0 && row.scale < 6.1035e-5, met.second += row.scale == 0;
    std::vector<std::uint8_t> expected;
    for (std::int64_t c = 0; c < columns; ++c) {
      const int integer = row.integers[static_cast<std::size_t>(c)];
      if (Q.bits == 8)
        expected.push_back(static_cast<std::uint8_t>(integer & 255));
      else if (c % 2 == 0)
        expected.push_back(static_cast<std::uint8_t>((integer & 15) << 4));  // even columns high
      else
        expected.back() = static_cast<std::uint8_t>(expected.back() | (integer & 15));
    }
    const auto* const stored = found.bytes.data() + r * static_cast<std::int64_t>(expected.size());
    INFO("row " << r << " of (" << rows << ", " << columns << "), scale " << row.scale);
    REQUIRE(plain::value(found.scales[static_cast<std::size_t>(r)].bits) == row.scale);
    REQUIRE(std::vector<std::uint8_t>(stored, stored + expected.size()) == expected);
  }
  return met;
}

}  // namespace

TEST_CASE("what is stored is what the specification's formula gives, for fp16 weights of any size") {
  const golem::Random random{.seed = 5, .stream = golem::stream_of("fp16")};
  std::uint64_t drawn = 0;
  int subnormal = 0, none = 0;
  for (const std::int64_t columns : {1, 2, 3, 31, 64, 255, 256, 257, 600})
    for (int largest = 0; largest <= 30; ++largest) {  // exponents of the largest weights: from subnormal numbers to 65504
      const std::int64_t rows = 7;
      std::vector<std::uint16_t> bits;
      for (std::int64_t i = 0; i < rows * columns; ++i) {
        const auto word = random.below(drawn++, 1 << 16), few = random.below(drawn++, 40);
        const auto exponent = std::max(0, largest - static_cast<int>(few % 6));  // within 6 octaves, so that all integers come up
        bits.push_back(static_cast<std::uint16_t>(few == 39 || i / columns == rows - 1 ? word & 0x8000 : (word & 0x83ff) | static_cast<unsigned>(exponent) << 10));
      }
      for (const auto& [small, zero] : {compare_with_plain<Quant{.bits = 8}>(rows, columns, bits), compare_with_plain<Quant{.bits = 4}>(rows, columns, bits)})
        subnormal += small, none += zero;
    }
  CHECK(subnormal > 100);
  CHECK(none > 100);
}

TEST_CASE("quantisation gives the integers and bytes of the original on the specification's vector") {
  std::vector<float16> w;
  for (const int bits : {0x224C, 0xA9D6, 0x2CF9, 0x9A59, 0x0000, 0x2A66, 0xACF9, 0x21A2})
    w.push_back(float16::from_bits(static_cast<std::uint16_t>(bits)));
  const View<const float16, 2> weights(w.data(), 1, 8);

  Matrix<Quant{.bits = 8}> eight{1, 8};
  golem::quantize(eight.view(), weights);
  CHECK(eight.scales[0].bits == 0x1103);
  const int integers8[]{20, -74, 127, -5, 0, 82, -127, 18};
  for (int i = 0; i < 8; ++i) CHECK(eight.view().integer(0, i) == integers8[i]);

  Matrix<Quant{.bits = 4}> four{1, 8};
  golem::quantize(four.view(), weights);
  CHECK(four.scales[0].bits == 0x21AF);
  const int integers4[]{1, -4, 7, 0, 0, 5, -7, 1};
  for (int i = 0; i < 8; ++i) CHECK(four.view().integer(0, i) == integers4[i]);
  CHECK(four.bytes == std::vector<std::uint8_t>{0x1C, 0x70, 0x05, 0x91});
}

TEST_CASE("weights of other types are rounded to fp16 first where a row has one scale") {
  const auto wide = normal_weights<float>(3 * 50, 0.02f);
  std::vector<float16> narrow;
  for (const float w : wide) narrow.push_back(float16(w));
  Matrix<Quant{.bits = 8}> a{3, 50}, b{3, 50};
  golem::quantize(a.view(), View<const float, 2>(wide.data(), 3, 50));
  golem::quantize(b.view(), View<const float16, 2>(narrow.data(), 3, 50));
  CHECK(a.bytes == b.bytes);
  CHECK(a.scales == b.scales);
}

TEST_CASE("subnormal scales clamp, and zero scales give zeros; both are counted") {
  std::vector<float16> w{float16(9e-5f), float16(-1e-5f), float16(3e-6f), float16(0.0f), float16(0.0f), float16(0.0f)};
  Matrix<Quant{.bits = 8}> q{3, 2};  // scales: subnormal, zero (too small), zero (no weights)
  const QuantizationReport report = golem::quantize(q.view(), View<const float16, 2>(w.data(), 3, 2));
  CHECK(report.weights == 6);
  CHECK(report.zero_scales == 2);
  for (int column = 0; column < 2; ++column) CHECK(q.view().integer(1, column) == 0);

  w = {float16::from_bits(190), float16(0.0f)};  // 190 units of 2^-24, scale fp16(190 / 127) = one unit: the original stores 190, wrapped
  Matrix<Quant{.bits = 8}> wrapped{1, 2};
  const QuantizationReport clamped = golem::quantize(wrapped.view(), View<const float16, 2>(w.data(), 1, 2));
  CHECK(wrapped.scales[0].bits == 1);
  CHECK(wrapped.view().integer(0, 0) == 127);
  CHECK(clamped.clamped == 1);
}

TEST_CASE("weights that are not finite are refused, and counted where rows are quantised by the caller") {
  std::vector<float> w(64, 1.0f);
  w[3] = NAN, w[40] = 1e6f;
  Matrix<Quant{.bits = 4}> row{2, 32};
  CHECK_THROWS_WITH(golem::quantize(row.view(), View<const float, 2>(w.data(), 2, 32)),
                    Catch::Matchers::Contains("2 of its weights are NaN or infinite in fp16"));
  Matrix<Quant{.bits = 4, .group = 32}> group{2, 32};
  const auto report = golem::quantize_rows(group.view(), View<const float, 2>(w.data(), 2, 32), 0, 1);
  CHECK(report.not_finite == 1);
  CHECK(group.view().integer(0, 3) == 0);
  CHECK(group.view().integer(0, 4) == 7);
  CHECK_THROWS_WITH(golem::quantize(group.view(), View<const float, 2>(w.data(), 1, 64)), Catch::Matchers::Contains("(1, 64)"));
}

TEST_CASE("a weight whose scale would be infinite counts as not finite, and leaves its group a scale") {
  std::vector<float> w(64, 1.0f);
  w[3] = 65519.0f * 7, w[40] = -65521.0f * 7;  // scales of 65504 and infinity
  Matrix<Quant{.bits = 4, .group = 32}> group{1, 64};
  CHECK_THROWS_WITH(golem::quantize(group.view(), View<const float, 2>(w.data(), 1, 64)), Catch::Matchers::Contains("1 of its weights are NaN or infinite, or too large for a scale in fp16"));
  for (const bool search : {false, true}) {
    const auto report = golem::quantize_rows(search ? golem::Quantizer::search : golem::Quantizer::absmax, group.view(), View<const float, 2>(w.data(), 1, 64), 0, 1);
    CHECK(report.not_finite == 1);
    CHECK(std::isfinite(report.signal_to_noise()));
    CHECK(static_cast<float>(group.scales[0]) == 65504.0f);
    CHECK(static_cast<float>(group.scales[1]) < 1);
    CHECK((group.view().integer(0, 3) == 7 && group.view().integer(0, 40) == 0 && group.view().integer(0, 41) == 7));
  }
}

TEMPLATE_TEST_CASE("each weight comes back within half a step and fp16 rounding of its group, and the report adds up the errors", "", float, bfloat16, float16) {
  const std::int64_t rows = 5, columns = 77;  // an odd number of columns, a short last group
  const auto w = normal_weights<TestType>(rows * columns, 0.02f);
  const View<const TestType, 2> weights(w.data(), rows, columns);
  const auto check = [&](auto matrix) {
    auto to = matrix.view();
    QuantizationReport report = golem::quantize_rows(to, weights, 0, 2);
    report += golem::quantize_rows(to, weights, 2, rows - 2);
    std::vector<float> back(w.size());
    golem::dequantize(View<float, 2>(back.data(), rows, columns), to);
    double squared = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) {
        const double error = static_cast<double>(weights(r, c)) - back[static_cast<std::size_t>(r * columns + c)];
        REQUIRE(std::fabs(error) <= 0.6 * to.scale(r, c));
        squared += error * error;
      }
    CHECK(report.squared_error == Approx(squared));
    CHECK(report.weights == rows * columns);
    CHECK(report.not_finite + report.zero_scales == 0);
    return report.signal_to_noise();
  };
  const double rows8 = check(Matrix<Quant{.bits = 8}>{rows, columns}), rows4 = check(Matrix<Quant{.bits = 4}>{rows, columns});
  const double groups4 = check(Matrix<Quant{.bits = 4, .group = 32}>{rows, columns});
  CHECK(rows8 > 38);
  CHECK(rows4 > 14);
  CHECK(groups4 > rows4);
  Matrix<Quant{.bits = 4}> odd{rows, columns};
  golem::quantize(odd.view(), weights);
  for (std::int64_t r = 0; r < rows; ++r) CHECK((odd.view().data(r, columns / 2) & 15) == 0);
}

TEST_CASE("fp16 weights come back as the original's product of fp16 numbers") {
  const auto w = normal_weights<float16>(4 * 64, 0.02f);
  Matrix<Quant{.bits = 8}> q{4, 64};
  golem::quantize(q.view(), View<const float16, 2>(w.data(), 4, 64));
  std::vector<float16> back(w.size());
  golem::dequantize(View<float16, 2>(back.data(), 4, 64), q.view());
  CHECK(back[9] == float16(static_cast<float>(q.view().integer(0, 9)) * static_cast<float>(q.scales[0])));
}

TEST_CASE("searched scales never have a larger squared error than absmax, in any group") {
  auto w = normal_weights<float>(6 * 384, 0.02f);
  for (std::size_t i = 0; i < w.size(); i += 97) w[i] *= 8;  // outliers
  w[5] = 0;
  const auto compare = [&](auto plain, auto searched) {
    for (std::int64_t row = 0; row < plain.rows; ++row) {
      const View<const float, 2> weights(w.data(), plain.rows, plain.columns);
      const auto a = golem::quantize_rows(golem::Quantizer::absmax, plain.view(), weights, row, 1);
      const auto b = golem::quantize_rows(golem::Quantizer::search, searched.view(), weights, row, 1);
      REQUIRE(b.squared_error <= a.squared_error);
    }
  };
  compare(Matrix<Quant{.bits = 4}>{6, 384}, Matrix<Quant{.bits = 4}>{6, 384});
  compare(Matrix<Quant{.bits = 8}>{6, 384}, Matrix<Quant{.bits = 8}>{6, 384});
  compare(Matrix<Quant{.bits = 4, .group = 32}>{72, 32}, Matrix<Quant{.bits = 4, .group = 32}>{72, 32});
  Matrix<Quant{.bits = 4}> plain{6, 384}, searched{6, 384};
  const View<const float, 2> weights(w.data(), 6, 384);
  CHECK(golem::quantize<golem::SearchedScale>(searched.view(), weights).signal_to_noise() >
        golem::quantize(plain.view(), weights).signal_to_noise() + 1);
}
