// Attention, built for the GPU that runs the tests.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/emitted.hpp"
#include "golem/cuda/attention.cuh"
#include "golem/cuda/rotate_into_cache.cuh"

namespace golem::cuda {

template <class T>
const void* const attention_ops[]{
    emitted(attend<T>),
    emitted(attend_backward<T>),
    emitted(rotate_into_cache<T>),
    emitted(attend_cached<T>),
};
const void* const all_of_attention_ops[]{attention_ops<float>, attention_ops<double>, attention_ops<float16>, attention_ops<bfloat16>};

/// Those of models, which know the dims of their heads: 8, 16 and 64 of the tests' trainers and engines, 80 and 32 of the ops' own tests.
template <class T, int HeadDim>
const void* const ops_of_known_heads[]{
    emitted(attend<T, AttentionOptionsOf<HeadDim>>),
    emitted(attend_backward<T, AttentionOptionsOf<HeadDim>>),
    emitted(attend_cached<T, AttentionOptionsOf<HeadDim>>),
};
const void* const all_of_known_heads[]{
    ops_of_known_heads<float, 8>,  ops_of_known_heads<float16, 8>,  ops_of_known_heads<float, 16>,   ops_of_known_heads<double, 16>,   ops_of_known_heads<float16, 16>,
    ops_of_known_heads<float, 64>, ops_of_known_heads<float16, 64>, ops_of_known_heads<float16, 32>, ops_of_known_heads<bfloat16, 16>, ops_of_known_heads<bfloat16, 80>};

/// So that the tables count as used.
const void* const* attention_ops_of_tests(bool known_heads) { return known_heads ? all_of_known_heads : all_of_attention_ops; }

}  // namespace golem::cuda
