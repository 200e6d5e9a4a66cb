// What is the CPU's own of attention: threads do not change it.
// SPDX-License-Identifier: Apache-2.0
#include "golem/cpu/attention.hpp"

#include <vector>

#include "catch.hpp"
#include "ops/attending.hpp"

using namespace ops;

TEMPLATE_TEST_CASE("results do not depend on the number of threads", "", float, bfloat16) {
  for (auto c : cases()) {
    c.dropout = 0.1;
    const auto qkv = converted<TestType>(normals(c.qkv_size(), 1)), dout = converted<TestType>(normals(c.out_size(), 2));
    cpu::Device one({.threads = 1});
    const auto expected = run(one, c, qkv, dout);
    for (const int threads : {2, 3}) {
      cpu::Device device({.threads = threads});
      const auto result = run(device, c, qkv, dout);
      CHECK(result.out == expected.out);
      CHECK(result.log_sum == expected.log_sum);
      CHECK(result.dqkv == expected.dqkv);
    }
  }
}
