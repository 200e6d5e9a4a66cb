// The described machines: found by name, and no number lost.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/hardware.hpp"

#include "catch.hpp"

using namespace golem;

TEST_CASE("machines are found by name, and an unknown one is answered with all names") {
  for (const Hardware* h : all_hardware) CHECK(&hardware_named(h->name) == h);
  CHECK_THROWS_WITH(hardware_named("A100"), Catch::Matchers::Contains("name one of A100-40G, A100-80G, H100, H200, V100-32G, RTX 3090, RTX 2080 Ti"));
}

TEST_CASE("each machine's numbers are of the right size") {
  for (const Hardware* h : all_hardware) {
    INFO(h->name);
    CHECK((h->fp16 > 50e12 && h->fp16 < 1000e12));
    CHECK((h->bf16 == 0 || h->bf16 == h->fp16));
    CHECK((h->fp32 > 10e12 && h->fp32 < h->fp16 / 1.5));
    CHECK((h->bandwidth > 600e9 && h->bandwidth < 5e12));
    CHECK((h->memory > 10 * gibibyte && h->memory < 150 * gibibyte));
    CHECK(h->inside.bandwidth > h->between.bandwidth);
    CHECK(h->usable() < h->memory);
    CHECK(h->rate(DType::f16) == h->fp16);
    CHECK(h->rate(DType::u8) == 0);
  }
}
