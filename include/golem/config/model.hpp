// ModelConfig: the sizes and choices that make a model, as one constant that a tag type holds.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>

#include "golem/core/math.hpp"

namespace golem {

/// Where a block normalises, and what its residual carries (spec 1.2, section 9 item 24).
enum class Norm : std::uint8_t {
  deep,  // Post-LN with DeepNorm: x = LN(alpha x + f(x)), alpha = sqrt(2 layers)
  post,  // Post-LN: x = LN(x + f(x))
  pre,   // Pre-LN: x = x + f(LN(x))
};

/// How a token's position reaches attention.
enum class Position : std::uint8_t {
  rope,  // rotary, all dims of each head, half-split (spec 1.4)
};

/// The precision in which the angles of the rotary table are computed.
enum class RopeTable : std::uint8_t {
  exact,  // rounded once, at the end
  fp16,   // inverse frequencies and angles rounded to fp16, as GLM-130B was trained (spec 1.4)
};

/// The feed-forward of a block.
enum class Ffn : std::uint8_t {
  geglu,  // u1 * gelu(u2), fused up-projection of 2 ffn rows (spec 1.7)
  gelu,   // gelu(u)
};

/// Which tokens of its window a token sees.
enum class Mask : std::uint8_t {
  prefix,         // j <= i, or j < prefix (spec 2.3)
  causal,         // j <= i
  bidirectional,  // all
};

/// The architecture of a GLM. Every length in elements; see `checked` for what must hold between them.
struct ModelConfig {
  int layers = 0;   // L
  int hidden = 0;   // C
  int heads = 0;    // H
  int kv_heads = 0;  // G, of keys and values, each for H / G heads of queries side by side; 0: H, as GLM-130B has
  int ffn = 0;      // F, inner size: a GeGLU projects to 2F
  int vocab = 0;    // V, rows of the embedding, padding included
  int context = 0;  // longest sequence, tokens

  Norm norm = Norm::deep;
  Position position = Position::rope;
  RopeTable rope_table = RopeTable::exact;
  Ffn ffn_kind = Ffn::geglu;
  Mask mask = Mask::prefix;

  double norm_eps = 1e-5;         // spec 1.1
  double rope_base = 10000;       // spec 1.4
  double embedding_std = 0.0052;  // initial N(0, std^2) of the embedding, spec 1.9
  double initial_gain = 0;        // of what feeds the residual: 0 for GLM-130B's 1 / alpha; a small model with few steps learns sooner with 1 to 3
  double dropout = 0;             // embedding output, attention probabilities, both residual branches

  constexpr int head_dim() const { return hidden / heads; }                             // D
  constexpr int key_heads() const { return kv_heads ? kv_heads : heads; }               // G
  constexpr int key_width() const { return key_heads() * head_dim(); }                  // of a token's keys, and of its values
  constexpr int qkv_rows() const { return hidden + 2 * key_width(); }                   // of the projection to queries, keys and values
  constexpr int ffn_rows() const { return ffn_kind == Ffn::geglu ? 2 * ffn : ffn; }     // of the up-projection
  constexpr double alpha() const { return norm == Norm::deep ? constant_sqrt(2.0 * layers) : 1.0; }  // residual gain, spec 1.1
  constexpr double beta() const { return initial_gain > 0 ? initial_gain : 1.0 / alpha(); }  // initial gain, spec 1.1

  /// A copy, changed: `glm_130b::config.with([](auto& c) { c.layers = 4; })`.
  template <class Change>
  constexpr ModelConfig with(Change change) const {
    ModelConfig copy = *this;
    change(copy);
    return copy;
  }

  friend constexpr bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// A model is a type that holds its configuration: `struct my_glm { static constexpr auto config = golem::checked({...}); };`
template <class M>
concept Model = requires {
  { M::config } -> std::convertible_to<const ModelConfig&>;
};

/// What a broken rule calls: not constexpr and nowhere defined, so that the compiler stops there and shows the sentence.
void configuration_is_wrong(const char* sentence);

/// Returns `c` where it is sound. Where it is not, the compilation stops at the rule that it breaks: g++, clang and nvcc
/// show that line below their error, and the line that called `checked`.
consteval ModelConfig checked(ModelConfig c) {
  if (c.layers < 1) configuration_is_wrong("golem: ModelConfig::layers must be at least 1");
  if (c.hidden < 1) configuration_is_wrong("golem: ModelConfig::hidden must be at least 1");
  if (c.heads < 1 || c.hidden % c.heads != 0) configuration_is_wrong("golem: ModelConfig::heads must divide ModelConfig::hidden");
  if (c.kv_heads < 0 || c.heads % c.key_heads() != 0) configuration_is_wrong("golem: ModelConfig::kv_heads must divide ModelConfig::heads, or be 0, for as many");
  if (c.head_dim() % 2 != 0) configuration_is_wrong("golem: ModelConfig::hidden / heads must be even, since rotary positions turn pairs");
  if (c.ffn < 1) configuration_is_wrong("golem: ModelConfig::ffn must be at least 1");
  if (c.vocab < 2) configuration_is_wrong("golem: ModelConfig::vocab must be at least 2");
  if (c.context < 1) configuration_is_wrong("golem: ModelConfig::context must be at least 1");
  if (!(c.norm_eps > 0)) configuration_is_wrong("golem: ModelConfig::norm_eps must be above 0");
  if (c.rope_table == RopeTable::fp16 && c.context > 2048)
    configuration_is_wrong("golem: ModelConfig::context must be at most 2048 with RopeTable::fp16, which knows no odd position above: use RopeTable::exact");
  if (!(c.rope_base > 0)) configuration_is_wrong("golem: ModelConfig::rope_base must be above 0");
  if (!(c.embedding_std >= 0)) configuration_is_wrong("golem: ModelConfig::embedding_std must be at least 0");
  if (!(c.initial_gain >= 0)) configuration_is_wrong("golem: ModelConfig::initial_gain must be at least 0");
  if (!(c.dropout >= 0 && c.dropout < 1)) configuration_is_wrong("golem: ModelConfig::dropout must be in [0, 1)");
  return c;
}

/// The proof of a model, whoever made its configuration; public classes instantiate it.
template <Model M>
consteval bool prove_model() {
  return checked(M::config) == M::config;
}

}  // namespace golem
