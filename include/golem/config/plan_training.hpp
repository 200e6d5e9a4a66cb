// What training holds on a rank, in bytes, item by item, for every layout: the same counts that nn/stage_memory.hpp allocates by.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/config/hardware.hpp"
#include "golem/config/layout.hpp"
#include "golem/config/precision.hpp"
#include "golem/config/schedule.hpp"
#include "golem/config/stages.hpp"
#include "golem/config/training.hpp"
#include "golem/core/math.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// What a training run on one rank holds, in bytes, apart from the batch's integers.
struct TrainingMemory {
  std::int64_t weights = 0;  // in the compute type, where it is not the master's; rotary tables
  std::int64_t master_weights = 0;
  std::int64_t gradients = 0;
  std::int64_t moments = 0;
  std::int64_t activations = 0;    // kept by micro-batches in flight, and the space that passes share
  std::int64_t head = 0;           // one chunk of logits, and the scored tokens' hidden gradients
  std::int64_t communication = 0;  // messages of the pipeline: two on their way each way, and one that came
  std::int64_t workspace = workspace_bytes;  // of the device's ops
  constexpr std::int64_t total() const { return weights + master_weights + gradients + moments + activations + head + communication + workspace; }
};

/// The types of a precision policy, as values.
struct TrainingTypes {
  DType compute = DType::f32, master = DType::f32, gradient = DType::f32;
  constexpr bool has_master_copy() const { return compute != master; }
  /// Layers add gradients in the master type, one part of the model at a time, before they join those of another type: train/accumulators.hpp.
  constexpr bool folds() const { return gradient != master; }
};

template <TrainingPrecision P>
constexpr TrainingTypes types_of() {
  return {dtype_of<typename P::compute>(), dtype_of<typename P::master>(), dtype_of<typename P::gradient>()};
}

/// Micro-batches of a step of `rows` rows on each data rank, rounded up.
constexpr int micro_batches_of(const TrainingConfig& training, const Layout& layout, std::int64_t rows) {
  return static_cast<int>(larger<std::int64_t>(1, ceil_div(rows, std::int64_t{training.micro_batch} * layout.dp)));
}
/// The same of a full step.
constexpr int micro_batches_of(const TrainingConfig& training, const Layout& layout) { return micro_batches_of(training, layout, training.batch.full); }

/// Scored tokens in a chunk of the head, the same for every layout: `head_tokens`; 0: 16 MiB of float logits, 16 to 512 tokens.
constexpr std::int64_t head_chunk(const ModelConfig& c, std::int64_t head_tokens = 0) {
  return head_tokens > 0 ? head_tokens : larger<std::int64_t>(16, smaller<std::int64_t>(512, (std::int64_t{4} << 20) / c.vocab));
}

/// What is really computed again: inputs that sequence parallelism cuts already, or that one rank has alone, are not split.
constexpr Recompute recompute_of(const Layout& layout, Recompute recompute) {
  return recompute == Recompute::block_split && (layout.sequence_parallel || layout.tp == 1) ? Recompute::block : recompute;
}

/// A micro-batch on one tensor rank: all its tokens, those that the rank has between its linears, and bytes of its elements.
struct MicroBatch {
  std::int64_t tokens = 0, own = 0;
  int tp = 1;
  std::int64_t compute = 4, accumulate = 4;
};

/// Rows of the model's context, padded as the trainer pads them where tokens are cut among tensor ranks.
constexpr MicroBatch micro_batch_of(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const TrainingConfig& training) {
  const bool cut = layout.sequence_parallel || recompute_of(layout, training.recompute) == Recompute::block_split;
  const std::int64_t tokens = training.micro_batch * round_up(c.context, cut ? layout.tp : 1);
  return {tokens, layout.sequence_parallel ? tokens / layout.tp : tokens, layout.tp, size_of(types.compute), size_of(types.master)};
}

/// Queries, keys and values, what attention makes of them, and its log-sum-exp, of one block.
constexpr std::int64_t attention_activation_bytes(const ModelConfig& c, const MicroBatch& n) {
  return n.tokens * ((std::int64_t{c.hidden} + c.qkv_rows()) / n.tp * n.compute + c.heads / n.tp * n.accumulate);
}

/// What else one block keeps, its input apart: both norms' outputs and the sum between, the feed-forward, statistics.
constexpr std::int64_t block_activation_bytes(const ModelConfig& c, const MicroBatch& n) {
  return n.own * (3 * std::int64_t{c.hidden} * n.compute + 4 * n.accumulate) + n.tokens * (c.ffn_rows() + std::int64_t{c.ffn}) / n.tp * n.compute;
}

/// Gradients at the outputs of a block's four linears.
constexpr std::int64_t block_gradient_bytes(const ModelConfig& c, const MicroBatch& n) {
  return n.tokens * (2 * std::int64_t{c.hidden} + (std::int64_t{c.qkv_rows()} + c.ffn_rows()) / n.tp) * n.compute;
}

/// What of a block is computed again, and lies in space that all blocks share.
constexpr std::int64_t refilled_bytes(const ModelConfig& c, const MicroBatch& n, Recompute recompute) {
  if (recompute == Recompute::none) return 0;
  return attention_activation_bytes(c, n) + (recompute == Recompute::attention ? 0 : block_activation_bytes(c, n));
}

