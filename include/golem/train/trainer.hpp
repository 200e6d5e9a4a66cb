// Trainer: the class that users instantiate. It proves the configuration and turns the layout into run-time values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "golem/config/describe.hpp"
#include "golem/config/layout.hpp"
#include "golem/core/own_device.hpp"
#include "golem/golem_fwd.hpp"
#include "golem/train/trainer_core.hpp"

namespace golem {

/// What Trainer asks of its arguments, and the base that it then has: these sentences come before whatever else g++ and clang have to say.
template <class M, class P, Layout layout, class D>
struct TrainerRules {
  static_assert(Model<M>, "golem: a model is a type with a ModelConfig `config`: struct my_glm { static constexpr auto config = golem::checked({...}); };");
  static_assert(prove_model<M>());
  static_assert(TrainingPrecision<P>, "golem: Trainer needs fp32, fp64, bf16_mixed, fp16_mixed or low_gradients of one of these; bf16, fp16 and quantized are for inference");
  static_assert(Device<D>, "golem: Trainer's last argument must be a device that is defined: golem.hpp has golem::cpu::Device, the default, and golem.cuh golem::cuda::Device");
  static_assert(layout.tp >= 1 && layout.pp >= 1 && layout.dp >= 1, "golem: Layout::tp, pp and dp must be at least 1");
  static_assert(layout.pp <= M::config.layers + 2, "golem: Layout::pp must be at most ModelConfig::layers + 2, since embedding and head count as a layer each");
  using Core = TrainerCore<M, P, layout.tp, D>;
};

/// Trains model M with precision policy P on one rank of `layout`. See TrainerCore for what it does.
///   golem::Trainer<my_glm> trainer;                       // fp32, on the CPU, its own device
///   golem::Trainer<my_glm, golem::bf16_mixed> trainer(device, {.micro_batch = 4});
///   golem::Trainer<my_glm, golem::fp32, golem::Layout{.tp = 2, .dp = 2}> trainer(device, {}, world);
template <class M, class P, Layout layout, class D>
class Trainer : private OwnDevice<D>, public TrainerRules<M, P, layout, D>::Core {
  using Core = typename TrainerRules<M, P, layout, D>::Core;

 public:
  explicit Trainer(const TrainingConfig& config = {}) : OwnDevice<D>{std::make_unique<D>()}, Core(*this->own_device, config, {}) {
    static_assert(layout.ranks() == 1, "golem: a Trainer of several ranks needs a device and a World of Layout's ranks: Trainer(device, config, world)");
  }
  explicit Trainer(D& device, const TrainingConfig& config = {}, const World& world = {}) : Core(device, config, proved(world)) {}

 private:
  static const World& proved(const World& world) {
    require(world.layout() == layout, "a Trainer for ", describe(layout), " was given a world of ", describe(world.layout()), ": make the World with the same Layout");
    return world;
  }
};

}  // namespace golem
