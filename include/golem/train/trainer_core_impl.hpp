// Member definitions of TrainerCore, outside the class so that a program can instantiate them once: making, saving, one optimizer step.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cmath>
#include <vector>

#include "golem/config/plan_training.hpp"
#include "golem/config/stages.hpp"
#include "golem/train/run_agreement.hpp"
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
  auto where = static_cast<std::int64_t>(shrink.where);
  visitor.integer("shrink.where", where);
  require(where == 0 || where == 1, "a saved run shrinks embedding gradients at place ", where, ", where 0 is the input, and 1 input and head: it is damaged, or a later golem's");
  shrink.where = static_cast<EmbeddingShrink::Where>(where);
  visitor.real("adamw.beta1", beta1);
  visitor.real("adamw.beta2", beta2);
  visitor.real("adamw.eps", eps);
  visitor.real("adamw.weight_decay", weight_decay);
  visitor.real("clip", clip);
}

/// Of a TrainingConfig or Levers. Throws Error for a number that no step can be taken with, by the name of its field.
template <class Settings>
void require_numbers(const Settings& s, const char* owner) {
  const auto need = [&](bool can_be, const char* field, auto value, const char* range) {
    require(can_be, "training was asked for with a ", field, " of ", value, ": ", owner, "::", field, " must be ", range);
  };
  const auto need_finite = [&](const char* field, double value) { need(value >= 0 && std::isfinite(value), field, value, "at least 0, and finite"); };
  need_finite("learning_rate.peak", s.learning_rate.peak);
  need_finite("learning_rate.min", s.learning_rate.min);
  need(s.learning_rate.warmup_samples >= 0, "learning_rate.warmup_samples", s.learning_rate.warmup_samples, "at least 0");
  need(s.learning_rate.decay_samples >= 0, "learning_rate.decay_samples", s.learning_rate.decay_samples, "at least 0");
  need(s.shrink.alpha >= 0 && s.shrink.alpha <= 1, "shrink.alpha", s.shrink.alpha, "from 0 to 1");
  need(s.shrink.ramp_steps >= 0, "shrink.ramp_steps", s.shrink.ramp_steps, "at least 0");
  need(s.beta1 >= 0 && s.beta1 < 1, "beta1", s.beta1, "from 0 to below 1");
  need(s.beta2 >= 0 && s.beta2 < 1, "beta2", s.beta2, "from 0 to below 1");
  need(s.eps > 0 && std::isfinite(s.eps), "eps", s.eps, "above 0, and finite");
  need_finite("weight_decay", s.weight_decay);
  need(s.clip >= 0, "clip", s.clip, "at least 0, where 0 clips nothing");
}

/// Saves a run's batch, or throws Error where that of a saved run is another: a trainer has room for the micro-batches of its own.
inline void visit_batch(StateVisitor& visitor, const BatchSize& own) {
  BatchSize saved = own;
  visitor.integer("batch.full", saved.full);
  visitor.integer("batch.start", saved.start);
  visitor.integer("batch.increment", saved.increment);
  visitor.integer("batch.ramp_samples", saved.ramp_samples);
  const auto rows = [](const BatchSize& b) { return b.start == 0 ? sentence(b.full, " rows") : sentence(b.start, " rows, growing by ", b.increment, " to ", b.full, " over ", b.ramp_samples); };
  require(saved == own, "the saved run takes steps of ", rows(saved), ", and this one of ", rows(own), ": go on with its batch (TrainingConfig::batch)");
}

/// The chunks of a rank, in ascending order.
inline std::vector<Stage> stages_of(const ModelConfig& c, const World& world, int chunks) {
  std::vector<Stage> stages;
  for (int chunk = 0; chunk < chunks; ++chunk) stages.push_back(stage_of(c, world.layout().pp, chunks, world.stage(), chunk));
  return stages;
}

