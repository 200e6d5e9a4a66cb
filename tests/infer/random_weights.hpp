// Random weights by name, plain and quantised, as an engine reads them from files; shared by the tests of infer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "golem/golem.hpp"
#include "oracle/transformer.hpp"

namespace tests {

inline constexpr golem::SpecialTokens special{.mask = 30, .gmask = 31, .smask = 32, .sop = 33, .eop = 34, .eos = 35, .newline = 36, .pad = 0};

/// Fills tensor.data with its slice of `values`.
template <class E, class Value>
void copy_slice(const golem::TensorState& tensor, const std::vector<Value>& values) {
  const golem::MatrixExtent extent = golem::matrix_extent(tensor.shape, tensor.name);
  golem::require(extent.size() == static_cast<std::int64_t>(values.size()), "tensor '", tensor.name, "' has ", values.size(), " elements, and ", extent.size(), " were asked for");
  const golem::Slice wanted = tensor.slice.value_or(golem::whole_slice(extent));
  golem::check_slice(wanted, extent, tensor.name);
  golem::require(wanted.size() * static_cast<std::int64_t>(sizeof(E)) == static_cast<std::int64_t>(tensor.bytes), "the memory for '", tensor.name, "' has another size than its slice");
  golem::for_each_shared(golem::SliceBlocks(golem::whole_slice(extent)), golem::SliceBlocks(wanted), [&](std::int64_t from, std::int64_t to, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) static_cast<E*>(tensor.data)[to + i] = static_cast<E>(values[static_cast<std::size_t>(from + i)]);
  });
}

/// Biases and norms are random too, so that every term counts.
template <class M>
struct RandomWeights : golem::TensorSource {
  oracle::Glm model{.config = M::config, .weights = {}};
  RandomWeights() {
    golem::for_each_parameter(M::config, golem::whole(M::config), [&](const golem::Parameter& parameter, int layer) {
      const std::string name = golem::full_name(parameter, layer);
      auto& values = model.weights[name];
      for (std::int64_t i = 0; i < parameter.size(); ++i) {
        const double shake = 0.3 * golem::Random{3, golem::stream_of(name)}.normal(static_cast<std::uint64_t>(i));
        values.push_back(static_cast<float>(parameter.init == golem::Init::ones ? 1 + shake : shake));
      }
    });
  }
  bool has(const std::string& name) const override { return model.weights.contains(name); }
  void read(const golem::TensorState& tensor) const override {
    const auto& values = model.weights.at(tensor.name);
    switch (tensor.type) {
      case golem::DType::f64: return copy_slice<double>(tensor, values);
      case golem::DType::f32: return copy_slice<float>(tensor, values);
      case golem::DType::f16: return copy_slice<golem::float16>(tensor, values);
      default: return copy_slice<golem::bfloat16>(tensor, values);
    }
  }
};

/// The same, its linear matrices quantised whole and stored by Q.
template <class M, golem::Quant Q>
struct QuantizedWeights : RandomWeights<M> {
  std::map<std::string, std::vector<std::uint8_t>> integers;
  std::map<std::string, std::vector<golem::float16>> scales;
  QuantizedWeights() {
    golem::for_each_parameter(M::config, golem::whole(M::config), [&](const golem::Parameter& parameter, int layer) {
      if (!parameter.quantized) return;
      const std::string name = golem::full_name(parameter, layer);
      auto& bytes = integers[name];
      auto& scale = scales[name + "_scale"];
      bytes.resize(static_cast<std::size_t>(parameter.rows * Q.row_bytes(parameter.columns)));
      scale.resize(static_cast<std::size_t>(parameter.rows * Q.groups(parameter.columns)));
      golem::quantize(golem::QuantizedView<Q, std::uint8_t>(parameter.rows, parameter.columns, bytes.data(), scale.data()),
                      golem::View<double, 2>{this->model.weights.at(name).data(), parameter.rows, parameter.columns});
    });
  }
  bool has(const std::string& name) const override { return scales.contains(name) || RandomWeights<M>::has(name); }
  void read(const golem::TensorState& tensor) const override {
    if (tensor.type == golem::DType::i8) return copy_slice<std::uint8_t>(tensor, integers.at(tensor.name));
    if (scales.contains(tensor.name)) return copy_slice<golem::float16>(tensor, scales.at(tensor.name));
    RandomWeights<M>::read(tensor);
  }
};

/// The row of a prompt with what was generated behind it, as one whole row without a cache.
inline golem::Batch whole_row(const golem::Prompt& prompt, const std::vector<std::int32_t>& generated) {
  golem::Batch batch{.rows = 1, .length = static_cast<int>(prompt.tokens.size() + generated.size())};
  batch.tokens = prompt.tokens, batch.positions = prompt.positions;
  for (std::size_t i = 0; i < generated.size(); ++i) batch.tokens.push_back(generated[i]), batch.positions.push_back(prompt.position(static_cast<std::int64_t>(i)));
  batch.targets.assign(batch.tokens.size(), -1);
  batch.windows = {{0, batch.length, prompt.prefix()}}, batch.first_window = {0, 1}, batch.tasks = {golem::Task::blank};
  return batch;
}

}  // namespace tests
