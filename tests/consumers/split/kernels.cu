// The half that nvcc compiles: a trainer and an engine, with all of their kernels.
// SPDX-License-Identifier: Apache-2.0
#include <golem/golem.cuh>

#include "model.hpp"

template class golem::TrainerCore<split_glm, golem::fp32, 1, golem::cuda::Device>;
template class golem::EngineCore<split_glm, golem::fp32, 1, golem::cuda::Device>;
