// Attention, built for the GPU that runs the tests.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/emitted.hpp"
#include "golem/cuda/attention.cuh"

namespace golem::cuda {

template <class T>
const void* const attention_ops[]{
    emitted(attend<T>),
    emitted(attend_backward<T>),
    emitted(append_cache<T>),
    emitted(attend_cached<T>),
};
const void* const all_of_attention_ops[]{attention_ops<float>, attention_ops<double>, attention_ops<float16>, attention_ops<bfloat16>};
const void* const attention_ops_of_known_heads[]{emitted(attend<bfloat16, AttentionOptionsOf<80>>), emitted(attend_backward<bfloat16, AttentionOptionsOf<80>>), emitted(attend_cached<float16, AttentionOptionsOf<32>>)};

/// So that the tables count as used.
const void* const* attention_ops_of_tests(bool known_heads) { return known_heads ? attention_ops_of_known_heads : all_of_attention_ops; }

}  // namespace golem::cuda
