// The models and precisions that the example programs were built for, and the one switch that picks among them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>

#include "device.hpp"
#include "golem/config/precision.hpp"
#include "golem/config/presets.hpp"
#include "golem/core/error.hpp"

namespace examples {

/// A model that the programs know by name; another one is one more line here.
template <class M>
struct Named {
  std::string_view name;
};
inline constexpr Named<golem::glm_tiny> tiny{"tiny"};
inline constexpr Named<golem::glm_small> small{"small"};

/// The models that the programs are built for; CMake's GOLEM_EXAMPLES_MODELS names others.
inline constexpr std::tuple models{GOLEM_EXAMPLES_MODELS};

/// "tiny (2 x 64), small (4 x 192)": these models and their layers and width.
inline std::string model_names() {
  std::string names;
  const auto add = [&]<class M>(const Named<M>& model) { names += golem::sentence(names.empty() ? "" : ", ", model.name, " (", M::config.layers, " x ", M::config.hidden, ")"); };
  std::apply([&](const auto&... known) { (add(known), ...); }, models);
  return names;
}
/// The last of them, for who names none.
inline std::string_view default_model() { return std::get<std::tuple_size_v<decltype(models)> - 1>(models).name; }

/// Calls use.template operator()<Model>() for the model of that name.
template <class Use>
void with_model(std::string_view name, Use use) {
  const auto is_it = [&]<class M>(const Named<M>& model) {
    if (name == model.name) use.template operator()<M>();
    return name == model.name;
  };
  const bool found = std::apply([&](const auto&... known) { return (is_it(known) || ...); }, models);
  if (!found)
    golem::fail("there is no model '", name, "' in this program: it was built for ", model_names(), "; name it in GOLEM_EXAMPLES_MODELS when configuring, and write it into examples/models.hpp where it is new");
}

/// The same for a precision that trains.
template <class Use>
void with_training_precision(std::string_view name, Use use) {
  if (name == "fp32") return use.template operator()<golem::fp32>();
  if (name == "bf16") return use.template operator()<golem::bf16_mixed>();
  golem::fail("there is no training precision '", name, "' in this program: it was built for fp32 and bf16; add a line to with_training_precision() in examples/models.hpp");
}

/// The tensor-parallel degrees that the programs are built for; CMake's `tensor_degrees_option` sets others.
inline constexpr int tensor_degrees[]{GOLEM_EXAMPLES_TP};

/// Calls use.template operator()<Tp>() for a tensor-parallel degree that this program was built for and the model's key heads,
/// feed-forward and vocabulary can be divided by.
template <class M, std::size_t next = 0, class Use>
void with_tensor_degree(int tp, Use use) {
  if constexpr (next < std::size(tensor_degrees)) {
    constexpr int degree = tensor_degrees[next];
    constexpr bool divides = M::config.key_heads() % degree == 0 && M::config.ffn % degree == 0 && M::config.vocab % degree == 0;
    if (tp != degree) return with_tensor_degree<M, next + 1>(tp, use);
    if constexpr (divides) use.template operator()<degree>();
    else golem::fail("tp ", tp, " does not divide this model's ", M::config.key_heads(), M::config.key_heads() == M::config.heads ? " heads, feed-forward of " : " key heads, feed-forward of ", M::config.ffn, " and vocabulary of ", M::config.vocab, ": choose a degree that does");
  } else {
    golem::fail("this program was not built for tp ", tp, ": add it to the list when configuring, -D", tensor_degrees_option, "=\"1;", tp, "\"");
  }
}

/// What an engine holds its weights in: "full" is fp32.
template <class Use>
void with_engine_precision(std::string_view name, Use use) {
  if (name == "full") return use.template operator()<golem::fp32>();
  if (name == "int8") return with_products<golem::quantized<golem::Quant{.bits = 8}>>(use);
  if (name == "int4") return with_products<golem::quantized<golem::Quant{.bits = 4, .group = 32}>>(use);
  golem::fail("there is no precision '", name, "' in this program: it was built for full, int8 and int4 (groups of 32); add a line to with_engine_precision() in examples/models.hpp");
}

}  // namespace examples
