// The state of a small model as one rank of a layout has it: every shard rule, moments cut by ZeRO-1, stages, a tied tensor.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <barrier>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "core/random_slices.hpp"
#include "golem/core/error.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"

namespace test {

struct Layout {
  int tp = 1, dp = 1, pp = 1;
  int layers = 3;  // of the model
  int ranks() const { return tp * dp * pp; }
};

class RankState {
 public:
  RankState() : RankState(Layout{}, 0, 0) {}
  RankState(const Layout& layout, int rank, std::int64_t step)
      : step_(step), rate_(1.0 / static_cast<double>(step + 3)), note_(golem::sentence("step ", step)) {
    const int t = rank % layout.tp, d = rank / layout.tp % layout.dp, p = rank / layout.tp / layout.dp;
    const auto part = [](std::int64_t length, int piece, int pieces) {
      return golem::Slice::Run{length * piece / pieces, length * (piece + 1) / pieces - length * piece / pieces};
    };
    int number = 0;
    for (const Parameter& w : parameters(layout.layers)) {
      number += 2;
      const bool tied = w.layer < 0, first = p == 0;
      if (tied ? !first && p != layout.pp - 1 : w.layer % layout.pp != p) continue;
      const golem::MatrixExtent extent = golem::matrix_extent(w.shape, w.name);
      golem::Slice slice = golem::whole_slice(extent);
      const std::int64_t half = extent.rows / 2;
      if (w.rule == Rule::rows) slice.rows[0] = part(extent.rows, t, layout.tp);
      if (w.rule == Rule::columns) slice.columns = part(extent.columns, t, layout.tp);
      if (w.rule == Rule::glu_rows) slice.rows[0] = part(half, t, layout.tp), slice.rows[1] = {half + slice.rows[0].begin, slice.rows[0].count};
      slice.elements = {0, slice.outline()};
      const bool mine = (w.rule != Rule::replicated || t == 0) && (!tied || first);
      add(w.name, w.type, w.shape, slice, mine && d == 0, number);
      slice.elements = part(slice.outline(), d, layout.dp);
      add("optimizer.moment1." + w.name, golem::DType::f32, w.shape, slice, mine, number + 1);
    }
  }

  void visit_state(golem::StateVisitor& visitor) {
    visitor.integer("step", step_);
    visitor.real("rate", rate_);
    visitor.text("note", note_);
    for (Tensor& tensor : tensors) visitor.tensor(state_of(tensor));
  }
  friend bool operator==(const RankState&, const RankState&) = default;

  struct Tensor {
    std::string name;
    golem::DType type;
    std::vector<std::int64_t> shape;
    golem::Slice slice;
    bool owned;
    std::vector<std::byte> memory;
    friend bool operator==(const Tensor&, const Tensor&) = default;
  };
  std::vector<Tensor> tensors;

  static golem::TensorState state_of(Tensor& tensor) {
    const bool whole = tensor.slice == golem::whole_slice(golem::matrix_extent(tensor.shape, ""));
    golem::TensorState state{tensor.name, tensor.type, tensor.shape, tensor.memory.data(), tensor.memory.size()};
    if (!whole || tensor.name.size() % 2 == 0) state.slice = tensor.slice;  // the whole may be said either way
    state.owned = tensor.owned;
    return state;
  }

 private:
  enum class Rule { replicated, rows, columns, glu_rows };
  struct Parameter {
    std::string name;
    golem::DType type;
    std::vector<std::int64_t> shape;
    Rule rule;
    int layer;
  };
  static std::vector<Parameter> parameters(int layers) {
    using golem::DType;
    std::vector<Parameter> all{{"embedding", DType::f32, {13, 5}, Rule::rows, -1}};
    for (int layer = 0; layer < layers; ++layer) {
      const std::string block = golem::sentence("layer.", layer, ".");
      all.push_back({block + "norm", DType::f32, {5}, Rule::replicated, layer});
      all.push_back({block + "qkv", DType::bf16, {15, 5}, Rule::rows, layer});
      all.push_back({block + "qkv_bias", DType::bf16, {15}, Rule::rows, layer});
      all.push_back({block + "dense", DType::f32, {5, 7}, Rule::columns, layer});
      all.push_back({block + "up", DType::f64, {22, 3}, Rule::glu_rows, layer});
      all.push_back({block + "up_bias", DType::f32, {22}, Rule::glu_rows, layer});
    }
    return all;
  }

  void add(const std::string& name, golem::DType type, const std::vector<std::int64_t>& shape, const golem::Slice& slice, bool owned, int number) {
    Tensor& tensor = tensors.emplace_back(Tensor{name, type, shape, slice, owned, {}});
    for (const std::int64_t element : elements_of(slice, golem::matrix_extent(shape, name))) {
      const double value = static_cast<double>(step_ * 5 + number * 1000 + element);
      const auto put = [&](auto number) {
        const auto* bytes = reinterpret_cast<const std::byte*>(&number);
        tensor.memory.insert(tensor.memory.end(), bytes, bytes + sizeof number);
      };
      if (type == golem::DType::f64) put(value + 0.1);
      if (type == golem::DType::f32) put(static_cast<float>(value) + 0.3f);
      if (type == golem::DType::bf16) put(golem::bfloat16::from_bits(static_cast<std::uint16_t>(0x3f80 + step_ * 3 + element)));
    }
  }

  std::int64_t step_ = 0;
  double rate_ = 0;
  std::string note_;
};

/// Runs body(rank, barrier) on a thread for each rank. The sentence of the error that each ended with, "no error" for none.
template <class Body>
std::vector<std::string> on_ranks(int ranks, const Body& body) {
  std::vector<std::string> sentences(static_cast<std::size_t>(ranks), "no error");
  std::barrier meeting(ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      auto barrier = [&] { meeting.arrive_and_wait(); };
      try {
        body(rank, golem::function_ref<void()>(barrier));
      } catch (const std::exception& error) {
        sentences[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  return sentences;
}

}  // namespace test
