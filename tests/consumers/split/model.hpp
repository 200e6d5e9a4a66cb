// A program in two halves: the model that both know, and what the one compiles so that the other need not.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <golem/cuda/device.hpp>
#include <golem/golem.hpp>

struct split_glm {
  static constexpr auto config = golem::checked({.layers = 2, .hidden = 64, .heads = 4, .ffn = 176, .vocab = 128, .context = 64, .embedding_std = 0.02});
};

using Trainer = golem::Trainer<split_glm, golem::fp32, golem::Layout{}, golem::cuda::Device>;
using Engine = golem::Engine<split_glm, golem::fp32, golem::Layout{}, golem::cuda::Device>;
