// The tables of rotary angles (spec 1.4).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "golem/config/model.hpp"
#include "golem/core/error.hpp"
#include "golem/core/number.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// cos, sin (context, D/2): of position * base^(-2i / D). RopeTable::exact rounds once, to A; RopeTable::fp16 rounds the
/// inverse frequency, the angle and the result to fp16, as GLM-130B was trained.
template <class A>
void rope_tables(const ModelConfig& config, View<A, 2> cos, View<A, 2> sin) {
  const int dim = config.head_dim();
  require(cos.extent(0) == config.context && cos.extent(1) == dim / 2 && sin.size() == cos.size(), "rotary tables of shapes ", shape_of(cos), " and ", shape_of(sin),
          " were given for a context of ", config.context, " and heads of ", dim);
  for (int i = 0; i < dim / 2; ++i) {
    const double inverse = 1.0 / std::pow(config.rope_base, 2.0 * i / dim);
    const float16 inverse_fp16(1.0f / static_cast<float>(std::pow(config.rope_base, 2.0 * i / dim)));
    for (int p = 0; p < config.context; ++p) {
      if (config.rope_table == RopeTable::exact) {
        cos(p, i) = static_cast<A>(std::cos(p * inverse));
        sin(p, i) = static_cast<A>(std::sin(p * inverse));
      } else {
        const auto angle = static_cast<float>(float16(static_cast<float>(float16(static_cast<float>(p))) * static_cast<float>(inverse_fp16)));
        cos(p, i) = static_cast<A>(static_cast<float>(float16(std::cos(angle))));
        sin(p, i) = static_cast<A>(static_cast<float>(float16(std::sin(angle))));
      }
    }
  }
}

}  // namespace golem
