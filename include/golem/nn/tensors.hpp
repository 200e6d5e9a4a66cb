// The tensors of a stage, bound to the one list of config/parameters.hpp: weights, gradients and moments have the same struct.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/math.hpp"
#include "golem/core/tensor.hpp"

namespace golem {

template <class T>
struct NormTensors {
  View<T, 1> gamma, beta;  // (C)
};

/// Matrix is View<T, 2>, or a quantised matrix, as the precision policy has it (nn/weights.hpp).
template <class Matrix, class T>
struct LinearTensors {
  Matrix weight;    // (O, I)
  View<T, 1> bias;  // (O)
};

template <class Matrix, class T>
struct BlockTensors {
  NormTensors<T> input_norm;
  LinearTensors<Matrix, T> qkv;    // ((C + 2GD)/tp, C), rows [q .. k v] key head by key head (spec 1.6)
  LinearTensors<Matrix, T> dense;  // (C, C/tp)
  NormTensors<T> attention_norm;   // "post_attention_layernorm"
  LinearTensors<Matrix, T> up;     // (2F/tp, C), [linear ; gate] (spec 1.7)
  LinearTensors<Matrix, T> down;   // (C, F/tp)

  /// In the order of block_parameters().
  template <class Visit>
  void visit(Visit visit) {
    visit(input_norm.gamma), visit(input_norm.beta);
    visit(qkv.weight), visit(qkv.bias);
    visit(dense.weight), visit(dense.bias);
    visit(attention_norm.gamma), visit(attention_norm.beta);
    visit(up.weight), visit(up.bias);
    visit(down.weight), visit(down.bias);
  }
};

template <class Matrix, class T>
struct StageTensors {
  View<T, 2> embedding;  // (V/tp, C), the head too
  std::vector<BlockTensors<Matrix, T>> blocks;
  NormTensors<T> final_norm;

  StageTensors() = default;
  explicit StageTensors(const Stage& stage) : blocks(static_cast<std::size_t>(stage.last - stage.first)) {}

  /// visit(parameter, layer, tensor) in the order of for_each_parameter(); layer is -1 outside the blocks.
  template <class Visit>
  void visit(const ModelConfig& config, const Stage& stage, Visit visit) {
    if (stage.embedding || stage.head) visit(embedding_parameter(config), -1, embedding);
    const auto list = block_parameters(config);
    for (int layer = stage.first; layer < stage.last; ++layer) {
      const Parameter* parameter = list.data();
      blocks[static_cast<std::size_t>(layer - stage.first)].visit([&](auto& tensor) { visit(*parameter++, layer, tensor); });
    }
    if (stage.head) {
      const auto last = final_parameters(config);
      visit(last[0], -1, final_norm.gamma), visit(last[1], -1, final_norm.beta);
    }
  }
};

template <class T>
void bind_view(View<T, 1>& view, T* data, const Parameter& parameter, int tp) {
  view = {data, parameter.local_rows(tp)};
}
template <class T>
void bind_view(View<T, 2>& view, T* data, const Parameter& parameter, int tp) {
  view = {data, parameter.local_rows(tp), parameter.local_columns(tp)};
}

}  // namespace golem
