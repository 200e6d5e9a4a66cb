// The plan: parameters, flops and bytes of a model before it runs, item by item, at compile time where the model is one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/layout.hpp"
#include "golem/config/parameters.hpp"
#include "golem/config/precision.hpp"
#include "golem/config/training.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// What a training run on one rank holds, in bytes, apart from the batch's integers and the engine's workspace.
struct TrainingMemory {
  std::int64_t weights = 0;         // in the compute type, where it is not the master's; rotary tables
  std::int64_t master_weights = 0;
  std::int64_t gradients = 0;
  std::int64_t moments = 0;
  std::int64_t activations = 0;
  std::int64_t head = 0;            // one chunk of logits, and the scored tokens' hidden gradients
  constexpr std::int64_t total() const { return weights + master_weights + gradients + moments + activations + head; }
};

/// What an engine on one rank holds, in bytes.
struct InferenceMemory {
  std::int64_t weights = 0;
  std::int64_t key_value_cache = 0;
  std::int64_t activations = 0;
  std::int64_t head = 0;
  constexpr std::int64_t total() const { return weights + key_value_cache + activations + head; }
};

/// Bytes of the activations that one block keeps for n tokens (its input apart), in elements of `compute` bytes and
/// statistics of `accumulate` bytes (nn/activations.hpp).
constexpr std::int64_t block_activation_bytes(const ModelConfig& c, int tp, std::int64_t n, std::int64_t compute, std::int64_t accumulate) {
  const std::int64_t C = c.hidden;
  const std::int64_t elements = 3 * C + (3 * C + C + c.ffn_rows() + c.ffn) / tp;  // a, sum, m; qkv, attended, up, gated
  return n * elements * compute + n * (4 + c.heads / tp) * accumulate;
}

/// Bytes of the gradients and the space that a backward pass needs once.
constexpr std::int64_t backward_bytes(const ModelConfig& c, int tp, std::int64_t n, std::int64_t compute) {
  return n * (3 * std::int64_t{c.hidden} + (3 * std::int64_t{c.hidden} + c.ffn_rows()) / tp) * compute;
}
constexpr std::int64_t scratch_bytes(const ModelConfig& c, int tp, std::int64_t n, std::int64_t compute) {
  return n * (c.hidden + larger(c.ffn, c.hidden) / tp + (c.dropout > 0 ? c.hidden : 0)) * compute;
}

/// Scored tokens in a chunk of the head: 16 MiB of float logits, 16 to 512 tokens; the same for every layout.
constexpr std::int64_t head_chunk(const ModelConfig& c) {
  return larger<std::int64_t>(16, smaller<std::int64_t>(512, (std::int64_t{4} << 20) / c.vocab));
}

/// Training of M on one rank of `layout.tp`, whole depth.
template <Model M, TrainingPrecision P>
constexpr TrainingMemory plan_training(const TrainingConfig& training, int tp = 1) {
  const ModelConfig& c = M::config;
  constexpr std::int64_t compute = sizeof(typename P::compute), master = sizeof(typename P::master), gradient = sizeof(typename P::gradient);
  const std::int64_t n = std::int64_t{training.micro_batch} * c.context, parameters = parameter_count(c, whole(c), tp);
  const std::int64_t chunk = smaller(head_chunk(c), n);
  TrainingMemory plan;
  plan.weights = (has_master_copy<P> ? parameters * compute : 0) + std::int64_t{c.context} * c.head_dim() * master;
  plan.master_weights = parameters * master;
  plan.gradients = parameters * gradient;
  plan.moments = 2 * parameters * master;
  plan.activations = (c.layers + 1) * n * c.hidden * compute  // block inputs
                     + (training.recompute == Recompute::none ? c.layers : 1) * block_activation_bytes(c, tp, n, compute, master)
                     + backward_bytes(c, tp, n, compute) + scratch_bytes(c, tp, n, compute)
                     + n * c.hidden * compute * 2 + 2 * n * master;  // final norm's output, its gradient, its statistics
  plan.head = chunk * (c.hidden * compute + c.vocab / tp * master + 4 * master) + (has_master_copy<P> ? chunk * (c.vocab / tp) * compute : 0) + n * c.hidden * compute;
  return plan;
}

/// Bytes of all weights in P: quantised matrices as bits and fp16 scales, the rest in the compute type.
template <Precision P>
constexpr std::int64_t weight_bytes(const ModelConfig& c, int tp = 1) {
  std::int64_t bytes = 0;
  for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) {
    if constexpr (QuantizedPrecision<P>) {
      if (parameter.quantized) {
        bytes += parameter.local_rows(tp) * (P::quant.row_bytes(parameter.local_columns(tp)) + P::quant.groups(parameter.local_columns(tp)) * 2);
        return;
      }
    }
    bytes += parameter.local_size(tp) * static_cast<std::int64_t>(sizeof(typename P::compute));
  });
  return bytes;
}

/// Inference of M for `sequences` of up to `capacity` tokens each (0: the context).
template <Model M, Precision P>
constexpr InferenceMemory plan_inference(int sequences = 1, int capacity = 0, int tp = 1) {
  const ModelConfig& c = M::config;
  constexpr std::int64_t compute = sizeof(typename P::compute), accumulate = sizeof(accumulate_t<typename P::compute>);
  const std::int64_t n = std::int64_t{sequences} * (capacity ? capacity : c.context), chunk = smaller(head_chunk(c), n);
  InferenceMemory plan;
  plan.weights = weight_bytes<P>(c, tp) + std::int64_t{c.context} * c.head_dim() * accumulate;
  plan.key_value_cache = 2 * n * c.hidden / tp * c.layers * compute;
  plan.activations = 3 * n * c.hidden * compute + block_activation_bytes(c, tp, n, compute, accumulate) + scratch_bytes(c, tp, n, compute) + 2 * n * accumulate +
                     sequences * std::int64_t{c.hidden} * compute;
  plan.head = chunk * (c.hidden * compute + c.vocab / tp * accumulate + 4 * accumulate) + sequences * std::int64_t{c.vocab} / tp * accumulate;
  return plan;
}

/// Floating-point operations of a forward pass for one row of T tokens, of which `scored` need logits: multiply and add
/// count as two; attention over all pairs (spec 4.4 counts the same).
constexpr double forward_flops(const ModelConfig& c, std::int64_t length, std::int64_t scored) {
  double linear = 0;
  for (const Parameter& parameter : block_parameters(c))
    if (parameter.columns) linear += 2.0 * static_cast<double>(parameter.size());
  const double attention = 4.0 * static_cast<double>(length) * c.hidden;
  return c.layers * static_cast<double>(length) * (linear + attention) + 2.0 * static_cast<double>(scored) * c.vocab * c.hidden;
}

/// Of a training step of `rows` rows, all tokens scored: backward is twice the forward, and recomputing the blocks is one
/// forward more, without the head.
constexpr double training_flops(const ModelConfig& c, std::int64_t length, std::int64_t rows, Recompute recompute) {
  const double forward = forward_flops(c, length, length), blocks = forward_flops(c, length, 0);
  return static_cast<double>(rows) * (3 * forward + (recompute == Recompute::block ? blocks : 0));
}

}  // namespace golem
