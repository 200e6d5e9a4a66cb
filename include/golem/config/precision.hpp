// Precision policies: the types that a model computes, keeps its weights and gathers its gradients in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>

#include "golem/config/quant.hpp"
#include "golem/core/number.hpp"

namespace golem {

/// All in one 32-bit type: the oracle among the policies that are fast.
struct fp32 {
  using compute = float;   // weights in the forward pass, activations, activation gradients
  using master = float;    // weights that the optimizer updates
  using gradient = float;  // weight gradients, accumulated over micro-batches
  static constexpr const char* name = "fp32";
};

/// Forward and backward in bfloat16; master weights, moments, gradients, statistics and softmax in fp32.
struct bf16_mixed {
  using compute = bfloat16;
  using master = float;
  using gradient = float;
  static constexpr const char* name = "bf16_mixed";
};

/// The same in IEEE half precision, with a dynamic loss scale (spec 4.2).
struct fp16_mixed {
  using compute = float16;
  using master = float;
  using gradient = float;
  static constexpr const char* name = "fp16_mixed";
};

/// As Base, with weight gradients added up and reduced in its compute type, the original's way (spec 4.2): half the memory and
/// traffic of gradients, at the price of low bits in sums over many micro-batches.
template <class Base = fp16_mixed>
struct low_gradients {
  using compute = typename Base::compute;
  using master = typename Base::master;
  using gradient = typename Base::compute;
  static constexpr const char* name = "low_gradients";
};

/// Inference in bfloat16.
struct bf16 {
  using compute = bfloat16;
  using master = bfloat16;
  using gradient = float;
  static constexpr const char* name = "bf16";
};

/// Inference in IEEE half precision.
struct fp16 {
  using compute = float16;
  using master = float16;
  using gradient = float;
  static constexpr const char* name = "fp16";
};

/// Inference in IEEE half precision with the rounding points of GLM-130B's own code (spec 1.3 to 1.5), for models whose rotary
/// table is RopeTable::fp16: what the original computes on one GPU, up to the order in which matrix products add.
struct fp16_exact {
  using compute = float16;
  using master = float16;
  using gradient = float;
  static constexpr const char* name = "fp16_exact";
  static constexpr Rounding rounding = Rounding::stepwise;
};

/// The same steps in fp32, where rounding does not hide mistakes.
struct fp32_exact {
  using compute = float;
  using master = float;
  using gradient = float;
  static constexpr const char* name = "fp32_exact";
  static constexpr Rounding rounding = Rounding::stepwise;
};

/// Where the ops of policy P round.
template <class P>
consteval Rounding rounding_of() {
  if constexpr (requires { P::rounding; }) return P::rounding;
  else return Rounding::once;
}

/// For tests: rounding no longer hides mistakes.
struct fp64 {
  using compute = double;
  using master = double;
  using gradient = double;
  static constexpr const char* name = "fp64";
};

/// Inference with the four linear weights of each block quantised by Q, everything else as in Base.
template <Quant Q, class Base = fp32>
struct quantized {
  using compute = typename Base::compute;
  using master = typename Base::master;
  using gradient = typename Base::gradient;
  static constexpr const char* name = Q.bits == 4 ? "int4" : "int8";
  static constexpr Quant quant = Q;
  static constexpr Rounding rounding = rounding_of<Base>();
};

template <class P>
concept Precision = requires {
  typename P::compute;
  typename P::master;
  typename P::gradient;
  P::name;
};

/// Policies whose linear weights are quantised.
template <class P>
concept QuantizedPrecision = Precision<P> && requires {
  { P::quant } -> std::convertible_to<Quant>;
};

/// Policies whose quantised weights become elements of the compute type before each product, as the original's do (spec 5.1).
template <class P>
concept DequantizedPrecision = QuantizedPrecision<P> && rounding_of<P>() == Rounding::stepwise && P::quant.activations == Activations::exact;

/// Policies that a Trainer accepts: the master weights are as wide as the sums of the compute type, or wider.
template <class P>
concept TrainingPrecision = Precision<P> && !QuantizedPrecision<P> && rounding_of<P>() == Rounding::once && std::same_as<typename P::master, accumulate_t<typename P::compute>>;

/// Whether gradients of this type need a loss scale: fp16 underflows below 6e-8.
template <Precision P>
inline constexpr bool needs_loss_scale = std::same_as<typename P::compute, float16>;

/// Whether weights are kept a second time, in the compute type.
template <Precision P>
inline constexpr bool has_master_copy = !std::same_as<typename P::compute, typename P::master>;

}  // namespace golem
