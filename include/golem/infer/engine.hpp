// Engine: the class that users instantiate to generate. It proves the configuration and picks the defaults.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/config/layout.hpp"
#include "golem/core/own_device.hpp"
#include "golem/golem_fwd.hpp"
#include "golem/infer/engine_core.hpp"

namespace golem {

/// Runs model M in precision P, `quantized<...>` included, on one rank. See EngineCore for what it does.
///   golem::Engine<my_glm> engine;
///   golem::Engine<my_glm, golem::quantized<golem::Quant{.bits = 4, .group = 128}>> engine(device, {.sequences = 8});
template <class M, class P, Layout layout, class D>
class Engine : private OwnDevice<D>, public EngineCore<M, P, layout.tp, D> {
  static_assert(Model<M>, "golem: a model is a type with a ModelConfig `config`: struct my_glm { static constexpr auto config = golem::checked({...}); };");
  static_assert(prove_model<M>());
  static_assert(Precision<P>, "golem: Engine's second argument must be a precision policy, such as golem::bf16 or golem::quantized<golem::Quant{.bits = 4}>");
  static_assert(rounding_of<P>() == Rounding::once || M::config.rope_table == RopeTable::fp16,
                "golem: fp16_exact and fp32_exact compute as GLM-130B did: ModelConfig::rope_table must be RopeTable::fp16");
  static_assert(Device<D>, "golem: Engine's last argument must be a device, such as golem::cpu::Device");
  static_assert(layout.pp == 1 && layout.dp == 1, "golem: Engine takes no pipeline and no data parallelism: leave Layout::pp and dp at 1");
  static_assert(layout.tp == 1, "golem: this version runs an Engine on one rank: use Layout{}");

 public:
  explicit Engine(const EngineOptions& options = {}) : OwnDevice<D>{std::make_unique<D>()}, EngineCore<M, P, layout.tp, D>(*this->own_device, options) {}
  explicit Engine(D& device, const EngineOptions& options = {}) : EngineCore<M, P, layout.tp, D>(device, options) {}
};

}  // namespace golem
