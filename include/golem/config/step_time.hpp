// How long the actions of a stage take on a machine, and what they send: products by the peak rate, the rest by memory, collectives by links.
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
  double products = 0.75;  // of the rate, by the linears; what simulate fits
  double attention = 0.5;  // by attention, relative to the linears: 0.6 to 0.7 of their rate forward, less backward
  double memory = 0.8;     // of the bandwidth, by what is no product
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
  const double own = 9.0 * c.hidden, split = (1.0 * c.hidden + c.qkv_rows() + c.ffn_rows() + c.ffn) / n.tp;  // elements a token
  return (static_cast<double>(n.own) * own + static_cast<double>(n.tokens) * split) * static_cast<double>(n.compute);
}

/// Collectives of (N, C) among tensor ranks in one block: sums (with sequence parallelism a reduce-scatter and an all-gather, the
/// same bytes), and all-gathers beside them.
struct TensorCollectives {
  int forward_sums = 2, backward_sums = 2, backward_gathers = 0;
  int head_gathers = 0;  // of the last block's output, which ranks have a part of
};

/// Blocks are computed again up to their last linear, whose sum nothing needs.
constexpr TensorCollectives tensor_collectives(const Layout& layout, Recompute recompute) {
  const Recompute really = recompute_of(layout, recompute);
  TensorCollectives n;
  if (really == Recompute::block || really == Recompute::block_split) ++n.backward_sums;
  if (layout.sequence_parallel) {
    n.backward_gathers = 2 + (really != Recompute::none);  // inputs of linears that are not kept whole
    n.head_gathers = 1;
  } else if (really == Recompute::block_split) {
    n.backward_gathers = 1;
    n.head_gathers = 2;  // for the norm, and for its gradient
  }
  return n;
}

/// Times of a part of the model. Backward computes as much again for the inputs as forward, and for the weights, and attention's
/// twice for the inputs; what recomputation costs comes before that.
constexpr ActionTimes action_times(const ModelConfig& c, const TrainingTypes& types, const Stage& stage, const Layout& layout, Recompute recompute,
                                   const MicroBatch& n, const Hardware& h, const Efficiency& reached) {
  const double tokens = static_cast<double>(n.tokens), blocks = stage.last - stage.first, peak = h.rate(types.compute) * reached.products * n.tp;
  const double linear = tokens * linear_flops(c) / peak, attention = tokens * attention_flops(c, c.context) / (peak * reached.attention);
  const double pointwise = pointwise_bytes(c, n) / (h.bandwidth * reached.memory), bytes = tokens * c.hidden * static_cast<double>(n.compute);
  const Link link = links_of(h, layout, reached.links).tensor;
  const double sum = all_reduce_seconds(bytes, n.tp, link);
  const TensorCollectives collectives = tensor_collectives(layout, recompute);

  ActionTimes t;
  t.tensor_forward = blocks * collectives.forward_sums * sum;
  t.tensor_backward = blocks * (collectives.backward_sums * sum + collectives.backward_gathers * scatter_seconds(bytes, n.tp, link));
  t.forward = blocks * (linear + attention + pointwise);
  t.backward_input = blocks * (linear + 2 * attention + 2 * pointwise);
  t.backward_weight = blocks * linear;
  if (recompute == Recompute::attention)
    t.backward_input += blocks * (tokens * 2.0 * c.qkv_rows() * c.hidden / peak + attention);
  else if (recompute != Recompute::none)
    t.backward_input += t.forward;
  if (stage.head) {
    const double head = tokens * head_flops(c) / peak;
    t.forward += head, t.backward_input += head, t.backward_weight += head;
    t.tensor_backward += sum + collectives.head_gathers * scatter_seconds(bytes, n.tp, link);
  }
  if (stage.embedding) t.tensor_forward += sum;
  t.forward += t.tensor_forward;
  t.backward_input += t.tensor_backward;
  return t;
}

/// The gradient of the tied embedding, in bytes, that a rank of the first and one of the last stage add up: with ZeRO-1, what they
/// own of it.
constexpr double tied_bytes(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const TrainingConfig& training) {
  if (layout.pp == 1) return 0;
  return static_cast<double>(embedding_parameter(c).local_size(layout.tp)) * size_of(types.gradient) / (training.zero > 0 ? layout.dp : 1);
}

/// Bytes that one rank of a stage sends in a step, by axis, all tokens being scored; but numbers as few as a token, a norm or a tensor has.
struct StepTraffic {
  double tensor = 0, pipeline = 0, data = 0, tied = 0;
};

constexpr StepTraffic step_traffic(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const TrainingConfig& training,
                                   int stage) {
  const MicroBatch n = micro_batch_of(c, types, layout, training);
  const double bytes = static_cast<double>(n.tokens * c.hidden * n.compute), micro_batches = micro_batches_of(training, layout);
  const TensorCollectives collectives = tensor_collectives(layout, training.recompute);
  StepTraffic sent;
  for (int chunk = 0; chunk < training.chunks; ++chunk) {
    const Stage part = stage_of(c, layout.pp, training.chunks, stage, chunk);
    const double blocks = part.last - part.first, parameters = static_cast<double>(parameter_count(c, part, layout.tp));
    const double sums = blocks * (collectives.forward_sums + collectives.backward_sums) + part.embedding + part.head;
    const double gathers = blocks * collectives.backward_gathers + part.head * collectives.head_gathers;
    sent.tensor += micro_batches * (sums * all_reduce_bytes(bytes, n.tp) + gathers * scatter_bytes(bytes, n.tp));
    if (layout.pp > 1) sent.pipeline += micro_batches * (!part.head + !part.embedding) * static_cast<double>(n.own * c.hidden * n.compute);
    const double reduced = scatter_bytes(parameters * size_of(types.gradient), layout.dp);
    sent.data += reduced + (training.zero > 0 ? scatter_bytes(parameters * size_of(types.compute), layout.dp) : reduced);
  }
  if (stage == 0 || stage == layout.pp - 1) sent.tied = all_reduce_bytes(tied_bytes(c, types, layout, training), 2);
  return sent;
}

/// What comes at the end of a step: gradients reduced, weights moved, weights gathered.
struct UpdateTimes {
  double reduce = 0, optimizer = 0, gather = 0;
};

constexpr UpdateTimes update_times(const TrainingTypes& types, double parameters, const Layout& layout, int zero, const Hardware& h,
                                   const Efficiency& reached) {
  const Link link = links_of(h, layout, reached.links).data;
  const double gradients = parameters * size_of(types.gradient), weights = parameters * size_of(types.compute),
               owned = parameters / (zero > 0 ? layout.dp : 1);
  UpdateTimes t;
  t.reduce = zero > 0 ? scatter_seconds(gradients, layout.dp, link) : all_reduce_seconds(gradients, layout.dp, link);
  t.gather = zero > 0 ? scatter_seconds(weights, layout.dp, link) : 0;
  // Norm: reads the gradients. AdamW: reads them, reads and writes master weights and both moments, writes the weights.
  t.optimizer = owned * (2.0 * size_of(types.gradient) + 6.0 * size_of(types.master) + size_of(types.compute)) / (h.bandwidth * reached.memory);
  return t;
}

}  // namespace golem
