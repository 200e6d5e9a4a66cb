// A model's configuration as one line of text: what a checkpoint remembers of the model that it belongs to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "golem/config/layout.hpp"
#include "golem/config/model.hpp"
#include "golem/config/training.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// All that decides which tensors a model has and what they mean; not dropout, nor what a fresh model starts from.
inline std::string describe(const ModelConfig& c) {
  constexpr const char* norms[]{"deep", "post", "pre"};
  constexpr const char* positions[]{"rope"};
  constexpr const char* tables[]{"exact", "fp16"};
  constexpr const char* ffns[]{"geglu", "gelu"};
  constexpr const char* masks[]{"prefix", "causal", "bidirectional"};
  return sentence("layers ", c.layers, ", hidden ", c.hidden, ", heads ", c.heads, c.key_heads() != c.heads ? sentence(", key heads ", c.key_heads()) : std::string(), ", ffn ", c.ffn, " ", ffns[static_cast<int>(c.ffn_kind)], ", vocab ", c.vocab, ", norm ",
                  norms[static_cast<int>(c.norm)], " ", c.norm_eps, ", position ", positions[static_cast<int>(c.position)], " ", c.rope_base, " ",
                  tables[static_cast<int>(c.rope_table)], ", mask ", masks[static_cast<int>(c.mask)]);
}

inline std::string describe(const Layout& layout) {
  return sentence("tp ", layout.tp, ", pp ", layout.pp, ", dp ", layout.dp, layout.sequence_parallel ? ", sequence parallel" : "");
}

/// All that the ranks of a run must have in common, but for the model.
inline std::string describe(const TrainingConfig& t) {
  const auto number = [](auto value) { return static_cast<int>(value); };
  return sentence("seed ", t.seed, ", rate ", t.learning_rate.peak, " to ", t.learning_rate.min, " after ", t.learning_rate.warmup_samples, " until ", t.learning_rate.decay_samples, ", rows ",
                  t.batch.full, " from ", t.batch.start, " by ", t.batch.increment, " over ", t.batch.ramp_samples, ", micro-batch ", t.micro_batch, ", beta ", t.beta1, " ", t.beta2, ", eps ", t.eps,
                  ", decay ", t.weight_decay, ", clip ", t.clip, ", shrink ", t.shrink.alpha, " from ", t.shrink.ramp_from, " over ", t.shrink.ramp_steps, " at ", number(t.shrink.where), ", loss scale ",
                  t.loss_scale.initial, " ", t.loss_scale.min, " ", t.loss_scale.window, " ", t.loss_scale.hysteresis, ", sentinel ", number(t.sentinel.action), " ", t.sentinel.factor, " ",
                  t.sentinel.history, " ", t.sentinel.smallest_scale, ", recompute ", number(t.recompute), ", ", name_of(t.schedule), " x ", t.chunks, ", ZeRO ", t.zero, ", check every ", t.check_every, ", head tokens ", t.head_tokens);
}

}  // namespace golem