/// What one micro-batch keeps of one stage from its forward to its backward.
constexpr std::int64_t kept_bytes(const ModelConfig& c, const MicroBatch& n, Recompute recompute, const Stage& stage) {
  const std::int64_t blocks = stage.last - stage.first,
                     input = (recompute == Recompute::block_split ? n.tokens / n.tp : n.own) * c.hidden * n.compute;
  const std::int64_t block = attention_activation_bytes(c, n) + block_activation_bytes(c, n) - refilled_bytes(c, n, recompute);
  return larger<std::int64_t>(1, blocks + stage.head) * input + blocks * block;  // a stage may have no block
}

/// What one micro-batch keeps from its input gradients to its weight gradients, where these come later.
constexpr std::int64_t deferred_bytes(const ModelConfig& c, const MicroBatch& n, Recompute recompute, const Stage& stage) {
  return (stage.last - stage.first) * (block_gradient_bytes(c, n) + refilled_bytes(c, n, recompute));
}

/// What the passes of a rank share: branches, wide gradients, a block's inputs and their gradients in turn, the final norm's output,
/// and what is computed again.
constexpr std::int64_t shared_bytes(const ModelConfig& c, const MicroBatch& n, Recompute recompute) {
  const bool cut = n.own != n.tokens;
  const std::int64_t C = c.hidden, whole = n.tokens * C, own = n.own * C;
  std::int64_t elements = whole + n.tokens * larger(c.ffn, c.hidden) / n.tp + (c.dropout > 0 || cut ? own : 0) + (cut ? whole : 0);  // scratch
  elements += (recompute == Recompute::block_split ? 2 * own : 0) + whole + 2 * own;
  return elements * n.compute + 2 * n.own * n.accumulate + refilled_bytes(c, n, recompute) + block_gradient_bytes(c, n);
}

/// The logits of a chunk of scored tokens, and the gradients of their hidden vectors.
constexpr std::int64_t head_bytes(const ModelConfig& c, const MicroBatch& n, const TrainingTypes& types, std::int64_t head_tokens) {
  const std::int64_t chunk = smaller(head_chunk(c, head_tokens), n.tokens), vocab = c.vocab / n.tp;
  return chunk * (c.hidden * n.compute + (vocab + 4) * n.accumulate + (types.has_master_copy() ? vocab * n.compute : 0)) +
         n.tokens * c.hidden * n.compute;
}

/// What the ranks of stage `stage` hold. A step that has no whole micro-batch for each data rank counts as one with one.
constexpr TrainingMemory plan_training(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const TrainingConfig& training,
                                       int stage) {
  const MicroBatch n = micro_batch_of(c, types, layout, training);
  const Recompute recompute = recompute_of(layout, training.recompute);
  const int micro_batches = micro_batches_of(training, layout), shards = training.zero > 0 ? layout.dp : 1;
  std::int64_t parameters = 0;
  for (int chunk = 0; chunk < training.chunks; ++chunk) parameters += parameter_count(c, stage_of(c, layout.pp, training.chunks, stage, chunk), layout.tp);
  const Stage largest = largest_chunk(c, layout.pp, training.chunks, stage);  // what a slot for a micro-batch is made for
  const std::int64_t compute = size_of(types.compute), master = size_of(types.master);
  TrainingMemory plan;
  plan.weights = (types.has_master_copy() ? parameters * compute : 0) + std::int64_t{c.context} * c.head_dim() * master;
  plan.master_weights = parameters * master / (types.has_master_copy() ? shards : 1);
  const Stage one_of_each{0, smaller(1, largest.last), largest.embedding, largest.head};  // a block, and what is outside the blocks
  plan.gradients = parameters * size_of(types.gradient) + (types.folds() ? parameter_count(c, one_of_each, layout.tp) * master : 0);
  plan.moments = 2 * parameters * master / shards;
  plan.activations =
      activations_in_flight(training.schedule, layout.pp, training.chunks, micro_batches, stage) * kept_bytes(c, n, recompute, largest) +
      weight_gradients_in_flight(training.schedule, layout.pp, training.chunks, micro_batches, stage) * deferred_bytes(c, n, recompute, largest) +
      shared_bytes(c, n, recompute) + (largest.head ? n.tokens * c.hidden * n.compute : 0);
  plan.head = largest.head ? head_bytes(c, n, types, training.head_tokens) : 0;
  plan.communication = layout.pp > 1 ? 5 * n.own * c.hidden * compute : 0;
  return plan;
}

/// The stage whose ranks hold most, and what they hold.
struct FullestStage {
  int stage = 0;
  TrainingMemory memory;
};

constexpr FullestStage fullest_stage(const ModelConfig& c, const TrainingTypes& types, const Layout& layout, const TrainingConfig& training) {
  FullestStage fullest;
  for (int stage = 0; stage < layout.pp; ++stage) {
    const TrainingMemory memory = plan_training(c, types, layout, training, stage);
    if (memory.total() > fullest.memory.total()) fullest = {stage, memory};
  }
  return fullest;
}

/// Training of M on one rank of `tp`, whole depth.
template <Model M, TrainingPrecision P>
constexpr TrainingMemory plan_training(const TrainingConfig& training, int tp = 1) {
  return plan_training(M::config, types_of<P>(), {.tp = tp}, training, 0);
}

}  // namespace golem
