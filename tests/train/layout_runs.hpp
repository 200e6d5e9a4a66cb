// Runs of a small model under any layout, ranks as threads, and what they end with: full tensors, put together from every rank's slices.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "golem/comm/threads.hpp"
#include "golem/golem.hpp"
#include "train/models.hpp"

namespace layouts {

using namespace golem;

/// 6 blocks, so that embedding and head make 8 units; all that must divide by 8 does.
struct Model {
  static constexpr auto config = checked({.layers = 6, .hidden = 32, .heads = 8, .ffn = 24, .vocab = 56, .context = 16, .embedding_std = 0.5});
};
/// It drops, and two heads share each key.
struct Dropping {
  static constexpr auto config = checked(Model::config.with([](auto& c) { c.dropout = 0.2, c.heads = 16, c.kv_heads = 8; }));
};

using Tensors = std::map<std::string, std::vector<double>>;

/// A state in full tensors, whatever ranks it came from; doubles hold every master type exactly.
struct FullState {
  Tensors tensors;
  std::map<std::string, std::int64_t> integers;
  std::map<std::string, double> reals;
};

struct Outcome {
  FullState state;    // at the end
  Tensors gradients;  // of the first step
  std::vector<StepReport> reports;
  LossSummary evaluated;
  std::vector<std::vector<AxisCount>> counts;  // by rank: what the first step transferred
};

/// What to run.
struct Run {
  Layout layout = {};
  TrainingConfig training = {};
  int steps = 20;
  int length = 16;                                              // of rows
  bool gaps = false;                                            // rows without targets
  bool all_scored = false;                                      // every token has a target
  const FullState* resumed = nullptr;                           // where it goes on from
  function_ref<Group(Group)> wrap = {};                         // changes how ranks communicate, to see a comparison fail
  function_ref<void(World&, View<double, 1>)> after_step = {};  // may change the weights of a double-precision run
};

/// Samples by their numbers, dealt out as golem::Loader does.
struct Samples {
  int rank = 0, ranks = 1, length = 16;
  std::int64_t position = 0;
  bool gaps = false;  // every third row has nothing that is scored
  bool all_scored = false;
  Batch batch = {};

  const Batch& operator()(int rows) {
    batch = {.rows = rows, .length = length, .first_window = {0}};
    for (int r = 0; r < rows; ++r) {
      const std::int64_t number = position + std::int64_t{rank} * rows + r;
      Batch row = models::random_batch(1, length, Model::config.vocab, static_cast<std::uint64_t>(number));
      if (gaps && number % 3 == 0) row.targets.assign(row.targets.size(), -1);
      if (all_scored) row.targets = row.tokens;
      const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
      append(batch.tokens, row.tokens), append(batch.positions, row.positions), append(batch.targets, row.targets), append(batch.windows, row.windows);
      batch.first_window.push_back(static_cast<std::int32_t>(batch.windows.size()));
      batch.tasks.push_back(number % 2 ? Task::generation : Task::blank);
    }
    position += std::int64_t{ranks} * rows;
    return batch;
  }
};

/// Calls visit(index in the full tensor, index in memory) for each element of a slice of a tensor of `columns` columns.
template <class Visit>
void for_each_element(const Slice& slice, std::int64_t columns, Visit visit) {
  for (std::int64_t i = 0; i < slice.elements.count; ++i) {
    const std::int64_t element = slice.elements.begin + i, row = element / slice.columns.count, column = slice.columns.begin + element % slice.columns.count;
    const std::int64_t full_row = row < slice.rows[0].count ? slice.rows[0].begin + row : slice.rows[1].begin + row - slice.rows[0].count;
    visit(static_cast<std::size_t>(full_row * columns + column), i);
  }
}

/// Reads every rank's state into full tensors, or writes it from them.
template <class A>
struct Exchange : StateVisitor {
  FullState* state;
  std::mutex* mutex;
  bool loads = false;

