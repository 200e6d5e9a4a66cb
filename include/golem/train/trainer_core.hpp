// TrainerCore: one rank's share of a training run, and the step that all ranks take together.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "golem/comm/world.hpp"
#include "golem/config/precision.hpp"
#include "golem/config/schedule.hpp"
#include "golem/config/training.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"
#include "golem/core/step_report.hpp"
#include "golem/nn/head.hpp"
#include "golem/nn/rotary_tables.hpp"
#include "golem/nn/rows.hpp"
#include "golem/nn/scoring.hpp"
#include "golem/nn/transformer.hpp"
#include "golem/train/accumulators.hpp"
#include "golem/train/batch_exchange.hpp"
#include "golem/train/flat_state.hpp"
#include "golem/train/gradient_reduction.hpp"
#include "golem/train/loss_scaler.hpp"
#include "golem/train/number_check.hpp"
#include "golem/train/sentinel.hpp"
#include "golem/train/stage_links.hpp"
#include "golem/train/weight_digests.hpp"

namespace golem {

/// Where a trainer gets its data: returns a batch of exactly `rows` rows, valid until the next call. Called on the ranks whose
/// TrainerCore::reads() is true; those of different data ranks read different rows.
using BatchSource = function_ref<const Batch&(int rows)>;

/// What may be changed on purpose in a run that is resumed (spec 4.6). Part of the saved state: a run that is resumed
/// once more keeps it.
struct Levers {
  LearningRate learning_rate;
  EmbeddingShrink shrink;
  double beta1, beta2, eps, weight_decay, clip;    // TrainingConfig's, until they are changed
  std::int64_t rewarm_from = 0, rewarm_steps = 0;  // the rate rises again from 0 over rewarm_steps steps after rewarm_from

  void visit_state(StateVisitor& visitor);
};

/// Gradient norm of a part of the model: the embedding (layer -1), a block, or the final norm (layer = layers).
struct GradientNorm {
  int layer = 0;
  double norm = 0;
};

/// Members that take part in communication are to be called by all ranks of the world, in the same order: the constructor,
/// visit_state, step, any, digest; sum by the ranks of its group, and evaluate by those of World::model().
template <Model M, TrainingPrecision P, int Tp, Device D>
class TrainerCore {
  static_assert(M::config.heads % Tp == 0, "golem: Layout::tp must divide ModelConfig::heads");
  static_assert(M::config.heads % Tp != 0 || M::config.key_heads() % Tp == 0, "golem: Layout::tp must divide ModelConfig::kv_heads");
  static_assert(M::config.ffn % Tp == 0, "golem: Layout::tp must divide ModelConfig::ffn");
  static_assert(M::config.vocab % Tp == 0, "golem: Layout::tp must divide ModelConfig::vocab");

 public:
  using T = typename P::compute;
  using A = typename P::master;
  using G = typename P::gradient;

  /// Makes and initialises this rank's share of the model (spec 1.9); `device` must outlive the trainer. Throws Error where
  /// layout, schedule and batch do not go together.
  TrainerCore(D& device, const TrainingConfig& config, const World& world = {});
  TrainerCore(const TrainerCore&) = delete;  // its parts point at each other
  TrainerCore& operator=(const TrainerCore&) = delete;

  /// Saves or restores everything that the next step depends on, but the data; what Levers holds is as it was saved, whatever TrainingConfig says. The
  /// tensors it shows stay valid until the next step. Throws Error, with nothing restored, for a run of another batch.
  void visit_state(StateVisitor& visitor);

  /// One optimizer step: forward and backward over as many rows as the batch schedule says, clipping, AdamW.
  StepReport step(BatchSource next);

  /// Forward only, no dropout, of up to TrainingConfig::micro_batch rows. Of the ranks that share a model, the reader's batch
  /// counts, and all get its losses.
  LossSummary evaluate(const Batch& batch);

  /// Adds the gradients of `batch` to gradients(), as a micro-batch of a step of `rows_in_step` rows. On one rank.
  void accumulate(const Batch& batch, std::int64_t rows_in_step, LossSummary& losses);

  /// Adds up numbers over the ranks of a group of world().
  void sum(std::vector<double>& values, Group& group);
  /// Whether it is so on any rank.
  bool any(bool here);

  /// A number for the model's weights, the same for the same numbers on every layout.
  std::uint64_t digest() { return digest_of(*device_, state_, world_); }

  /// Whether this rank reads batches: the first of those that share a model.
  bool reads() const { return exchange_.reads(); }

