// WeightStore: the memory of an engine's weights, plain and quantised, and how a rank's part of them is read into it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "golem/config/precision.hpp"
#include "golem/core/buffer.hpp"
#include "golem/core/device.hpp"
#include "golem/core/math.hpp"
#include "golem/core/stateful.hpp"
#include "golem/nn/flat_layout.hpp"
#include "golem/nn/weights.hpp"
#include "golem/quant/absmax.hpp"

namespace golem {

/// All weights of a stage on one of Tp tensor ranks, in one allocation, in the types of P.
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

  /// Reads tensor rank `rank`'s part of every weight by its name in files, some rows at a time. A quantised matrix is read as it
  /// is stored where the source has its scales ("<name>_scale", spec 5.1), and is quantised here, row by row, where it has not.
  void load(const TensorSource& source, int rank = 0) {
    rank_ = rank;
    tensors_.visit(M::config, stage_, [&](const Parameter& parameter, int layer, auto& tensor) { read(source, parameter, full_name(parameter, layer), tensor); });
  }

 private:
  void lay_out(Arena& arena) {
    tensors_.visit(M::config, stage_, [&](const Parameter& parameter, int, auto& tensor) { take(arena, parameter.local_rows(Tp), parameter.local_columns(Tp), tensor); });
    if constexpr (DequantizedPrecision<P>) {
      const View<T, 1> room = arena.take<T>(largest_quantized(M::config, Tp));
      tensors_.visit(M::config, stage_, [&](const Parameter& parameter, int, auto& tensor) {
        if constexpr (requires { tensor.elements; }) tensor.elements = {room.data, parameter.local_rows(Tp), parameter.local_columns(Tp)};
      });
    }
  }
  static void take(Arena& arena, std::int64_t rows, std::int64_t, View<T, 1>& tensor) { tensor = arena.take<T>(rows); }
  static void take(Arena& arena, std::int64_t rows, std::int64_t columns, View<T, 2>& tensor) { tensor = arena.take<T>(rows, columns); }
  template <Quant Q>
  static void take(Arena& arena, std::int64_t rows, std::int64_t columns, QuantizedView<Q>& tensor) {
    const auto bytes = arena.take<std::uint8_t>(rows, Q.row_bytes(columns));
    const auto scales = arena.take<float16>(rows, Q.groups(columns));
    tensor = QuantizedView<Q>(rows, columns, bytes.data, scales.data);
  }

  template <Quant Q>
  static void take(Arena& arena, std::int64_t rows, std::int64_t columns, DequantizedView<T, Q>& tensor) {
    take(arena, rows, columns, tensor.stored);
  }

  template <int Rank>
  void read(const TensorSource& source, const Parameter& parameter, const std::string& name, View<T, Rank>& tensor) {
    copy(source, parameter, name, const_cast<T*>(tensor.data));
  }

  template <Quant Q>
  void read(const TensorSource& source, const Parameter& parameter, const std::string& name, QuantizedView<Q>& tensor) {
    auto* bytes = const_cast<std::uint8_t*>(tensor.data.data);
    auto* scales = const_cast<float16*>(tensor.scales.data);
    if (source.has(name + "_scale")) {
      Parameter stored = parameter, scale = parameter;
      stored.columns = Q.row_bytes(parameter.columns);
      scale.columns = Q.group == 0 ? 0 : Q.groups(parameter.columns);
      require(stored.local_columns(Tp) == Q.row_bytes(tensor.columns) && (Q.group == 0 || scale.local_columns(Tp) == Q.groups(tensor.columns)), "the matrix '", name, "', stored with ", Q.bits,
              " bits in groups of ", Q.group, ", cannot be cut among ", Tp, " tensor ranks: their parts of its ", parameter.columns,
              " columns would begin within a group; load weights that are not quantised, or use fewer ranks");
      copy(source, stored, name, bytes);
      copy(source, scale, name + "_scale", scales);
      return;
    }
    for_each_piece<float>(source, parameter, name, [&](const std::vector<float>& plain, std::int64_t first, std::int64_t rows) {
      const std::int64_t row_bytes = Q.row_bytes(tensor.columns), groups = Q.groups(tensor.columns);
      std::vector<std::uint8_t> host_bytes(static_cast<std::size_t>(rows * row_bytes));
      std::vector<float16> host_scales(static_cast<std::size_t>(rows * groups));
      quantize(QuantizedView<Q, std::uint8_t>(rows, tensor.columns, host_bytes.data(), host_scales.data()), View<const float, 2>{plain.data(), rows, tensor.columns});
      device_->copy_in(bytes + first * row_bytes, host_bytes.data(), host_bytes.size());
      device_->copy_in(scales + first * groups, host_scales.data(), host_scales.size() * sizeof(float16));
    });
  }

  template <Quant Q>
  void read(const TensorSource& source, const Parameter& parameter, const std::string& name, DequantizedView<T, Q>& tensor) {
    read(source, parameter, name, tensor.stored);
  }

  /// Reads this rank's part of a tensor, as it is stored but for its floating type, to `to`.
  template <class E>
  void copy(const TensorSource& source, const Parameter& stored, const std::string& name, E* to) {
    const std::int64_t columns = stored.columns ? stored.local_columns(Tp) : 1;
    for_each_piece<E>(source, stored, name, [&](const std::vector<E>& piece, std::int64_t first, std::int64_t rows) {
      device_->copy_in(to + first * columns, piece.data(), static_cast<std::size_t>(rows * columns) * sizeof(E));
    });
  }

  /// Calls use(elements, first row, rows) for this rank's part of a tensor, in pieces of whole rows, so that no tensor of any
  /// size is in the host's memory twice.
  template <class E, class Use>
  void for_each_piece(const TensorSource& source, const Parameter& stored, const std::string& name, Use use) {
    constexpr std::int64_t piece_bytes = std::int64_t{64} << 20;
    constexpr DType type = std::is_same_v<E, std::uint8_t> ? DType::i8 : dtype_of<E>();
    const std::int64_t rows = stored.local_rows(Tp), columns = stored.columns ? stored.local_columns(Tp) : 1;
    const std::int64_t at_once = larger<std::int64_t>(1, piece_bytes / (columns * static_cast<std::int64_t>(sizeof(E))));
    std::vector<std::int64_t> shape{stored.rows};
    if (stored.columns) shape.push_back(stored.columns);
    std::vector<E> piece;
    for (std::int64_t first = 0; first < rows; first += at_once) {
      const std::int64_t count = smaller(at_once, rows - first);
      piece.resize(static_cast<std::size_t>(count * columns));
      source.read(TensorState{.name = name,
                              .type = type,
                              .shape = shape,
                              .data = piece.data(),
                              .bytes = piece.size() * sizeof(E),
                              .slice = slice_of(stored, Tp, rank_, first * columns, count * columns)});
      use(piece, first, count);
    }
  }

  D* device_;
  Stage stage_;
  int rank_ = 0;
  Buffer<std::byte, D> memory_;
  StageWeights<P> tensors_;
};

}  // namespace golem
