// Member definitions of TrainerCore, outside the class so that a program can instantiate them once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cmath>
#include <vector>

#include "golem/nn/initialize.hpp"
#include "golem/train/schedules.hpp"
#include "golem/train/trainer_core.hpp"

namespace golem {

inline void Levers::visit_state(StateVisitor& visitor) {
  visitor.real("learning_rate.peak", learning_rate.peak);
  visitor.real("learning_rate.min", learning_rate.min);
  visitor.integer("learning_rate.warmup_samples", learning_rate.warmup_samples);
  visitor.integer("learning_rate.decay_samples", learning_rate.decay_samples);
  visitor.integer("learning_rate.rewarm_from", rewarm_from);
  visitor.integer("learning_rate.rewarm_steps", rewarm_steps);
  visitor.real("shrink.alpha", shrink.alpha);
  visitor.integer("shrink.ramp_from", shrink.ramp_from);
  visitor.integer("shrink.ramp_steps", shrink.ramp_steps);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
TrainerCore<M, P, Tp, D>::TrainerCore(D& device, const TrainingConfig& config)
    : device_(&device),
      config_(config),
      rotary_(device),
      levers_{config.learning_rate, config.shrink},
      scaler_(config.loss_scale),
      sentinel_(config.sentinel) {
  const ModelConfig& c = M::config;
  require(config.micro_batch >= 1, "a Trainer was asked for micro-batches of ", config.micro_batch, " rows: TrainingConfig::micro_batch must be at least 1");
  require(config.batch.full >= 1, "a Trainer was asked for steps of ", config.batch.full, " rows: TrainingConfig::batch.full must be at least 1");
  const std::int64_t size = flat_size(c, stage_, Tp), tokens = std::int64_t{config.micro_batch} * c.context;
  master_ = Buffer<A, D>(device, size, "master weights");
  gradients_ = Buffer<A, D>(device, size, "gradients");
  moment1_ = Buffer<A, D>(device, size, "moments");
  moment2_ = Buffer<A, D>(device, size, "moments");
  if constexpr (has_master_copy<P>) {
    compute_ = Buffer<T, D>(device, size, "weights");
    weights_ = bind(c, stage_, Tp, compute_.view());
  } else {
    weights_ = bind(c, stage_, Tp, master_.view());
  }
  gradient_tensors_ = bind(c, stage_, Tp, gradients_.view());

  transformer_.emplace(device, stage_, config.recompute == Recompute::block ? Keep::inputs : Keep::all, config.micro_batch, c.context);
  head_.emplace(device, true, tokens);
  d_output_ = Buffer<T, D>(device, tokens * c.hidden, "activations");
  initialize();
}

template <Model M, TrainingPrecision P, int Tp, Device D>
template <class Visit>
void TrainerCore<M, P, Tp, D>::walk(Visit visit) {
  std::int64_t offset = 0;
  for_each_parameter(M::config, stage_, [&](const Parameter& parameter, int layer) {
    visit(parameter, layer, offset);
    offset += flat_extent(parameter, Tp);
  });
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::initialize() {
  std::vector<A> host;
  walk([&](const Parameter& parameter, int layer, std::int64_t offset) {
    const std::string name = full_name(parameter, layer);
    const std::int64_t rows = parameter.local_rows(Tp), columns = parameter.columns ? parameter.local_columns(Tp) : 1;
    host.resize(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t col = 0; col < columns; ++col)
        host[static_cast<std::size_t>(r * columns + col)] = static_cast<A>(initial_value(M::config, parameter, name, config_.seed, parameter.full_row(r, Tp, tp_.rank()),
                                                                                        parameter.full_column(col, Tp, tp_.rank())));
    device_->copy_in(master_.data() + offset, host.data(), host.size() * sizeof(A));
  });
  refresh_compute();
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::refresh_compute() {
  if constexpr (has_master_copy<P>) convert(*device_, compute_.view(), master_.view());
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::check(const Batch& batch) const {
  require(batch.rows <= config_.micro_batch, "a batch of ", batch.rows, " rows does not fit a micro-batch of ", config_.micro_batch, ": see TrainingConfig::micro_batch");
  require(batch.length <= M::config.context, "a batch of rows of ", batch.length, " tokens does not fit the model's context of ", M::config.context);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::accumulate(const Batch& batch, std::int64_t rows_in_step, LossSummary& losses) {
  check(batch);
  const double scale = needs_loss_scale<P> ? scaler_.scale() : 1.0;
  rows_.upload(*device_, batch, M::config.mask);
  scoring_.upload(*device_, batch, scale / static_cast<double>(rows_in_step), M::config.vocab);
  Rows<A> rows = rows_.rows(rotary_.cos(), rotary_.sin());
  rows.dropout = M::config.dropout;
  rows.seed = config_.seed;
  rows.first_sample = samples_ + losses.rows;

  const double shrink = embedding_shrink(levers_.shrink, step_ + 1);
  const double head_shrink = levers_.shrink.where == EmbeddingShrink::Where::input_and_head ? shrink : 1.0;
  const View<T, 2> output = transformer_->forward(tp_, weights_, rows);
  const View<T, 2> d_output = d_output_.view_at(0, rows.count(), M::config.hidden);
  head_->forward_backward(tp_, scoring_.losses(), d_output, gradient_tensors_.embedding, output, weights_.embedding, scoring_.scored(), head_shrink, own_loss_);
  transformer_->backward(tp_, weights_, gradient_tensors_, rows, d_output, shrink);
  scoring_.collect(*device_, losses);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
LossSummary TrainerCore<M, P, Tp, D>::evaluate(const Batch& batch) {
  check(batch);
  LossSummary losses;
  rows_.upload(*device_, batch, M::config.mask);
  scoring_.upload(*device_, batch, 0, M::config.vocab);
  const Rows<A> rows = rows_.rows(rotary_.cos(), rotary_.sin());
  head_->forward(tp_, scoring_.losses(), transformer_->forward(tp_, weights_, rows), weights_.embedding, scoring_.scored());
  scoring_.collect(*device_, losses);
  return losses;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
double TrainerCore<M, P, Tp, D>::next_learning_rate() const {
  double rate = learning_rate(levers_.learning_rate, applied_samples_);
  if (levers_.rewarm_steps > 0 && step_ < levers_.rewarm_from + levers_.rewarm_steps)
    rate *= static_cast<double>(step_ - levers_.rewarm_from + 1) / static_cast<double>(levers_.rewarm_steps);
  return rate;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
std::int64_t TrainerCore<M, P, Tp, D>::next_rows() const {
  return batch_rows(config_.batch, samples_);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
double TrainerCore<M, P, Tp, D>::measure_gradients() {
  const double scale = needs_loss_scale<P> ? 1.0 / scaler_.scale() : 1.0;
  layer_norms_.assign(static_cast<std::size_t>(stage_.last - stage_.first) + 2, {});
  double total = 0;
  walk([&](const Parameter& parameter, int layer, std::int64_t offset) {
    const double squares = sum_of_squares(*device_, View<const A, 1>{gradients_.data() + offset, parameter.local_size(Tp)}) * scale * scale;
    const std::size_t part = layer >= 0 ? static_cast<std::size_t>(layer - stage_.first) + 1 : offset == 0 ? 0 : layer_norms_.size() - 1;
    layer_norms_[part].norm += squares;
    total += squares;
  });
  for (std::size_t i = 0; i < layer_norms_.size(); ++i) layer_norms_[i] = {stage_.first + static_cast<int>(i) - 1, std::sqrt(layer_norms_[i].norm)};
  return std::sqrt(total);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::update(double gradient_scale) {
  const auto t = static_cast<double>(applied_steps_ + 1);
  AdamwStep adamw_step{.learning_rate = next_learning_rate(),
                       .beta1 = config_.beta1,
                       .beta2 = config_.beta2,
                       .eps = config_.eps,
                       .correction1 = 1 - std::pow(config_.beta1, t),
                       .correction2 = 1 - std::pow(config_.beta2, t),
                       .gradient_scale = gradient_scale};
  walk([&](const Parameter& parameter, int, std::int64_t offset) {
    const std::int64_t size = parameter.local_size(Tp);
    adamw_step.decay = parameter.decay ? config_.weight_decay : 0.0;
    AdamwTensors<A, T> tensors{.master = {master_.data() + offset, size},
                               .moment1 = {moment1_.data() + offset, size},
                               .moment2 = {moment2_.data() + offset, size},
                               .compute = {},
                               .gradient = {gradients_.data() + offset, size}};
    if constexpr (has_master_copy<P>) tensors.compute = {compute_.data() + offset, size};
    adamw(*device_, tensors, adamw_step);
  });
}

template <Model M, TrainingPrecision P, int Tp, Device D>
StepReport TrainerCore<M, P, Tp, D>::step(BatchSource next) {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  const std::int64_t rows = next_rows();
  device_->clear(gradients_.data(), gradients_.bytes());
  LossSummary losses;
  for (std::int64_t done = 0; done < rows;) {
    const int count = static_cast<int>(smaller<std::int64_t>(config_.micro_batch, rows - done));
    const Batch& batch = next(count);
    require(batch.rows == count, "the batch source returned ", batch.rows, " rows where ", count, " were asked for");
    accumulate(batch, rows, losses);
    report.tokens += std::int64_t{count} * batch.length;
    done += count;
  }

  const double norm = measure_gradients();
  report.learning_rate = next_learning_rate();
  report.loss_scale = needs_loss_scale<P> ? scaler_.scale() : 1.0;
  const bool overflow = !std::isfinite(norm);
  if constexpr (needs_loss_scale<P>) scaler_.update(overflow);
  const Sentinel::Verdict verdict = sentinel_.judge(norm, report.loss_scale, needs_loss_scale<P>);
  report.alarm = verdict.alarm;
  report.note = verdict.why;
  if (overflow && needs_loss_scale<P>) report.note = sentence("overflow: loss scale ", report.loss_scale, " -> ", scaler_.scale());
  report.skipped = overflow || (verdict.alarm && sentinel_.action() != SentinelConfig::Action::report);
  if (!report.skipped) {
    // clip divisor max(1, (norm + 1e-6) / clip): spec 4.2
    const double divisor = config_.clip > 0 ? larger(1.0, (norm + 1e-6) / config_.clip) : 1.0;
    update(1.0 / (report.loss_scale * divisor));
    ++applied_steps_;
    applied_samples_ += rows;
  }
  ++step_;
  samples_ += rows;

  losses = losses.finished();
  report.step = step_;
  report.samples = samples_;
  report.loss = losses.loss();
  report.tasks = losses.tasks;
  report.gradient_norm = norm;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::visit_buffer(StateVisitor& visitor, const char* prefix, Buffer<A, D>& buffer, std::vector<A>& staged) {
  A* data = buffer.data();
  if constexpr (!D::host_memory) {
    staged.resize(static_cast<std::size_t>(buffer.size()));
    device_->copy_out(staged.data(), buffer.data(), buffer.bytes());
    data = staged.data();
  }
  walk([&](const Parameter& parameter, int layer, std::int64_t offset) {
    TensorState tensor{.name = prefix + full_name(parameter, layer),
                       .type = dtype_of<A>(),
                       .shape = {parameter.local_rows(Tp)},
                       .data = data + offset,
                       .bytes = static_cast<std::size_t>(parameter.local_size(Tp)) * sizeof(A)};
    if (parameter.columns) tensor.shape.push_back(parameter.local_columns(Tp));
    visitor.tensor(tensor);
  });
  if constexpr (!D::host_memory) {
    if (visitor.loading()) device_->copy_in(buffer.data(), staged.data(), buffer.bytes());
  }
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::visit_state(StateVisitor& visitor) {
  visitor.integer("step", step_);
  visitor.integer("samples", samples_);
  visitor.integer("applied_steps", applied_steps_);
  visitor.integer("applied_samples", applied_samples_);
  auto seed = static_cast<std::int64_t>(config_.seed);
  visitor.integer("seed", seed);
  config_.seed = static_cast<std::uint64_t>(seed);
  levers_.visit_state(visitor);
  scaler_.visit_state(visitor);
  sentinel_.visit_state(visitor);

  visit_buffer(visitor, "", master_, staged_[0]);
  visit_buffer(visitor, "optimizer.moment1.", moment1_, staged_[1]);
  visit_buffer(visitor, "optimizer.moment2.", moment2_, staged_[2]);
  if (visitor.loading()) refresh_compute();
}

}  // namespace golem
