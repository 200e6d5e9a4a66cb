// The passes of a step: a rank executes its pipeline schedule, action by action; and forward alone, to evaluate.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "golem/train/trainer_core.hpp"

namespace golem {

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::check(const Batch& batch) const {
  require(batch.rows <= config_.micro_batch, "a batch of ", batch.rows, " rows does not fit a micro-batch of ", config_.micro_batch, ": see TrainingConfig::micro_batch");
  require(batch.length <= M::config.context, "a batch of rows of ", batch.length, " tokens does not fit the model's context of ", M::config.context);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
int TrainerCore<M, P, Tp, D>::cut() const {
  return tp_.sequence_parallel() || Chunk::keep(tp_, config_.recompute) == Keep::split_inputs ? Tp : 1;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
typename TrainerCore<M, P, Tp, D>::Step TrainerCore<M, P, Tp, D>::read_batches(BatchSource next, std::int64_t rows) {
  const Layout& layout = world_.layout();
  Step step{.rows = rows};
  world_.note(step_ + 1, "reading rows");  // or waiting for those that read
  const int count = checked_micro_batches(config_, layout, rows);
  std::int64_t done = 0;  // rows of each data rank
  for (int i = 0; i < count; ++i) {
    const std::int64_t of_this = smaller<std::int64_t>(config_.micro_batch, rows / layout.dp - done);
    step.samples.push_back(samples_ + done * layout.dp + world_.data_rank() * of_this);
    done += of_this;
    if (!reads()) continue;
    const Batch& batch = next(static_cast<int>(of_this));
    require(batch.rows == of_this, "the batch source returned ", batch.rows, " rows where ", of_this, " were asked for");
    check(batch);
    step.batches.push_back(batch);
  }
  exchange_.share(step.batches);
  for (Batch& batch : step.batches) {
    step.tokens += std::int64_t{batch.rows} * batch.length;
    batch = padded(std::move(batch), cut());
  }
  return step;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
Rows<typename TrainerCore<M, P, Tp, D>::A> TrainerCore<M, P, Tp, D>::rows_of(Step& step, int micro_batch, double dropout) {
  const auto i = static_cast<std::size_t>(micro_batch);
  Rows<A> rows = rows_[i].rows(rotary_.cos(), rotary_.sin());
  rows.dropout = dropout;
  rows.seed = config_.seed;
  rows.first_sample = step.samples[i];
  return rows;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::run(Step& step) {
  using Work = PipelineAction::Work;
  const Layout& layout = world_.layout();
  const auto count = static_cast<int>(step.batches.size());
  const std::vector<PipelineAction> actions = pipeline_schedule(config_.schedule, layout.pp, config_.chunks, count, world_.stage());
  if (rows_.size() < step.batches.size()) rows_.resize(step.batches.size());
  for (std::size_t i = 0; i < step.batches.size(); ++i) rows_[i].upload(*device_, step.batches[i], M::config);

  const std::size_t pairs = static_cast<std::size_t>(config_.chunks) * step.batches.size();
  step.kept.assign(pairs, -1), step.deferred.assign(pairs, -1);
  const auto fill = [&](std::vector<int>& free, int slots) {
    for (int slot = slots; slot-- > 0;) free.push_back(slot);
  };
  fill(step.free_kept, memory_->in_flight().activations), fill(step.free_deferred, memory_->in_flight().deferred);

  for (const PipelineAction& action : actions) {
    note(action);
    if (action.work == Work::forward) forward(step, action);
    else if (action.work != Work::backward_weight) backward(step, action);
    else backward_weight(step, action);
  }
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::note(const PipelineAction& action) {
  if (world_.layout().ranks() == 1 && !numbers_.on()) return;
  constexpr const char* works[]{"forward", "backward", "backward to the input", "backward to the weights"};
  const std::string pass = sentence(works[static_cast<int>(action.work)], " of micro-batch ", action.micro_batch, config_.chunks > 1 ? ", chunk " : "",
                                    config_.chunks > 1 ? sentence(action.chunk) : "");
  world_.note(step_ + 1, pass);
  numbers_.begin(step_ + 1, pass);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
bool TrainerCore<M, P, Tp, D>::checks_gradients() const {
  return numbers_.on() && (!needs_loss_scale<P> || !scaler_.can_fall());
}

namespace train {

/// Takes the last free slot for a pair of chunk and micro-batch, or gives it back.
inline int take_slot(std::vector<int>& free, int& place) {
  require(!free.empty(), "a pipeline schedule has more micro-batches under way than it said it would");
  place = free.back();
  free.pop_back();
  return place;
}
inline void return_slot(std::vector<int>& free, int& place) {
  free.push_back(place);
  place = -1;
}

}  // namespace train

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::forward(Step& step, const PipelineAction& action) {
  const int slot = train::take_slot(step.free_kept, step.kept[step.pair(action)]);
  forward_through(action.chunk, slot, rows_of(step, action.micro_batch, M::config.dropout));
}

template <Model M, TrainingPrecision P, int Tp, Device D>
View<typename TrainerCore<M, P, Tp, D>::T, 2> TrainerCore<M, P, Tp, D>::forward_through(int chunk, int slot, const Rows<A>& rows) {
  Chunk& transformer = chunks_[static_cast<std::size_t>(chunk)];
  const View<T, 2> x = transformer.begin(tp_, slot, rows.rows, rows.length);
  if (!links_.first(chunk)) links_.forward.receive(x);
  const View<T, 2> space = links_.last(chunk) ? View<T, 2>{} : links_.forward.space(x.extent(0), x.extent(1));
  const auto look = [&](const LayerOutput<T>& block) {
    numbers_.tensor(block.qkv, "[q k v] of block ", block.layer);
    numbers_.tensor(block.hidden, "the output of block ", block.layer);
  };
  const View<T, 2> y = transformer.forward(tp_, weights_[static_cast<std::size_t>(chunk)], rows, slot, space, numbers_.on() ? LayerObserver<T>(look) : LayerObserver<T>{});
  if (!links_.last(chunk)) links_.forward.send(y);
  return y;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
View<typename TrainerCore<M, P, Tp, D>::T, 2> TrainerCore<M, P, Tp, D>::loss_backward(Step& step, const PipelineAction& action, const Rows<A>& rows, GradientsDone done) {
  const int chunk = action.chunk, m = action.micro_batch;
  const Batch& batch = step.batches[static_cast<std::size_t>(m)];
  const StageWeights<P>& w = weights_[static_cast<std::size_t>(chunk)];
  const int slot = step.kept[step.pair(action)];
  const double scale = needs_loss_scale<P> ? scaler_.scale() : 1.0, shrink = embedding_shrink(levers_.shrink, step_ + 1);
  const double head_shrink = levers_.shrink.where == EmbeddingShrink::Where::input_and_head ? shrink : 1.0;
  scoring_.upload(*device_, batch, scale / static_cast<double>(step.rows), M::config.vocab);
  const View<T, 2> output = chunks_[static_cast<std::size_t>(chunk)].normalize_output(tp_, w, rows, slot);  // (N, C)
  const View<T, 2> d_output = d_output_.view_at(0, rows.count(), M::config.hidden);
  head_->forward_backward(tp_, scoring_.losses(), d_output, accumulators_.head(m), output, w.embedding, scoring_.scored(), head_shrink, own_loss_);
  scoring_.collect(*device_, step.losses);
  if (checks_gradients()) numbers_.tensor(d_output, "the gradient of the final norm's output");
  return chunks_[static_cast<std::size_t>(chunk)].normalize_output_backward(tp_, w, accumulators_.tensors(m, chunk), rows, slot, d_output, done);
}

/// The micro-batch of `action` has added all that it adds to a part; the last one completes it.
template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::gradients_done(int layer, const PipelineAction& action, const Step& step) {
  accumulators_.fold(layer, action.chunk);
  if (checks_gradients()) numbers_.gradients(layer, action.chunk);
  if (action.micro_batch + 1 == static_cast<int>(step.batches.size())) reduction_.start(layer, action.chunk);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::backward(Step& step, const PipelineAction& action) {
  const int chunk = action.chunk, m = action.micro_batch;
  const std::size_t at = step.pair(action);
  const bool apart = action.work == PipelineAction::Work::backward_input;
  const auto done = [&](int layer) { gradients_done(layer, action, step); };
  const auto partly = [&](int layer) { accumulators_.fold(layer, action.chunk); };
  const auto look = [&](int layer, View<const T, 2> gradient) { numbers_.tensor(gradient, "the gradient of the input of block ", layer); };

  const Rows<A> rows = rows_of(step, m, M::config.dropout);
  const std::int64_t own = tp_.own_tokens(rows.count());
  const View<T, 2> dy = links_.last(chunk) ? loss_backward(step, action, rows, done) : links_.receive_gradient(own, M::config.hidden);
  const typename Chunk::Backward options{.embedding_shrink = embedding_shrink(levers_.shrink, step_ + 1),
                                         .dx = links_.first(chunk) ? View<T, 2>{} : links_.backward.space(own, M::config.hidden),
                                         .deferred = apart ? train::take_slot(step.free_deferred, step.deferred[at]) : -1,
                                         .done = done,
                                         .partly = partly,
                                         .observe = checks_gradients() ? GradientObserver<T>(look) : GradientObserver<T>{}};
  chunks_[static_cast<std::size_t>(chunk)].backward(tp_, weights_[static_cast<std::size_t>(chunk)], accumulators_.tensors(m, chunk), rows, step.kept[at], dy, options);
  if (!links_.first(chunk)) links_.backward.send(options.dx);
  if (links_.last(chunk) && !links_.first(chunk)) done(-1);  // the head's copy of the embedding
  if (!apart) train::return_slot(step.free_kept, step.kept[at]);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::backward_weight(Step& step, const PipelineAction& action) {
  const std::size_t at = step.pair(action);
  const auto done = [&](int layer) { gradients_done(layer, action, step); };
  chunks_[static_cast<std::size_t>(action.chunk)].backward_weight(tp_, accumulators_.tensors(action.micro_batch, action.chunk), rows_of(step, action.micro_batch, M::config.dropout),
                                                                  step.kept[at], step.deferred[at], done);
  train::return_slot(step.free_kept, step.kept[at]);
  train::return_slot(step.free_deferred, step.deferred[at]);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::accumulate(const Batch& batch, std::int64_t rows_in_step, LossSummary& losses) {
  require(world_.layout().ranks() == 1, "accumulate adds the gradients of one batch on one rank, and this layout has ", world_.layout().ranks(), ": use step");
  require(config_.add_like.data_ranks == 1 && !config_.add_like.stages, "accumulate adds the gradients of one batch, and TrainingConfig::add_like those of a whole step: leave it at its default, or use step");
  check(batch);
  Step step{.rows = rows_in_step, .batches = {batch}, .samples = {samples_ + losses.rows}, .losses = losses};
  run(step);
  losses = step.losses;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
LossSummary TrainerCore<M, P, Tp, D>::evaluate(const Batch& batch) {
  world_.note(step_, "evaluation");  // each batch is a sign of life, where ranks have nothing to send each other
  if (reads()) check(batch);
  std::vector<Batch> batches;
  if (reads()) batches.push_back(batch);
  exchange_.share(batches);
  batches[0] = padded(std::move(batches[0]), cut());
  if (rows_.empty()) rows_.resize(1);
  numbers_.begin(step_, "evaluation");
  rows_[0].upload(*device_, batches[0], M::config);
  const Rows<A> rows = rows_[0].rows(rotary_.cos(), rotary_.sin());
  for (int chunk = 0; chunk < config_.chunks; ++chunk) forward_through(chunk, 0, rows);

  LossSummary losses;
  if (head_) {
    scoring_.upload(*device_, batches[0], 0, M::config.vocab);
    head_->forward(tp_, scoring_.losses(), chunks_.back().normalize_output(tp_, weights_.back(), rows, 0), weights_.back().embedding, scoring_.scored());
    scoring_.collect(*device_, losses);
  }
  std::vector<double> values;
  losses.visit([&](auto& number) { values.push_back(head_ && tp_.rank() == 0 ? static_cast<double>(number) : 0.0); });
  sum(values, world_.model());
  const double* next = values.data();
  losses.visit([&](auto& number) { number = static_cast<std::remove_reference_t<decltype(number)>>(*next++); });
  return losses;
}

}  // namespace golem