/// Micro-batches of one data rank in a step of `rows` rows. Throws Error where the rows cannot be dealt out evenly, or the
/// schedule cannot have so many.
inline int checked_micro_batches(const TrainingConfig& config, const Layout& layout, std::int64_t rows) {
  require(config.micro_batch >= 1, "a Trainer was asked for micro-batches of ", config.micro_batch, " rows: TrainingConfig::micro_batch must be at least 1");
  require(rows >= 1, "a Trainer was asked for steps of ", rows, " rows: TrainingConfig::batch must have at least 1");
  require(rows % layout.dp == 0, "a step of ", rows, " rows cannot be dealt out to ", layout.dp, " data ranks: make TrainingConfig::batch a multiple of Layout::dp, as well as every size that its ramp goes through");
  const int count = micro_batches_of(config, layout, rows);
  require_schedule(config.schedule, layout.pp, config.chunks, count);
  return count;
}

/// Returns the configuration where a run under this layout can take every step of it. Throws Error where not.
inline const TrainingConfig& checked(const TrainingConfig& config, const Layout& layout) {
  require(config.chunks == 1 || layout.pp > 1, "chunks of layers, ", config.chunks, " on each rank, were asked for without a pipeline: set TrainingConfig::chunks to 1, or Layout::pp above 1");
  require(config.zero == 0 || config.zero == 1, "ZeRO stage ", config.zero, " was asked for: TrainingConfig::zero is 0 or 1");
  require(config.head_tokens >= 0, "logits of ", config.head_tokens, " tokens at once were asked for: TrainingConfig::head_tokens is at least 1, or 0 for the default");
  require(config.add_like.data_ranks >= 1, "TrainingConfig::add_like has ", config.add_like.data_ranks, " data ranks: at least 1");
  require_numbers(config, "TrainingConfig");
  const LossScale& scale = config.loss_scale;
  require(std::isfinite(scale.initial) && scale.initial >= scale.min && scale.min > 0 && scale.window >= 0 && scale.hysteresis >= 1, "a loss scale of ", scale.initial, ", at least ", scale.min, ", that doubles after ", scale.window,
          " steps and halves after ", scale.hysteresis, " overflows was asked for: TrainingConfig::loss_scale needs a finite initial >= min > 0, window >= 0 and hysteresis >= 1");
  require(config.sentinel.history >= 0 && config.sentinel.factor > 0, "a sentinel with a history of ", config.sentinel.history, " steps and a factor of ", config.sentinel.factor,
          " was asked for: TrainingConfig::sentinel needs history >= 0, where 0 compares no norms, and factor > 0");
  require(layout.ranks() == 1 || (config.add_like.data_ranks == 1 && !config.add_like.stages), "TrainingConfig::add_like is for a run on one rank, and this one has ", layout.ranks());
  checked_micro_batches(config, layout, config.batch.full);
  const BatchSize& ramp = config.batch;
  if (ramp.start == 0 || ramp.start >= ramp.full) return config;
  require(ramp.increment >= 1, "a batch that grows from ", ramp.start, " to ", ramp.full, " rows has an increment of ", ramp.increment, ": TrainingConfig::batch.increment must be at least 1");
  for (std::int64_t rows = ramp.start; rows < ramp.full; rows += ramp.increment) checked_micro_batches(config, layout, rows);
  return config;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
TrainerCore<M, P, Tp, D>::TrainerCore(D& device, const TrainingConfig& config, const World& world)
    : device_(&device),
      config_(checked(config, world.layout())),
      world_(world),
      tp_(world_),
      stages_(stages_of(M::config, world_, config.chunks)),
      state_(device, FlatLayout(M::config, stages_, Tp, config.zero ? world_.layout().dp : 1), {Tp, tp_.rank(), world_.data_rank(), world_.layout().pp == 1 || world_.stage() == 0}),
      numbers_(device, state_, config.check_numbers),
      rotary_(device),
      accumulators_(device, M::config, stages_, Tp, state_.layout(), state_.gradients(), config.add_like),
      links_(device, world_, config.chunks, largest_batch().own * M::config.hidden),
      exchange_(device, world_.model()),
      reduction_(state_.layout(), world_, state_.gradients()),
      levers_{.learning_rate = config.learning_rate, .shrink = config.shrink, .beta1 = config.beta1, .beta2 = config.beta2, .eps = config.eps, .weight_decay = config.weight_decay, .clip = config.clip},
      scaler_(config.loss_scale),
      sentinel_(config.sentinel) {
  const ModelConfig& c = M::config;
  const Layout& layout = world_.layout();
  require_carrier(device, world_.all());
  agree(world_, terms_of<M, P>(layout, config));
  const int micro_batches = micro_batches_of(config, layout, config.batch.full);

  const TokenCount tokens = largest_batch();
  memory_.emplace(device, Chunk::keep(tp_, config.recompute), largest_chunk(c, layout.pp, config.chunks, world_.stage()), tokens,
                  InFlight{activations_in_flight(config.schedule, layout.pp, config.chunks, micro_batches, world_.stage()),
                           weight_gradients_in_flight(config.schedule, layout.pp, config.chunks, micro_batches, world_.stage())});
  for (std::size_t chunk = 0; chunk < stages_.size(); ++chunk) {
    weights_.push_back(state_.layout().bind(c, stages_[chunk], Tp, static_cast<int>(chunk), state_.weights()));
    chunks_.emplace_back(device, *memory_, stages_[chunk]);
  }
  if (stages_.back().head) {
    head_.emplace(device, HeadOptions{.tokens = tokens.all(), .chunk = head_chunk(c, config.head_tokens), .trains = true});
    d_output_ = Buffer<T, D>(device, tokens.all() * c.hidden, "activations");
  }
  state_.initialize(c, config_.seed);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
double TrainerCore<M, P, Tp, D>::next_learning_rate() const {
  double rate = learning_rate(levers_.learning_rate, applied_samples_);
  if (step_ >= levers_.rewarm_from && step_ < levers_.rewarm_from + levers_.rewarm_steps)
    rate *= static_cast<double>(step_ - levers_.rewarm_from + 1) / static_cast<double>(levers_.rewarm_steps);
  return rate;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
std::int64_t TrainerCore<M, P, Tp, D>::next_rows() const {
  return batch_rows(config_.batch, samples_);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::sum(std::vector<double>& values, Group& group) {
  if (group.size() == 1) return;
  const View<double, 1> sums = room_for_sums(static_cast<std::int64_t>(values.size()));
  device_->copy_in(sums.data, values.data(), values.size() * sizeof(double));
  group.all_reduce(sums, Reduce::sum);
  device_->copy_out(values.data(), sums.data, values.size() * sizeof(double));
}

template <Model M, TrainingPrecision P, int Tp, Device D>
View<double, 1> TrainerCore<M, P, Tp, D>::room_for_sums(std::int64_t count) {
  if (sums_.size() < count) sums_ = Buffer<double, D>(*device_, count, "batch");
  return {sums_.data(), count};
}

template <Model M, TrainingPrecision P, int Tp, Device D>
bool TrainerCore<M, P, Tp, D>::any(bool here) {
  std::vector<double> votes{here ? 1.0 : 0.0};
  sum(votes, world_.all());
  return votes[0] > 0;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
double TrainerCore<M, P, Tp, D>::measure_gradients(LossSummary& losses) {
  const ModelConfig& c = M::config;
  const double scale = needs_loss_scale<P> ? 1.0 / scaler_.scale() : 1.0;
  const auto tensors = static_cast<std::size_t>(tensor_count(c));
  const Place& place = state_.place();
  std::vector<double> values(tensors, 0.0);  // squares of each tensor of the model, from those who speak for it; then losses
  const bool scored = head_ && place.tensor_rank == 0;
  losses.visit([&](auto& number) { values.push_back(scored ? static_cast<double>(number) : 0.0); });
  const View<double, 1> sums = room_for_sums(static_cast<std::int64_t>(values.size()));
  device_->copy_in(sums.data, values.data(), values.size() * sizeof(double));
  for (const FlatTensor& tensor : state_.layout().tensors())
    if (state_.speaks_for(tensor)) state_.add_up_gradient({sums.data + tensor.number, 1}, tensor);
  if (world_.all().size() > 1) world_.all().all_reduce(sums, Reduce::sum);
  device_->copy_out(values.data(), sums.data, values.size() * sizeof(double));  // the host waits once, and not for each tensor

  for (std::size_t i = 0; i < tensors; ++i) values[i] *= scale * scale;
  const double* next = values.data() + tensors;
  losses.visit([&](auto& number) { number = static_cast<std::remove_reference_t<decltype(number)>>(*next++); });
  layer_norms_.assign(static_cast<std::size_t>(c.layers) + 2, {});
  const std::size_t per_block = block_parameters(c).size();
  double total = 0;
  for (std::size_t i = 0; i < tensors; ++i) {
    layer_norms_[i == 0 ? 0 : 1 + (i - 1) / per_block].norm += values[i];
    total += values[i];
  }
  for (std::size_t i = 0; i < layer_norms_.size(); ++i) layer_norms_[i] = {static_cast<int>(i) - 1, std::sqrt(layer_norms_[i].norm)};
  return std::sqrt(total);
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::update(double gradient_scale) {
  const auto t = static_cast<double>(applied_steps_ + 1);
  AdamwStep adamw_step{.learning_rate = next_learning_rate(),
                       .beta1 = levers_.beta1,
                       .beta2 = levers_.beta2,
                       .eps = levers_.eps,
                       .correction1 = 1 - std::pow(levers_.beta1, t),
                       .correction2 = 1 - std::pow(levers_.beta2, t),
                       .gradient_scale = gradient_scale};
  std::vector<Pending> gathers;
  const std::vector<FlatTensor>& tensors = state_.layout().tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    adamw_step.decay = tensors[i].parameter.decay ? levers_.weight_decay : 0.0;
    state_.update(tensors[i], adamw_step);
    if (i + 1 == tensors.size() || tensors[i + 1].part != tensors[i].part)
      gathers.push_back(state_.gather(state_.layout().parts()[static_cast<std::size_t>(tensors[i].part)], world_.data()));
  }
  for (Pending& gather : gathers) gather.wait();
}

template <Model M, TrainingPrecision P, int Tp, Device D>
StepReport TrainerCore<M, P, Tp, D>::step(BatchSource next) {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  require_numbers(levers_, "Levers");
  Step step = read_batches(next, next_rows());
  accumulators_.clear();
  numbers_.begin(step_ + 1, "reading rows");
  if (numbers_.on()) numbers_.weights();
  run(step);
  world_.note(step_ + 1, "adding up gradients");
  accumulators_.join();
  reduction_.finish();
  numbers_.begin(step_ + 1, "adding up gradients");
  if (checks_gradients()) numbers_.all_gradients();

  const double norm = measure_gradients(step.losses);
  report.learning_rate = next_learning_rate();
  report.loss_scale = needs_loss_scale<P> ? scaler_.scale() : 1.0;
  const bool overflow = !std::isfinite(norm), scaled = needs_loss_scale<P> && scaler_.can_fall();
  if constexpr (needs_loss_scale<P>) scaler_.update(overflow);
  const Sentinel::Verdict verdict = sentinel_.judge(norm, scaler_.scale(), scaled);
  report.alarm = verdict.alarm;
  report.note = verdict.why;
  if (overflow && needs_loss_scale<P>) report.note = sentence("overflow: loss scale ", report.loss_scale, " -> ", scaler_.scale(), verdict.alarm ? "; " : "", verdict.why);
  report.skipped = overflow || (verdict.alarm && sentinel_.action() != SentinelConfig::Action::report);
  if (!report.skipped) {
    // clip divisor max(1, (norm + 1e-6) / clip): spec 4.2
    const double divisor = levers_.clip > 0 ? larger(1.0, (norm + 1e-6) / levers_.clip) : 1.0;
    update(1.0 / (report.loss_scale * divisor));
    ++applied_steps_;
    applied_samples_ += step.rows;
  }
  ++step_;
  samples_ += step.rows;
  if (config_.check_every > 0 && step_ % config_.check_every == 0) compare_replicas(*device_, state_, world_, step_);

  const LossSummary losses = step.losses.finished();
  report.step = step_;
  report.samples = samples_;
  report.tokens = step.tokens * world_.layout().dp;
  report.loss = losses.loss();
  report.tasks = losses.tasks;
  report.gradient_norm = norm;
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::gather_weights() {
  std::vector<Pending> gathers;
  for (const FlatPart& part : state_.layout().parts()) gathers.push_back(state_.gather(part, world_.data()));
  for (Pending& gather : gathers) gather.wait();
}

template <Model M, TrainingPrecision P, int Tp, Device D>
void TrainerCore<M, P, Tp, D>::visit_state(StateVisitor& visitor) {
  visit_batch(visitor, config_.batch);
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
  state_.visit_state(visitor);
  if (visitor.loading()) gather_weights();
}

}  // namespace golem

#include "golem/train/pipeline_passes.hpp"
