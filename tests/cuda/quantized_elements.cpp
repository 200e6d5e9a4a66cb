// Quantised products of many tokens: elements of a few rows at a time, beside the workspace of cuBLASLt, whatever it can and however it chooses.
// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "ops/quantized.hpp"

using namespace ops;
using golem::cuda::ProductChoice;

namespace {

/// The results with elements of `most` rows at once.
template <class T, Quant Q>
std::vector<T> product(TestDevice& device, const QuantizedCase<T, Q>& c, std::int64_t most) {
  const auto bytes = upload(device, c.bytes);
  const auto scales = upload(device, c.scales);
  const auto x = upload(device, c.x), bias = upload(device, c.bias), y = upload(device, std::vector<T>(static_cast<std::size_t>(c.tokens * c.rows), T(-7.0f)));
  cuda::multiply_quantized_elements<T>(device, View<T, 2>(y.data(), c.tokens, c.rows), View<const T, 2>(x.data(), c.tokens, c.columns), QuantizedView<Q>(c.rows, c.columns, bytes.data(), scales.data()),
                                       View<const T, 1>(bias.data(), c.rows), most);
  return download(device, y);
}

}  // namespace

TEMPLATE_TEST_CASE("elements of a few rows at a time make the results of all at once", "", float, float16, bfloat16) {
  using T = TestType;
  const simt::MachineRestored restored;
  for (const auto& [rows, columns] : {std::pair{40, 64}, {37, 64}, {40, 50}, {16, 64}}) {
    const QuantizedCase<T, Quant{.bits = 4, .group = 32}> c(5, rows, columns);
    TestDevice plain, fastest({.products = ProductChoice::fastest});
    simt::machine().lt_epilogues = true;
    const std::vector<T> all = product(plain, c, rows);
    for (const std::int64_t most : {16, 8, 1}) {
      INFO(rows << " x " << columns << ", " << most << " rows at once");
      CHECK(product(plain, c, most) == all);
      simt::machine().lt_epilogues = false;  // a cuBLASLt that adds no bias
      CHECK(product(plain, c, most) == all);
      simt::machine().lt_epilogues = true, simt::machine().lt_milliseconds = {2, 1}, simt::machine().lt_workspaces = {4096, 64};
      CHECK(product(fastest, c, most) == all);
      simt::machine().lt_milliseconds.clear(), simt::machine().lt_workspaces.clear();
    }
  }
}