  std::int64_t steps() const { return step_; }
  std::int64_t samples() const { return samples_; }
  const TrainingConfig& config() const { return config_; }
  World& world() { return world_; }
  Levers& levers() { return levers_; }
  D& device() { return *device_; }

  /// Trains with a loss of one's own from the next step on. `loss` must outlive the trainer, so a temporary is refused.
  template <class Loss>
  void set_own_loss(Loss& loss) {
    static_assert(Tp == 1, "golem: a loss of one's own reads all logits of a token: use Layout::tp 1");
    own_loss_ = loss;
  }
  template <class Loss>
  void set_own_loss(const Loss&& loss) = delete;

  /// Rate and rows of the next step.
  double next_learning_rate() const;
  std::int64_t next_rows() const;

  /// Gradient norms of the last step, of the whole model, embedding first, before clipping.
  const std::vector<GradientNorm>& layer_norms() const { return layer_norms_; }

  /// This rank's flat buffers; FlatState says which elements they hold.
  const FlatState<P, D>& state() const { return state_; }
  View<A, 1> parameters() const { return state_.master(); }
  View<G, 1> gradients() const { return state_.gradients(); }
  /// Parameters of the whole model.
  static constexpr std::int64_t parameter_elements() { return parameter_count(M::config); }

 private:
  using Chunk = Transformer<M, P, Tp, D>;
  /// What one step carries from its batches to its report.
  struct Step {
    std::int64_t rows = 0;               // of all data ranks
    std::int64_t tokens = 0;             // of this data rank, without what pads rows
    std::vector<Batch> batches = {};         // micro-batches of this data rank
    std::vector<std::int64_t> samples = {};  // number of the first row of each
    LossSummary losses = {};
    std::vector<int> kept = {}, deferred = {};  // by chunk and micro-batch: its slot, -1 where it has none
    std::vector<int> free_kept = {}, free_deferred = {};

    std::size_t pair(const PipelineAction& a) const { return static_cast<std::size_t>(a.chunk) * batches.size() + static_cast<std::size_t>(a.micro_batch); }
  };

  void check(const Batch& batch) const;
  int cut() const;  // what the length of rows must be a multiple of
  TokenCount largest_batch() const { return Chunk::tokens(tp_, config_.micro_batch, static_cast<int>(round_up(M::config.context, cut()))); }
  Step read_batches(BatchSource next, std::int64_t rows);
  void run(Step& step);
  void note(const PipelineAction& action);
  bool checks_gradients() const;  // whether they must be finite: an overflow under a loss scale is the scaler's business, until it can fall no further
  void forward(Step& step, const PipelineAction& action);
  void backward(Step& step, const PipelineAction& action);
  void backward_weight(Step& step, const PipelineAction& action);
  View<T, 2> forward_through(int chunk, int slot, const Rows<A>& rows);
  void gradients_done(int layer, const PipelineAction& action, const Step& step);
  View<T, 2> loss_backward(Step& step, const PipelineAction& action, const Rows<A>& rows, GradientsDone done);
  Rows<A> rows_of(Step& step, int micro_batch, double dropout);
  double measure_gradients(LossSummary& losses);  // sums losses over ranks, fills layer_norms_; the norm, in units of the unscaled loss
  void update(double gradient_scale);
  View<double, 1> room_for_sums(std::int64_t count);
  void gather_weights();

  D* device_;
  TrainingConfig config_;
  World world_;
  TensorParallel<Tp> tp_;
  std::vector<Stage> stages_;  // one for each chunk
  FlatState<P, D> state_;
  NumberCheck<P, D> numbers_;
  RotaryTables<M, A, D> rotary_;
  std::vector<StageWeights<P>> weights_;  // by chunk
  Accumulators<A, G, D> accumulators_;
  std::optional<StageMemory<M, T, Tp, D>> memory_;
  std::vector<Chunk> chunks_;
  std::optional<Head<M, T, Tp, D>> head_;
  Buffer<T, D> d_output_;
  std::vector<RowsOnDevice<D>> rows_;  // by micro-batch
  Scoring<A, D> scoring_;
  OwnLoss<A> own_loss_;
  StageLinks<T, D> links_;
  BatchExchange<D> exchange_;
  GradientReduction<G> reduction_;
  Buffer<double, D> sums_;  // room_for_sums

  Levers levers_;
  LossScaler scaler_;
  Sentinel sentinel_;
  std::vector<GradientNorm> layer_norms_;
  std::int64_t step_ = 0, samples_ = 0;
  std::int64_t applied_steps_ = 0, applied_samples_ = 0;  // without those that were skipped (spec 4.2)
};

}  // namespace golem

#include "golem/train/trainer_core_impl.hpp"
