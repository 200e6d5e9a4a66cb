// Rotary positions, embedding, loss, optimizer and products, built for the GPU that runs the tests.
// SPDX-License-Identifier: Apache-2.0
#include "cuda/emitted.hpp"
#include "golem/cuda/dropout.cuh"
#include "golem/cuda/embedding.cuh"
#include "golem/cuda/gemm.cuh"
#include "golem/cuda/loss.cuh"
#include "golem/cuda/optimizer.cuh"
#include "golem/cuda/rotate.cuh"
#include "golem/cuda/sampling.cuh"

namespace golem::cuda {

template <class T>
const void* const element_ops[]{
    emitted(rotate<T>),
    emitted(rotate_backward<T>),
    emitted(embed<T>),
    emitted(embed_backward<T>),
    emitted(drop<T>),
    emitted(logit_statistics<accumulate_t<T>>),
    emitted(rescale_sums<accumulate_t<T>>),
    emitted(token_losses<accumulate_t<T>>),
    emitted(round_to_type<T>),
    emitted(logit_gradient<T>),
    emitted(scale_rows<T>),
    emitted(choose_token<accumulate_t<T>>),
    emitted(gather_rows<T>),
    emitted(scatter_rows<T>),
    emitted(adamw<accumulate_t<T>, T, accumulate_t<T>>),
    emitted(adamw<accumulate_t<T>, accumulate_t<T>, T>),
    emitted(sum_of_squares<T>),
    emitted(add_up_squares<T>),
    emitted(add<T, accumulate_t<T>>),
    emitted(convert<T, accumulate_t<T>>),
    emitted(project<T, T>),
    emitted(project<T, const T>),
    emitted(project<accumulate_t<T>, T>),
    emitted(project<accumulate_t<T>, const T>),
    emitted(project_backward_input<T, T>),
    emitted(project_backward_input<accumulate_t<T>, T>),
    emitted(project_backward_weight<T>),
};
const void* const all_of_element_ops[]{element_ops<float>, element_ops<double>, element_ops<float16>, element_ops<bfloat16>};

/// So that the tables count as used.
const void* const* element_ops_of_tests() { return all_of_element_ops; }

}  // namespace golem::cuda
