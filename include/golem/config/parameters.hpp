// The one list of a model's tensors: name, shape, shard rule, initialiser, decay, quantisable. Everything that walks parameters walks this.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "golem/config/model.hpp"
#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"
#include "golem/core/slice.hpp"

namespace golem {

/// How tensor-parallel ranks share a tensor (spec 1.6, 1.7, 1.10).
enum class Shard : std::uint8_t {
  replicated,
  rows,       // contiguous rows
  columns,    // contiguous columns
  glu_rows,   // contiguous rows of each half: [linear ; gate]
  head_rows,  // whole heads of keys, each (S + 2) D rows [q of those that share it ; k ; v]
};

/// What a tensor is before training (spec 1.9; q, k, v by the paper's intent, section 9 item 10).
enum class Init : std::uint8_t {
  zeros,
  ones,
  embedding,  // N(0, embedding_std^2)
  qkv,        // Xavier, gain 1 for q and k, beta for v, fans (C, C)
  branch,     // Xavier with gain beta, fans (rows, columns); each GLU half by itself
};

/// One tensor. A vector has columns = 0.
struct Parameter {
  const char* name;
  std::int64_t rows = 0, columns = 0;  // full shape, unsharded
  Shard shard = Shard::replicated;
  Init init = Init::zeros;
  bool decay = false;      // weight decay: matrices yes, biases and norms no (spec 4.2)
  bool quantized = false;  // what a quantising precision stores in few bits (spec 5.1)
  bool norm = false;       // of a LayerNorm: with sequence parallelism, a rank's gradient is that of its own tokens

  constexpr std::int64_t size() const { return rows * (columns ? columns : 1); }

  /// Shape on one of `tp` ranks.
  constexpr std::int64_t local_rows(int tp) const { return shard == Shard::replicated || shard == Shard::columns ? rows : rows / tp; }
  constexpr std::int64_t local_columns(int tp) const { return shard == Shard::columns ? columns / tp : columns; }
  constexpr std::int64_t local_size(int tp) const { return local_rows(tp) * (columns ? local_columns(tp) : 1); }

