// Engine: the class that users instantiate to generate. It proves the configuration and picks the defaults.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/comm/run_terms.hpp"
#include "golem/comm/world.hpp"
#include "golem/config/describe.hpp"
#include "golem/config/layout.hpp"
#include "golem/core/own_device.hpp"
#include "golem/golem_fwd.hpp"
#include "golem/infer/engine_core.hpp"

namespace golem {

/// What Engine asks of its arguments, and the base that it then has: these sentences come before whatever else g++ and clang have to say.
template <class M, class P, Layout layout, class D>
struct EngineRules {
  static_assert(Model<M>, "golem: a model is a type with a ModelConfig `config`: struct my_glm { static constexpr auto config = golem::checked({...}); };");
  static_assert(prove_model<M>());
  static_assert(Precision<P>, "golem: Engine's second argument must be a precision policy, such as golem::bf16 or golem::quantized<golem::Quant{.bits = 4}>");
  static_assert(rounding_of<P>() == Rounding::once || M::config.rope_table == RopeTable::fp16,
                "golem: fp16_exact and fp32_exact compute as GLM-130B did: ModelConfig::rope_table must be RopeTable::fp16");
  static_assert(Device<D>, "golem: Engine's last argument must be a device that is defined: golem.hpp has golem::cpu::Device, the default, and golem.cuh golem::cuda::Device");
  static_assert(layout.pp == 1 && layout.dp == 1, "golem: Engine takes no pipeline and no data parallelism: leave Layout::pp and dp at 1");
  static_assert(!layout.sequence_parallel, "golem: Engine takes no sequence parallelism: leave Layout::sequence_parallel off");
  using Core = EngineCore<M, P, layout.tp, D>;
};

/// Runs model M in precision P, `quantized<...>` included, on one rank, or on the tensor ranks of a world, each of which makes
/// the same calls. See EngineCore for what it does.
///   golem::Engine<my_glm> engine;
///   golem::Engine<my_glm, golem::quantized<golem::Quant{.bits = 4, .group = 128}>> engine(device, {.sequences = 8});
///   golem::Engine<my_glm, golem::fp16, golem::Layout{.tp = 4}> engine(device, world);
template <class M, class P, Layout layout, class D>
class Engine : private OwnDevice<D>, public EngineRules<M, P, layout, D>::Core {
  using Core = typename EngineRules<M, P, layout, D>::Core;

 public:
  explicit Engine(const EngineOptions& options = {}) : OwnDevice<D>{std::make_unique<D>()}, Core(*this->own_device, options) { needs_no_world(); }
  explicit Engine(D& device, const EngineOptions& options = {}) : Core(device, options) { needs_no_world(); }
  /// Throws Error where ranks of the world make other engines, or the same with other options.
  explicit Engine(D& device, World& world, const EngineOptions& options = {}) : Core(device, options, TensorParallel<layout.tp>(proved(world, options))) {}

 private:
  static World& proved(World& world, const EngineOptions& options) {
    require(world.layout() == layout, "an Engine for ", describe(layout), " was given a world of ", describe(world.layout()), ": make the World with the same Layout");
    RunTerms terms;
    terms.model = terms_of(M::config), terms.layout = describe(layout);
    terms.precision = sentence(P::name, " (", name_of(dtype_of<typename P::compute>()), rounding_of<P>() == Rounding::once ? "" : ", as the original", ")");
    if constexpr (QuantizedPrecision<P>) terms.precision += sentence(", groups of ", P::quant.group, P::quant.activations == Activations::exact ? "" : ", int8 activations");
    terms.options = sentence("sequences ", options.sequences, ", capacity ", options.capacity == 0 ? M::config.context : options.capacity), terms.options_name = "the engine's options";
    agree(world, terms);
    return world;
  }
  static void needs_no_world() { static_assert(layout.tp == 1, "golem: an Engine of several ranks needs a device and a World of Layout's ranks: Engine(device, world, options)"); }
};

}  // namespace golem
