// The structs that ops of every engine take as arguments: attention's masks and scales, residual gradients, optimizer steps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "golem/core/batch.hpp"
#include "golem/core/number.hpp"
#include "golem/core/random.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

/// The attention windows of a batch: row r owns all[first[r]] .. all[first[r + 1] - 1]. Tokens outside every window
/// attend to nothing: their output is zero.
struct WindowList {
  View<const Window, 1> all;
  View<const std::int32_t, 1> first;  // (B + 1)
};

/// Query heads H of qkv (N, G, S + 2, D): behind the queries of the S heads that share them lie a key and a value (spec 1.6:
/// S = 1, each head has its own).
template <class T>
std::int64_t query_heads(const View<T, 4>& qkv) {
  require(qkv.extent(2) >= 3, "attention was given qkv of shape ", shape_of(qkv), ": give (N, G, S + 2, D), queries of S heads, their key and their value");
  return qkv.extent(1) * (qkv.extent(2) - 2);
}

/// probabilities = softmax(scores * layer_scale), scores = (q * scale / layer_scale) kT, with q rounded to its type after
/// the scaling (spec 1.5: layer_scale is layer + 1, and keeps fp16 scores in range). Rounding::stepwise also rounds scores and
/// probabilities to its type, and hides a key by a score of hidden_score, as the original does.
struct AttentionOptions {
  double scale = 1;        // 1 / sqrt(D)
  double layer_scale = 1;  // c_l
  double dropout = 0;      // of the probabilities
  Random random{};         // where its masks come from
  Rounding rounding = Rounding::once;
  std::int64_t first_head = 0, heads = 0;  // head 0 here is head first_head of `heads`: masks do not depend on who has which; 0: all are here
  std::int64_t tokens = 0;                 // that masks are drawn for in each row: they do not depend on how far rows are padded; 0: T
};

/// AttentionOptions for heads of a number of dims that the program knows: an engine need not compile its kernels for other heads.
template <int Dims>
struct AttentionOptionsOf : AttentionOptions {
  static constexpr int head_dims = Dims;
};

/// What the original's masks put in the place of a score (spec 1.5). A query that sees no key then attends to all alike.
inline constexpr double hidden_score = -10000;

/// One sequence in a call on a key-value cache: its `count` new tokens are rows [row, row + count) of qkv, and tokens
/// first .. first + count - 1 of the sequence, whose cache is slot `slot`. Token i sees token j where j <= i or j < prefix.
struct CachedSequence {
  std::int32_t row = 0, count = 0, first = 0, prefix = 0, slot = 0;
};

/// Throws Error unless new tokens qkv (N, G, S + 2, D), their positions (N) and the angles cos, sin (context, D/2), or none, fit a cache: keys, values (slots, G, capacity, D).
template <class T>
void require_cache_shapes(const View<T, 4>& keys, const View<T, 4>& values, const View<T, 4>& qkv, const View<const accumulate_t<T>, 2>& cos, const View<const accumulate_t<T>, 2>& sin,
                          const View<const std::int32_t, 1>& positions) {
  const std::int64_t dims = qkv.extent(3);
  require(qkv.extent(2) >= 3 && dims % 2 == 0 && keys.extent(1) == qkv.extent(1) && keys.extent(3) == dims && keys.size() == values.size() &&
              (!cos || (cos.extent(1) == dims / 2 && sin.size() == cos.size() && positions.extent(0) == qkv.extent(0))),
          "rotate_into_cache was given qkv ", shape_of(qkv), ", keys ", shape_of(keys), ", values ", shape_of(values), ", cosines ", shape_of(cos), ", sines ", shape_of(sin), " and ",
          positions.extent(0), " positions: give (N, G, S + 2, D) with an even D, (slots, G, capacity, D) twice, (context, D/2) twice and N");
}

/// How a token is chosen from logits: by the rules of infer/sampling.hpp, which makes and checks it.
struct TokenChoice {
  float temperature = 1;
  int top_k = 0;       // 0: all; 1: the first of the largest logits
  float top_p = 0;     // 0: all
  double uniform = 0;  // the random number, in [0, 1)
};

/// What came of it.
struct ChosenToken {
  enum class Status : std::int32_t { chosen, no_number, too_cold, none_left };  // a logit was NaN or infinite; the temperature made all of them infinite; those that are not banned are -infinity
  std::int32_t token = 0;
  Status status = Status::chosen;
};

/// What else flows into the gradient of a norm: `alpha * inside` joins the norm's output gradient (the residual is the
/// norm's output), `outside` joins its input gradient (the residual passes the norm by). Each may be empty.
template <class T>
struct ResidualGradient {
  View<const T, 2> inside;   // (N, C)
  View<const T, 2> outside;  // (N, C)
  double alpha = 1;
};

/// What AdamW moves: equal-sized segments of the flat buffers.
template <class A, class T, class G = A>
struct AdamwTensors {
  View<A, 1> master, moment1, moment2;
  View<T, 1> compute;  // the weights in T; empty where the master is used itself
  View<const G, 1> gradient;
};

/// One AdamW update (spec 4.2): g = gradient * gradient_scale; m, v as usual; with decay decoupled from the gradient,
/// w -= learning_rate * (m / correction1 / (sqrt(v / correction2) + eps) + decay * w).
struct AdamwStep {
  double learning_rate = 0;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0;
  double correction1 = 1, correction2 = 1;  // 1 - beta^t
  double gradient_scale = 1;                // undoes the loss scale, and clips
};

}  // namespace golem