  /// The row of the full tensor that row `r` of rank `rank` is.
  constexpr std::int64_t full_row(std::int64_t r, int tp, int rank) const {
    const std::int64_t local = local_rows(tp);
    if (shard == Shard::replicated || shard == Shard::columns) return r;
    if (shard != Shard::glu_rows) return rank * local + r;
    const std::int64_t half = local / 2;
    return r < half ? rank * half + r : rows / 2 + rank * half + (r - half);
  }
  /// The column of the full tensor that column `c` of rank `rank` is.
  constexpr std::int64_t full_column(std::int64_t c, int tp, int rank) const { return shard == Shard::columns ? rank * local_columns(tp) + c : c; }
};

/// Which part of the full tensor elements [begin, begin + count) of a tensor-parallel rank's shard are.
constexpr Slice slice_of(const Parameter& parameter, int tp, int tensor_rank, std::int64_t begin, std::int64_t count) {
  const std::int64_t rows = parameter.local_rows(tp), columns = parameter.columns ? parameter.local_columns(tp) : 1, half = rows / 2;
  const bool glu = parameter.shard == Shard::glu_rows && tp > 1;
  Slice slice{.columns = {parameter.columns ? parameter.full_column(0, tp, tensor_rank) : 0, columns}, .elements = {begin, count}};
  slice.rows[0] = {parameter.full_row(0, tp, tensor_rank), glu ? half : rows};
  if (glu) slice.rows[1] = {parameter.full_row(half, tp, tensor_rank), half};
  return slice;
}

/// The embedding, which is the head too (spec 1.1: tied).
constexpr Parameter embedding_parameter(const ModelConfig& c) {
  return {"transformer.word_embeddings.weight", c.vocab, c.hidden, Shard::rows, Init::embedding, true, false};
}

/// Gain or shift of a LayerNorm.
constexpr Parameter norm_parameter(const char* name, const ModelConfig& c, Init init) {
  return {.name = name, .rows = c.hidden, .init = init, .norm = true};
}

/// The tensors of one block, in the order of spec 1.10; names without "transformer.layers.i.".
constexpr std::array<Parameter, 12> block_parameters(const ModelConfig& c) {
  const std::int64_t C = c.hidden, F = c.ffn, U = c.ffn_rows(), Q = c.qkv_rows();
  const Shard up = c.ffn_kind == Ffn::geglu ? Shard::glu_rows : Shard::rows;
  return {{norm_parameter("input_layernorm.weight", c, Init::ones),
           norm_parameter("input_layernorm.bias", c, Init::zeros),
           {"attention.query_key_value.weight", Q, C, Shard::head_rows, Init::qkv, true, true},
           {"attention.query_key_value.bias", Q, 0, Shard::head_rows, Init::zeros},
           {"attention.dense.weight", C, C, Shard::columns, Init::branch, true, true},
           {"attention.dense.bias", C, 0, Shard::replicated, Init::zeros},
           norm_parameter("post_attention_layernorm.weight", c, Init::ones),
           norm_parameter("post_attention_layernorm.bias", c, Init::zeros),
           {"mlp.dense_h_to_4h.weight", U, C, up, Init::branch, true, true},
           {"mlp.dense_h_to_4h.bias", U, 0, up, Init::zeros},
           {"mlp.dense_4h_to_h.weight", C, F, Shard::columns, Init::branch, true, true},
           {"mlp.dense_4h_to_h.bias", C, 0, Shard::replicated, Init::zeros}}};
}

/// The last norm.
constexpr std::array<Parameter, 2> final_parameters(const ModelConfig& c) {
  return {{norm_parameter("transformer.final_layernorm.weight", c, Init::ones), norm_parameter("transformer.final_layernorm.bias", c, Init::zeros)}};
}

/// Which part of a model a rank holds: blocks [first, last), and the embedding and the final norm with the head or not.
struct Stage {
  int first = 0, last = 0;
  bool embedding = true, head = true;
  friend constexpr bool operator==(const Stage&, const Stage&) = default;
};

/// The stage that is the whole model.
constexpr Stage whole(const ModelConfig& c) { return {0, c.layers, true, true}; }

/// Calls visit(parameter, layer) for each tensor of a stage, in file order; layer is -1 outside the blocks. The tied
/// embedding comes once: a stage that has only the head holds a copy of it, under the same name.
template <class Visit>
constexpr void for_each_parameter(const ModelConfig& c, const Stage& stage, Visit visit) {
  if (stage.embedding || stage.head) visit(embedding_parameter(c), -1);
  for (int layer = stage.first; layer < stage.last; ++layer)
    for (const Parameter& parameter : block_parameters(c)) visit(parameter, layer);
  if (stage.head)
    for (const Parameter& parameter : final_parameters(c)) visit(parameter, -1);
}

/// The tensor's name in files (spec 1.10).
inline std::string full_name(const Parameter& parameter, int layer) {
  return layer < 0 ? std::string(parameter.name) : sentence("transformer.layers.", layer, ".", parameter.name);
}

/// Parameters of the whole model.
constexpr std::int64_t parameter_count(const ModelConfig& c) {
  std::int64_t block = 0, outside = embedding_parameter(c).size();
  for (const Parameter& parameter : block_parameters(c)) block += parameter.size();
  for (const Parameter& parameter : final_parameters(c)) outside += parameter.size();
  return outside + c.layers * block;
}

/// Parameters of one tensor-parallel rank of a stage.
constexpr std::int64_t parameter_count(const ModelConfig& c, const Stage& stage, int tp) {
  std::int64_t count = 0;
  for_each_parameter(c, stage, [&](const Parameter& parameter, int) { count += parameter.local_size(tp); });
  return count;
}

/// Elements of the largest quantised matrix on a rank of tp.
constexpr std::int64_t largest_quantized(const ModelConfig& c, int tp = 1) {
  std::int64_t most = 0;
  for_each_parameter(c, whole(c), [&](const Parameter& parameter, int) {
    if (parameter.quantized) most = larger(most, parameter.local_size(tp));
  });
  return most;
}

static_assert(parameter_count(glm_130b::config) == 128'697'794'560, "golem: GLM-130B has 128,697,794,560 parameters (spec 1.8)");
static_assert(parameter_count(glm_130b::config, whole(glm_130b::config), 8) == 16'091'761'664, "golem: a rank of TP 8 has 16,091,761,664 (spec 1.8)");
static_assert(parameter_count(glm_130b::config, whole(glm_130b::config), 4) == 32'178'337'792, "golem: a rank of TP 4 has 32,178,337,792 (spec 1.8)");

}  // namespace golem
