// golem.hpp and the CUDA engine; for .cu files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/cuda/attention.cuh"
#include "golem/cuda/dequantize.cuh"
#include "golem/cuda/doctor.cuh"
#include "golem/cuda/dropout.cuh"
#include "golem/cuda/embedding.cuh"
#include "golem/cuda/feed_forward.cuh"
#include "golem/cuda/gemm.cuh"
#include "golem/cuda/loss.cuh"
#include "golem/cuda/norm.cuh"
#include "golem/cuda/optimizer.cuh"
#include "golem/cuda/products.hpp"
#include "golem/cuda/quantized_gemm.cuh"
#include "golem/cuda/rotate.cuh"
#include "golem/cuda/sampling.cuh"

#pragma nv_diagnostic push
#pragma nv_diag_suppress 1675  // the CPU engine's pragmas are for the host's compiler, which gets them
#include "golem/golem.hpp"
#pragma nv_diagnostic pop
