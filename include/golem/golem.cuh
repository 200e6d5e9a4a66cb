// golem.hpp and the CUDA engine; for .cu files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/cuda/norm.cuh"
#include "golem/golem.hpp"
