// WeightStore: the memory of an engine's weights, plain and quantised, and how they are read into it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "golem/config/precision.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/core/stateful.hpp"
#include "golem/nn/weights.hpp"
#include "golem/quant/absmax.hpp"

namespace golem {

/// All weights of a stage in one allocation, in the types of P.
template <Model M, Precision P, int Tp, Device D>
class WeightStore {
 public:
  using T = typename P::compute;

  WeightStore(D& device, const Stage& stage) : device_(&device), stage_(stage), tensors_(stage) {
    Arena measure;
    lay_out(measure);
    memory_ = Buffer<std::byte, D>(device, static_cast<std::int64_t>(measure.used()), "weights");
    Arena arena(memory_.data(), memory_.bytes());
    lay_out(arena);
  }

  const StageWeights<P>& tensors() const { return tensors_; }

  /// Reads every weight by its name in files. A quantised matrix is read as it is stored where the source has its scales
  /// ("<name>_scale", spec 5.1), and is quantised here, row by row, where it has not.
  void load(const TensorSource& source) {
    tensors_.visit(M::config, stage_, [&](const Parameter& parameter, int layer, auto& tensor) { read(source, full_name(parameter, layer), tensor); });
  }

 private:
  void lay_out(Arena& arena) {
    tensors_.visit(M::config, stage_, [&](const Parameter& parameter, int, auto& tensor) { take(arena, parameter.local_rows(Tp), parameter.local_columns(Tp), tensor); });
  }
  static void take(Arena& arena, std::int64_t rows, std::int64_t, View<T, 1>& tensor) { tensor = arena.take<T>(rows); }
  static void take(Arena& arena, std::int64_t rows, std::int64_t columns, View<T, 2>& tensor) { tensor = arena.take<T>(rows, columns); }
  template <Quant Q>
  static void take(Arena& arena, std::int64_t rows, std::int64_t columns, QuantizedView<Q>& tensor) {
    const auto bytes = arena.take<std::uint8_t>(rows, Q.row_bytes(columns));
    const auto scales = arena.take<float16>(rows, Q.groups(columns));
    tensor = QuantizedView<Q>(rows, columns, bytes.data, scales.data);
  }

  template <int Rank>
  void read(const TensorSource& source, const std::string& name, View<T, Rank>& tensor) {
    read_into(source, name, const_cast<T*>(tensor.data), std::vector<std::int64_t>(tensor.extents, tensor.extents + Rank), dtype_of<T>());
  }

  template <Quant Q>
  void read(const TensorSource& source, const std::string& name, QuantizedView<Q>& tensor) {
    auto* bytes = const_cast<std::uint8_t*>(tensor.data.data);
    auto* scales = const_cast<float16*>(tensor.scales.data);
    if (source.has(name + "_scale")) {
      read_into(source, name, bytes, {tensor.rows, Q.row_bytes(tensor.columns)}, DType::i8);
      std::vector<std::int64_t> shape{tensor.rows};
      if (Q.group != 0) shape.push_back(Q.groups(tensor.columns));
      read_into(source, name + "_scale", scales, shape, DType::f16);
      return;
    }
    std::vector<float> plain(static_cast<std::size_t>(tensor.rows * tensor.columns));
    source.read(TensorState{.name = name, .type = DType::f32, .shape = {tensor.rows, tensor.columns}, .data = plain.data(), .bytes = plain.size() * sizeof(float)});
    std::vector<std::uint8_t> host_bytes(static_cast<std::size_t>(tensor.data.size()));
    std::vector<float16> host_scales(static_cast<std::size_t>(tensor.scales.size()));
    quantize(QuantizedView<Q, std::uint8_t>(tensor.rows, tensor.columns, host_bytes.data(), host_scales.data()), View<float, 2>{plain.data(), tensor.rows, tensor.columns});
    device_->copy_in(bytes, host_bytes.data(), host_bytes.size());
    device_->copy_in(scales, host_scales.data(), host_scales.size() * sizeof(float16));
  }

  template <class E>
  void read_into(const TensorSource& source, const std::string& name, E* to, const std::vector<std::int64_t>& shape, DType type) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    std::vector<E> host(static_cast<std::size_t>(count));
    source.read(TensorState{.name = name, .type = type, .shape = shape, .data = host.data(), .bytes = host.size() * sizeof(E)});
    device_->copy_in(to, host.data(), host.size() * sizeof(E));
  }

  D* device_;
  Stage stage_;
  Buffer<std::byte, D> memory_;
  StageWeights<P> tensors_;
};

}  // namespace golem
