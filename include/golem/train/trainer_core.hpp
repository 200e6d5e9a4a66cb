// TrainerCore: weights, gradients and moments of a model in one flat buffer each, and the step that moves them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "golem/comm/communicator.hpp"
#include "golem/config/precision.hpp"
#include "golem/config/training.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"
#include "golem/core/step_report.hpp"
#include "golem/nn/head.hpp"
#include "golem/nn/rotary_tables.hpp"
#include "golem/nn/rows.hpp"
#include "golem/nn/scoring.hpp"
#include "golem/nn/transformer.hpp"
#include "golem/train/loss_scaler.hpp"
#include "golem/train/sentinel.hpp"

namespace golem {

/// Where a trainer gets its data: returns a batch of exactly `rows` rows, valid until the next call.
using BatchSource = function_ref<const Batch&(int rows)>;

/// What may be changed on purpose in a run that is resumed (spec 4.6). Part of the saved state: a run that is resumed
/// once more keeps it.
struct Levers {
  LearningRate learning_rate;
  EmbeddingShrink shrink;
  std::int64_t rewarm_from = 0, rewarm_steps = 0;  // the rate rises again from 0 over rewarm_steps steps after rewarm_from

  void visit_state(StateVisitor& visitor);
};

/// Gradient norm of a part of the model: the embedding (layer -1), a block, or the final norm (layer = layers).
struct GradientNorm {
  int layer = 0;
  double norm = 0;
};

template <Model M, TrainingPrecision P, int Tp, Device D>
class TrainerCore {
 public:
  using T = typename P::compute;
  using A = typename P::master;

  /// Makes and initialises the model (spec 1.9); `device` must outlive the trainer.
  TrainerCore(D& device, const TrainingConfig& config);

  /// Saves or restores everything that the next step depends on, but the data. The tensors it shows stay valid until the
  /// next step.
  void visit_state(StateVisitor& visitor);

  /// One optimizer step: forward and backward over as many rows as the batch schedule says, clipping, AdamW.
  StepReport step(BatchSource next);

  /// Forward only, no dropout; up to TrainingConfig::micro_batch rows.
  LossSummary evaluate(const Batch& batch);

  /// Adds the gradients of `batch` to gradients(), as a micro-batch of a step of `rows_in_step` rows.
  void accumulate(const Batch& batch, std::int64_t rows_in_step, LossSummary& losses);

  std::int64_t steps() const { return step_; }
  std::int64_t samples() const { return samples_; }
  const TrainingConfig& config() const { return config_; }
  Levers& levers() { return levers_; }
  D& device() { return *device_; }

  /// Trains with a loss of one's own from the next step on. `loss` must outlive the trainer, so a temporary is refused.
  template <class Loss>
  void set_own_loss(Loss& loss) {
    own_loss_ = loss;
  }
  template <class Loss>
  void set_own_loss(const Loss&& loss) = delete;

  /// Rate and rows of the next step.
  double next_learning_rate() const;
  std::int64_t next_rows() const;

  /// Gradient norms of the last step, embedding first, before clipping.
  const std::vector<GradientNorm>& layer_norms() const { return layer_norms_; }

  View<A, 1> parameters() const { return master_.view(); }
  View<A, 1> gradients() const { return gradients_.view(); }
  std::int64_t parameter_elements() const { return parameter_count(M::config, stage_, Tp); }

 private:
  void initialize();
  void check(const Batch& batch) const;
  void refresh_compute();
  double measure_gradients();  // fills layer_norms_; the global norm, in units of the unscaled loss
  void update(double gradient_scale);
  void visit_buffer(StateVisitor& visitor, const char* prefix, Buffer<A, D>& buffer, std::vector<A>& staged);
  template <class Visit>
  void walk(Visit visit);  // visit(parameter, layer, offset in the flat buffers)

  D* device_;
  TrainingConfig config_;
  Stage stage_ = whole(M::config);
  Self tp_;

  Buffer<A, D> master_, gradients_, moment1_, moment2_;
  Buffer<T, D> compute_;  // where T is not A
  RotaryTables<M, A, D> rotary_;
  StageWeights<P> weights_;
  StageTensors<View<A, 2>, A> gradient_tensors_;
  std::optional<Transformer<M, P, Tp, D>> transformer_;
  std::optional<Head<M, T, Tp, D>> head_;
  Buffer<T, D> d_output_;
  RowsOnDevice<D> rows_;
  Scoring<A, D> scoring_;
  OwnLoss<A> own_loss_;

  Levers levers_;
  LossScaler scaler_;
  Sentinel sentinel_;
  std::vector<GradientNorm> layer_norms_;
  std::vector<A> staged_[3];  // host copies that a visitor reads, where the device's memory is not the host's
  std::int64_t step_ = 0, samples_ = 0;
  std::int64_t applied_steps_ = 0, applied_samples_ = 0;  // without those that were skipped (spec 4.2)
};

}  // namespace golem

#include "golem/train/trainer_core_impl.hpp"
