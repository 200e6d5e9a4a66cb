// A model's configuration as one line of text: what a checkpoint remembers of the model that it belongs to.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "golem/config/model.hpp"
#include "golem/core/error.hpp"

namespace golem {

/// All that decides which tensors a model has and what they mean; not dropout, nor what a fresh model starts from.
inline std::string describe(const ModelConfig& c) {
  constexpr const char* norms[]{"deep", "post", "pre"};
  constexpr const char* positions[]{"rope"};
  constexpr const char* tables[]{"exact", "fp16"};
  constexpr const char* ffns[]{"geglu", "gelu"};
  constexpr const char* masks[]{"prefix", "causal", "bidirectional"};
  return sentence("layers ", c.layers, ", hidden ", c.hidden, ", heads ", c.heads, ", ffn ", c.ffn, " ", ffns[static_cast<int>(c.ffn_kind)], ", vocab ", c.vocab, ", norm ",
                  norms[static_cast<int>(c.norm)], " ", c.norm_eps, ", position ", positions[static_cast<int>(c.position)], " ", c.rope_base, " ",
                  tables[static_cast<int>(c.rope_table)], ", mask ", masks[static_cast<int>(c.mask)]);
}

}  // namespace golem
