// Floating-point operations of a model, forward, in training, and of what is computed again (spec 4.4).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/parameters.hpp"
#include "golem/config/training.hpp"

namespace golem {

// A multiply and an add count as two; attention counts over all pairs of tokens, as spec 4.4 does.

/// Of the linears of one block, forward, for one token.
constexpr double linear_flops(const ModelConfig& c) {
  double flops = 0;
  for (const Parameter& parameter : block_parameters(c))
    if (parameter.columns) flops += 2.0 * static_cast<double>(parameter.size());
  return flops;
}

/// Of the attention of one block, forward, for one token that sees `length`.
constexpr double attention_flops(const ModelConfig& c, std::int64_t length) { return 4.0 * static_cast<double>(length) * c.hidden; }

/// Of the head, for one scored token.
constexpr double head_flops(const ModelConfig& c) { return 2.0 * c.vocab * c.hidden; }

/// Of a forward pass for one row of `length` tokens, of which `scored` need logits.
constexpr double forward_flops(const ModelConfig& c, std::int64_t length, std::int64_t scored) {
  return c.layers * static_cast<double>(length) * (linear_flops(c) + attention_flops(c, length)) + static_cast<double>(scored) * head_flops(c);
}

/// Of what the backward pass of one block computes again for one token: nothing, queries, keys, values and attention, or all.
constexpr double recomputed_flops(const ModelConfig& c, std::int64_t length, Recompute recompute) {
  if (recompute == Recompute::none) return 0;
  if (recompute == Recompute::attention) return 2.0 * c.qkv_rows() * c.hidden + attention_flops(c, length);
  return linear_flops(c) + attention_flops(c, length);
}

/// Of a training step of `rows` rows, all tokens scored: backward is twice the forward; the head is not computed again. With
/// Recompute::block: 96 B s L h^2 (1 + s/(6h) + V/(16 L h)), and 72 ... V/(12 L h) with none (spec 4.4).
constexpr double training_flops(const ModelConfig& c, std::int64_t length, std::int64_t rows, Recompute recompute) {
  return static_cast<double>(rows) *
         (3 * forward_flops(c, length, length) + c.layers * static_cast<double>(length) * recomputed_flops(c, length, recompute));
}

/// The part of what `ranks` devices of `peak` operations a second could do that a step of `seconds` did: with what is
/// computed again (HFU, hardware flops utilisation), or only what the model needs (MFU; Recompute::none).
constexpr double utilisation(const ModelConfig& c, std::int64_t rows, Recompute recompute, double seconds, int ranks, double peak) {
  return training_flops(c, c.context, rows, recompute) / (seconds * ranks * peak);
}

}  // namespace golem
