// How long the actions of a stage take on a machine: products by the peak rate, the rest by memory, collectives by links.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/flops.hpp"
#include "golem/config/hardware.hpp"
#include "golem/config/plan_training.hpp"
#include "golem/config/traffic.hpp"

namespace golem {

/// The parts of a machine's peaks that kernels reach.
struct Efficiency {
  double products = 0.75;   // of the rate, by the linears; what simulate fits
  double attention = 0.5;   // by attention, relative to the linears: 0.6 to 0.7 of their rate forward, less backward
  double memory = 0.8;      // of the bandwidth, by what is no product
  double links = 0.8;
};

/// Seconds of one micro-batch on one stage (one chunk of it). What tensor ranks wait for each other is part of each, and apart.
struct ActionTimes {
  double forward = 0, backward_input = 0, backward_weight = 0;
  double tensor_forward = 0, tensor_backward = 0;  // of these, collectives among tensor ranks
  constexpr double total() const { return forward + backward_input + backward_weight; }
  constexpr double tensor() const { return tensor_forward + tensor_backward; }
};

/// Bytes that one block moves through memory forward, apart from its products: norms, residuals, rotation, activation (cpu/ and
/// cuda/ fuse them alike). Backward moves twice as many.
constexpr double pointwise_bytes(const ModelConfig& c, const MicroBatch& n) {
  const double own = 9.0 * c.hidden, split = (4.0 * c.hidden + c.ffn_rows() + c.ffn) / n.tp;  // elements a token
  return (static_cast<double>(n.own) * own + static_cast<double>(n.tokens) * split) * static_cast<double>(n.compute);
}

/// Times of a part of the model. Backward computes as much again for the inputs as forward, and for the weights, and attention's
/// twice for the inputs; what recomputation costs comes before that. Two sums over tensor ranks forward, two backward.
constexpr ActionTimes action_times(const ModelConfig& c, const TrainingTypes& types, const Stage& stage, const Layout& layout, Recompute recompute, const MicroBatch& n,
                                   const Hardware& h, const Efficiency& reached) {
  const double tokens = static_cast<double>(n.tokens), blocks = stage.last - stage.first, peak = h.rate(types.compute) * reached.products * n.tp;
  const double linear = tokens * linear_flops(c) / peak, attention = tokens * attention_flops(c, c.context) / (peak * reached.attention);
  const double pointwise = pointwise_bytes(c, n) / (h.bandwidth * reached.memory), sum_bytes = tokens * c.hidden * static_cast<double>(n.compute);
  const Link link = links_of(h, layout, reached.links).tensor;
  const double sum = all_reduce_seconds(sum_bytes, n.tp, link), gather = layout.sequence_parallel ? scatter_seconds(sum_bytes, n.tp, link) : 0;
  const bool whole = recompute == Recompute::block || recompute == Recompute::block_split;

  ActionTimes t;
  t.tensor_forward = blocks * 2 * sum;
  t.tensor_backward = blocks * (2 * sum + 2 * gather + (whole ? 2 * sum : recompute == Recompute::attention ? gather : 0) +
                                (recompute == Recompute::block_split ? gather == 0 ? scatter_seconds(sum_bytes, n.tp, link) : 0 : 0));
  t.forward = blocks * (linear + attention + pointwise);
  t.backward_input = blocks * (linear + 2 * attention + 2 * pointwise);
  t.backward_weight = blocks * linear;
  if (whole) t.backward_input += t.forward;
  if (recompute == Recompute::attention) t.backward_input += blocks * (tokens * 6.0 * c.hidden * c.hidden / peak + attention);
  if (stage.head) {
    const double head = tokens * head_flops(c) / peak;
    t.forward += head, t.backward_input += head, t.backward_weight += head;
    t.tensor_backward += sum;
  }
  if (stage.embedding) t.tensor_forward += sum;
  t.forward += t.tensor_forward;
  t.backward_input += t.tensor_backward;
  return t;
}

/// What comes at the end of a step: gradients reduced, weights moved, weights gathered.
struct UpdateTimes {
  double reduce = 0, optimizer = 0, gather = 0;
};

constexpr UpdateTimes update_times(const TrainingTypes& types, double parameters, const Layout& layout, int zero, const Hardware& h, const Efficiency& reached) {
  const Link link = links_of(h, layout, reached.links).data;
  const double gradients = parameters * size_of(types.gradient), weights = parameters * size_of(types.compute), owned = parameters / (zero > 0 ? layout.dp : 1);
  UpdateTimes t;
  t.reduce = zero > 0 ? scatter_seconds(gradients, layout.dp, link) : all_reduce_seconds(gradients, layout.dp, link);
  t.gather = zero > 0 ? scatter_seconds(weights, layout.dp, link) : 0;
  // Norm: reads the gradients. AdamW: reads them, reads and writes master weights and both moments, writes the weights.
  t.optimizer = owned * (2.0 * size_of(types.gradient) + 6.0 * size_of(types.master) + size_of(types.compute)) / (h.bandwidth * reached.memory);
  return t;
}

}  // namespace golem
