// EngineCore: a model's weights for inference, a key-value cache, and the forward passes over both.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "golem/config/precision.hpp"
#include "golem/core/function_ref.hpp"
#include "golem/core/stateful.hpp"
#include "golem/infer/answer_rules.hpp"
#include "golem/infer/prompt.hpp"
#include "golem/infer/sampling.hpp"
#include "golem/infer/weight_store.hpp"
#include "golem/nn/head.hpp"
#include "golem/nn/rotary_tables.hpp"
#include "golem/nn/rows.hpp"
#include "golem/nn/scoring.hpp"
#include "golem/nn/tensor_parallel.hpp"
#include "golem/nn/transformer.hpp"

namespace golem {

struct EngineOptions {
  int sequences = 1;  // slots of the cache: one for each sequence of a forward(), each beam, each row of an evaluate()
  int capacity = 0;   // tokens of each, prompt included; 0: the model's context
};

/// New tokens of one sequence.
struct SequenceStep {
  std::int32_t slot = 0;    // of the cache
  std::int32_t first = 0;   // tokens of the sequence that the cache holds already
  std::int32_t prefix = 0;  // leading tokens that all of them see (spec 2.3); none under Mask::causal
  std::span<const std::int32_t> tokens, positions;  // as many of both
};

/// How the token behind a step is drawn.
struct TokenDraw {
  Sampler* sampler;
  std::size_t made = 0;  // tokens of its answer before it
};

template <Model M, Precision P, int Tp, Device D>
class EngineCore {
  static_assert(M::config.heads % Tp == 0, "golem: Layout::tp must divide ModelConfig::heads");
  static_assert(M::config.heads % Tp != 0 || M::config.key_heads() % Tp == 0, "golem: Layout::tp must divide ModelConfig::kv_heads");
  static_assert(M::config.ffn % Tp == 0, "golem: Layout::tp must divide ModelConfig::ffn");
  static_assert(M::config.vocab % Tp == 0, "golem: Layout::tp must divide ModelConfig::vocab");

 public:
  using T = typename P::compute;
  using A = accumulate_t<T>;

  /// Allocates weights (zero), cache and activations; `device` must outlive the engine. `ranks` share each layer: they make the
  /// same calls in the same order, with the same arguments, and get the same results.
  EngineCore(D& device, const EngineOptions& options, const TensorParallel<Tp>& ranks = {});
  EngineCore(const EngineCore&) = delete;  // its parts point at each other
  EngineCore& operator=(const EngineCore&) = delete;

  /// Reads this rank's part of the model's weights by their names in files (spec 1.10); quantised ones as they are stored, or,
  /// where the source has them unquantised, by quantising each row of the part (spec 5.1).
  void load_weights(const TensorSource& source);

  /// The logits (V) after the last token of each step, one row a step; valid until the next call. No two may be of one slot. Of
  /// several ranks, all observe, or none.
  View<const A, 2> forward(std::span<const SequenceStep> steps, LayerObserver<T> observe = {});

  /// The token that each draw takes behind its step, never one that `rules`, made of the samplers' Sampling, ban there; valid until the next call. By golem's
  /// rules it is chosen on the device, and the host sees no logits.
  std::span<const std::int32_t> next_tokens(std::span<const SequenceStep> steps, std::span<const TokenDraw> draws, const AnswerRules& rules);

  /// Generates behind the prompt until an end token, `sampling.max_tokens`, the end of the cache, or on_token(token) returns
  /// false; of several ranks, rank 0's word counts. Returns the tokens without the end token.
  std::vector<std::int32_t> generate(const Prompt& prompt, const Sampling& sampling, const SpecialTokens& special, function_ref<bool(std::int32_t)> on_token = {});

  /// The logits (n, V) of the n scored tokens of whole rows, in the order of the batch, without the cache; valid until the next call.
  View<const A, 2> logits(const Batch& batch, LayerObserver<T> observe = {});

  /// Losses of whole rows, without the cache.
  LossSummary evaluate(const Batch& batch);
  /// Nats of each scored token of the last evaluate(), in the order of the batch.
  const std::vector<A>& token_losses() const { return scoring_.token_losses(); }

  /// Makes tokens [first, first + count) of the cached sequence in slot `to` those of slot `from`.
  void copy_sequence(std::int32_t from, std::int32_t to, std::int32_t first, std::int32_t count);

  int sequences() const { return options_.sequences; }
  int capacity() const { return options_.capacity; }
  int context() const { return M::config.context; }
  int vocab() const { return M::config.vocab; }
  int rank() const { return tp_.rank(); }
  D& device() { return *device_; }

 private:
  /// The final norm's output of whole rows (N, C).
  View<T, 2> run_rows(const Batch& batch, LayerObserver<T> observe);
  /// The logits (n, V) after the last token of each step, on the device.
  View<A, 2> run_steps(std::span<const SequenceStep> steps, LayerObserver<T> observe);
  /// Where ranks' parts of the logits of several rows meet, before they are put together: memory that passes that are recorded read again.
  struct Parts {
    Buffer<A, D> logits;                // (tp, n, V/tp)
    Buffer<std::int32_t, D> order;      // of parts: row by row
    std::int64_t rows = 0;              // n

    Parts(D& device, std::int64_t most_rows) : logits(device, is_needed(most_rows) ? most_rows * M::config.vocab : 0, "head"), order(device, is_needed(most_rows) ? most_rows * Tp : 0, "batch") {}
    static bool is_needed(std::int64_t rows) { return Tp > 1 && rows > 1; }
    void prepare(D& device, std::int64_t count);
  };
  /// logits (n, V) of n rows of hidden states; `parts` were prepared for as many.
  void compute_logits(View<A, 2> logits, const Parts& parts, View<T, 2> hidden);
  /// The same in `host`.
  View<const A, 2> collect_logits(std::vector<A>& host, View<A, 2> logits);
  /// What rank 0 says.
  bool agreed(bool says);

  D* device_;
  EngineOptions options_;
  Stage stage_ = whole(M::config);
  TensorParallel<Tp> tp_;
  WeightStore<M, P, Tp, D> weights_;
  RotaryTables<M, A, D> rotary_;
  std::optional<StageMemory<M, T, Tp, D>> memory_;
  std::optional<Transformer<M, P, Tp, D>> transformer_;
  std::optional<Head<M, T, Tp, D>> head_;
  Buffer<T, D> cache_, last_hidden_;
  std::vector<View<T, 4>> keys_, values_;
  RowsOnDevice<D> rows_;
  Scoring<A, D> scoring_;
  Buffer<CachedSequence, D> sequences_;
  Buffer<std::int32_t, D> last_rows_;
  Buffer<A, D> logits_;
  Parts parts_;
  std::vector<A> host_logits_, batch_logits_;
  Batch batch_;
  typename D::Recording one_token_;  // the pass over one new token of each sequence, by their number
  Buffer<ChosenToken, D> chosen_;
  Buffer<std::int32_t, D> banned_;
  std::vector<CachedSequence> host_sequences_;
  std::vector<std::int32_t> host_last_, host_banned_, tokens_;
  std::vector<ChosenToken> host_chosen_;
};

}  // namespace golem

#include "golem/infer/engine_core_impl.hpp"