  template <class Values, class Value>
  void value(Values& values, std::string_view name, Value& v) {
    const std::lock_guard lock(*mutex);
    if (loads) v = values.at(std::string(name));
    else values[std::string(name)] = v;
  }
  void integer(std::string_view name, std::int64_t& v) override { value(state->integers, name, v); }
  void real(std::string_view name, double& v) override { value(state->reals, name, v); }
  void text(std::string_view, std::string&) override {}
  void tensor(const TensorState& t) override {
    const std::lock_guard lock(*mutex);
    const std::int64_t columns = t.shape.size() > 1 ? t.shape[1] : 1, size = t.shape[0] * columns;
    std::vector<double>& full = state->tensors[t.name];
    full.resize(static_cast<std::size_t>(size), 1e300);
    const Slice all{.rows = {{0, t.shape[0]}, {}}, .columns = {0, columns}, .elements = {0, size}};
    auto* data = static_cast<A*>(t.data);
    for_each_element(t.slice ? *t.slice : all, columns, [&](std::size_t place, std::int64_t i) {
      if (loads) data[i] = static_cast<A>(full.at(place));
      else if (t.owned) full.at(place) = static_cast<double>(data[i]);
    });
  }
  bool loading() const override { return loads; }
};

/// Puts a rank's gradients in their places in the full tensors.
template <class Core>
void gather_gradients(Core& trainer, Tensors& gradients) {
  const auto& state = trainer.state();
  for (const FlatTensor& tensor : state.layout().tensors()) {
    const Parameter& p = tensor.parameter;
    const FlatLayout::Piece piece = state.layout().piece(tensor, state.place().data_rank);
    std::vector<double>& full = gradients[full_name(p, tensor.layer)];
    full.resize(static_cast<std::size_t>(p.size()), 1e300);
    for_each_element(slice_of(p, state.place().tp, state.place().tensor_rank, piece.begin, piece.count), p.columns ? p.columns : 1,
                     [&](std::size_t place, std::int64_t i) { full.at(place) = static_cast<double>(state.gradients().data[tensor.offset + piece.begin + i]); });
  }
}

inline const TransferCount& counted(const std::vector<AxisCount>& counts, const std::string& axis, Transfer::Kind kind) {
  for (const AxisCount& count : counts)
    if (count.axis == axis) return count.of(kind);
  static const TransferCount none;
  return none;
}
inline std::vector<AxisCount> since(std::vector<AxisCount> now, const std::vector<AxisCount>& before) {
  for (std::size_t axis = 0; axis < now.size(); ++axis)
    for (std::size_t kind = 0; kind < now[axis].kinds.size(); ++kind) {
      now[axis].kinds[kind].calls -= before[axis].kinds[kind].calls;
      now[axis].kinds[kind].bytes -= before[axis].kinds[kind].bytes;
    }
  return now;
}

template <class M, class P, int Tp>
void train(const Group& all, const Run& run, Outcome& outcome, std::mutex& mutex) {
  World world(run.wrap ? run.wrap(all) : all, run.layout);
  world.count();
  cpu::Device device({.threads = 1});
  TrainerCore<M, P, Tp, cpu::Device> trainer(device, run.training, world);
  Exchange<typename P::master> exchange;
  exchange.mutex = &mutex;
  if (run.resumed) {
    FullState state = *run.resumed;
    exchange.state = &state, exchange.loads = true;
    trainer.visit_state(exchange);
  }
  const std::vector<AxisCount> before = world.counts();
  Samples samples{.rank = world.data_rank(), .ranks = run.layout.dp, .length = run.length, .position = trainer.samples(), .gaps = run.gaps, .all_scored = run.all_scored};
  for (int i = 0; i < run.steps; ++i) {
    const StepReport report = trainer.step(samples);
    const std::lock_guard lock(mutex);
    if (world.rank() == 0) outcome.reports.push_back(report);
    if (i == 0) {
      gather_gradients(trainer, outcome.gradients);
      outcome.counts.resize(static_cast<std::size_t>(run.layout.ranks()));
      outcome.counts[static_cast<std::size_t>(world.rank())] = since(world.counts(), before);
    }
    if constexpr (std::is_same_v<P, fp64>)
      if (run.after_step) run.after_step(world, trainer.state().weights());
  }
  exchange.state = &outcome.state, exchange.loads = false;
  trainer.visit_state(exchange);
  Samples held_out{.length = run.length, .position = 1000};
  const LossSummary evaluated = trainer.evaluate(held_out(run.training.micro_batch));
  const std::lock_guard lock(mutex);
  if (world.rank() == run.layout.ranks() - 1) outcome.evaluated = evaluated;
}

template <class M, class P>
Outcome run_model(const Run& run) {
  Outcome outcome;
  std::mutex mutex;
  run_ranks(run.layout.ranks(), [&](Group all) {
    switch (run.layout.tp) {
      case 1: return train<M, P, 1>(all, run, outcome, mutex);
      case 2: return train<M, P, 2>(all, run, outcome, mutex);
      case 4: return train<M, P, 4>(all, run, outcome, mutex);
      case 8: return train<M, P, 8>(all, run, outcome, mutex);
      default: fail("these tests were built for tp 1, 2, 4 and 8, not ", run.layout.tp);
    }
  });
  return outcome;
}

// One translation unit for each precision.
Outcome run_fp64(const Run& run);
Outcome run_fp64_dropping(const Run& run);
Outcome run_fp32(const Run& run);
Outcome run_bf16(const Run& run);
Outcome run_fp16(const Run& run);
Outcome run_fp16_gradients(const Run& run);

}  // namespace layouts
