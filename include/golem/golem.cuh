// The CUDA engine, and models, trainers and engines for it; for .cu files. What golem.hpp has beside (the CPU engine, data, measures, clusters on paper), it leaves to golem.hpp.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "golem/any_device.hpp"
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
#include "golem/cuda/rotate_into_cache.cuh"
#include "golem/cuda/sampling.cuh"
