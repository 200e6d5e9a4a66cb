// Resharding: a model out of any source, cut for any number of tensor-parallel ranks, block by block, so that no tensor need be in memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "golem/config/parameters.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"
#include "golem/io/finite.hpp"

namespace golem {

/// How linear weights are stored in few bits: `quantize` fills `bytes`, and a scale a row, from rows of fp16 weights (spec 5.1; quantize_rows() of
/// quant/absmax.hpp, which files do not know).
struct RowFormat {
  int bits = 0;  // 8 or 4; 0: weights stay as they are
  function_ref<void(const float16* weights, std::int64_t rows, std::int64_t columns, std::uint8_t* bytes, float16* scales)> quantize{};

  std::int64_t row_bytes(std::int64_t columns) const { return bits == 4 ? (columns + 1) / 2 : columns; }
};

/// What a model becomes.
struct ReshardPlan {
  ModelConfig config;
  int tp = 1;
  DType type = DType::f16;  // of what is not quantised
  RowFormat format{};
  std::string model{};  // what a golem checkpoint is to say of its model; empty: describe(config)
};

/// One tensor of each rank of the target; all ranks' have one shape.
struct ReshardedTensor {
  TensorState local;  // name, type, shape and bytes on a rank
  Parameter parameter;
  bool scales = false;  // those of the tensor before it
};

inline std::vector<ReshardedTensor> resharded_tensors(const ReshardPlan& plan) {
  std::vector<ReshardedTensor> tensors;
  const auto add = [&](const Parameter& parameter, std::string name, DType type, std::vector<std::int64_t> shape, bool scales) {
    std::int64_t bytes = size_of(type);
    for (const std::int64_t dim : shape) bytes *= dim;
    tensors.push_back({{.name = std::move(name), .type = type, .shape = std::move(shape), .data = nullptr, .bytes = static_cast<std::size_t>(bytes)},
                       parameter,
                       scales});
  };
  for_each_parameter(plan.config, whole(plan.config), [&](const Parameter& p, int layer) {
    const std::string name = full_name(p, layer);
    std::vector<std::int64_t> shape{p.local_rows(plan.tp)};
    if (p.columns > 0) shape.push_back(p.local_columns(plan.tp));
    if (!p.quantized || plan.format.bits == 0) return add(p, name, plan.type, shape, false);
    shape[1] = plan.format.row_bytes(shape[1]);
    add(p, name, DType::i8, shape, false);
    add(p, name + "_scale", DType::f16, {shape[0]}, true);
  });
  return tensors;
}

/// Where a resharded model goes: tensor after tensor, each on all ranks, in the order of resharded_tensors().
class ReshardTarget {
 public:
  virtual ~ReshardTarget() = default;
  /// How many tensors an earlier attempt has completed.
  virtual std::size_t completed() const = 0;
  virtual void begin(const TensorState& tensor) = 0;
  virtual void append(int rank, const void* data, std::size_t bytes) = 0;
  virtual void end() = 0;
  /// The attempt ends here, maybe inside a tensor: what is complete should be there for a later one.
  virtual void pause() {}
  /// All tensors were written: the target gets its name.
  virtual void commit() = 0;
};

struct ReshardOptions {
  std::int64_t block = 16 << 20;                                              // bytes of a rank that are held at once
  function_ref<bool(std::uint64_t done, std::uint64_t total)> on_progress{};  // bytes written; false stops, so that a later attempt can go on
};

namespace resharding {

/// Copies blocks of one tensor to all ranks.
class Copier {
 public:
  Copier(const TensorSource& source, const ReshardPlan& plan, ReshardTarget& target, const ReshardOptions& options, std::uint64_t total)
      : source_(source), plan_(plan), target_(target), options_(options), total_(total), scales_(static_cast<std::size_t>(plan.tp)) {}

  void copy(const ReshardedTensor& tensor) {
    target_.begin(tensor.local);
    if (tensor.scales)
      copy_scales();
    else
      copy_blocks(tensor);
    target_.end();
  }
  void pass_over(const ReshardedTensor& tensor) { done_ += tensor.local.bytes * static_cast<std::uint64_t>(plan_.tp); }

 private:
  void copy_blocks(const ReshardedTensor& tensor) {
    const Parameter& p = tensor.parameter;
    const bool quantized = tensor.local.type == DType::i8;
    const DType type = quantized ? DType::f16 : tensor.local.type;
    const std::int64_t rows = p.local_rows(plan_.tp), columns = p.columns > 0 ? p.local_columns(plan_.tp) : 1;
    const std::int64_t most = std::max<std::int64_t>(1, options_.block / (columns * size_of(type)));
    if (quantized)
      for (auto& scales : scales_) scales.resize(static_cast<std::size_t>(rows));
    TensorState wanted{.name = tensor.local.name, .type = type, .shape = {p.rows}, .data = nullptr, .bytes = 0};
    if (p.columns > 0) wanted.shape.push_back(p.columns);
    for (std::int64_t row = 0, here = 0; row < rows; row += here) {
      here = std::min(most, rows - row);
      for (int rank = 0; rank < plan_.tp; ++rank) {
        const bool read_before = rank > 0 && p.shard == Shard::replicated;
        wanted.bytes = static_cast<std::size_t>(here * columns * size_of(type));
        if (block_.size() < wanted.bytes) block_.resize(wanted.bytes);
        wanted.data = block_.data();
        wanted.slice = slice_of(p, plan_.tp, rank, row * columns, here * columns);
        if (!read_before) {
          source_.read(wanted);
          require(first_not_finite(type, block_.data(), wanted.bytes) < 0, "tensor '", wanted.name, "' has a value that ", name_of(type),
                  " cannot hold: convert it to a wider type");
        }
        if (quantized)
          append_quantized(rank, row, here, columns);
        else
          append(rank, block_.data(), wanted.bytes);
      }
    }
  }

  void append_quantized(int rank, std::int64_t row, std::int64_t rows, std::int64_t columns) {
    quantized_.resize(static_cast<std::size_t>(rows * plan_.format.row_bytes(columns)));
    plan_.format.quantize(reinterpret_cast<const float16*>(block_.data()), rows, columns, quantized_.data(),
                          scales_[static_cast<std::size_t>(rank)].data() + row);
    append(rank, quantized_.data(), quantized_.size());
  }

  void copy_scales() {
    for (int rank = 0; rank < plan_.tp; ++rank) {
      const auto& scales = scales_[static_cast<std::size_t>(rank)];
      append(rank, scales.data(), scales.size() * sizeof(float16));
    }
  }

  void append(int rank, const void* data, std::size_t bytes) {
    target_.append(rank, data, bytes);
    done_ += bytes;
    if (!options_.on_progress || options_.on_progress(done_, total_)) return;
    target_.pause();
    fail("stopped after ", done_, " of ", total_, " bytes; the same command goes on from there");
  }

  const TensorSource& source_;
  const ReshardPlan& plan_;
  ReshardTarget& target_;
  const ReshardOptions& options_;
  std::uint64_t done_ = 0, total_;
  std::vector<std::byte> block_;
  std::vector<std::uint8_t> quantized_;
  std::vector<std::vector<float16>> scales_;
};

}  // namespace resharding

/// Writes a model to a target: of every tensor, each rank's part (the GLU's halves each by itself, spec 1.7), read once and in order. Memory is a
/// block, whatever the model's size. Goes on with what an earlier attempt completed. Bytes of the target.
inline std::uint64_t reshard(const TensorSource& source, const ReshardPlan& plan, ReshardTarget& target, const ReshardOptions& options = {}) {
  const std::vector<ReshardedTensor> tensors = resharded_tensors(plan);
  std::uint64_t total = 0;
  for (const ReshardedTensor& tensor : tensors) total += tensor.local.bytes * static_cast<std::uint64_t>(plan.tp);
  resharding::Copier copier(source, plan, target, options, total);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i < target.completed())
      copier.pass_over(tensors[i]);
    else
      copier.copy(tensors[i]);
  }
  target.commit();
  return total;
}

}  // namespace golem
