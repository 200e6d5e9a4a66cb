// Member definitions of EngineCore, outside the class so that a program can instantiate them once.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "golem/config/plan_inference.hpp"
#include "golem/infer/engine_core.hpp"

namespace golem {

template <Model M, Precision P, int Tp, Device D>
EngineCore<M, P, Tp, D>::EngineCore(D& device, const EngineOptions& options, const TensorParallel<Tp>& ranks)
    : device_(&device), options_(options), tp_(ranks), weights_(device, stage_), rotary_(device), parts_(device, options.sequences) {
  const ModelConfig& c = M::config;
  require(tp_.ranks().size() == Tp, "an Engine that was built for tp ", Tp, " was given a group of ", tp_.ranks().size(), " ranks: make it with a World of that tp");
  require_carrier(device, tp_.ranks());
  if (options_.capacity == 0) options_.capacity = c.context;
  require(options_.sequences >= 1 && options_.capacity >= 1 && options_.capacity <= c.context, "an Engine was asked for ", options_.sequences, " sequences of ",
          options_.capacity, " tokens: at least one, of 1 to ", c.context, " tokens, the model's context");
  if constexpr (!D::host_memory)  // once, at its largest: a recorded pass keeps the one that it was captured with
    device.template workspace<std::byte>(plan_inference<M, P>(options_.sequences, options_.capacity, Tp).workspace);
  memory_.emplace(device, Keep::nothing, stage_, Transformer<M, P, Tp, D>::tokens(tp_, options_.sequences, options_.capacity));
  transformer_.emplace(device, *memory_, stage_);
  head_.emplace(device, HeadOptions{.tokens = std::int64_t{options_.sequences} * options_.capacity, .chunk = head_chunk(c), .rounding = rounding_of<P>()});

  const std::int64_t heads = c.key_heads() / Tp, dim = c.head_dim(), half = options_.sequences * heads * options_.capacity * dim;
  cache_ = Buffer<T, D>(device, 2 * half * c.layers, "key-value cache");
  for (int layer = 0; layer < c.layers; ++layer) {
    keys_.push_back(cache_.view_at(2 * layer * half, options_.sequences, heads, options_.capacity, dim));
    values_.push_back(cache_.view_at((2 * layer + 1) * half, options_.sequences, heads, options_.capacity, dim));
  }
  sequences_ = Buffer<CachedSequence, D>(device, options_.sequences, "batch");
  last_rows_ = Buffer<std::int32_t, D>(device, options_.sequences, "batch");
  last_hidden_ = Buffer<T, D>(device, std::int64_t{options_.sequences} * c.hidden, "activations");
  logits_ = Buffer<A, D>(device, std::int64_t{options_.sequences} * c.vocab, "head");
  chosen_ = Buffer<ChosenToken, D>(device, options_.sequences, "batch");
  rows_.reserve(device, std::int64_t{options_.sequences} * options_.capacity);  // recorded passes need memory that stays
}

template <Model M, Precision P, int Tp, Device D>
void EngineCore<M, P, Tp, D>::load_weights(const TensorSource& source) {
  weights_.load(source, tp_.rank());
}

template <Model M, Precision P, int Tp, Device D>
View<const typename EngineCore<M, P, Tp, D>::A, 2> EngineCore<M, P, Tp, D>::forward(std::span<const SequenceStep> steps, LayerObserver<T> observe) {
  return collect_logits(host_logits_, run_steps(steps, observe));
}

template <Model M, Precision P, int Tp, Device D>
View<typename EngineCore<M, P, Tp, D>::A, 2> EngineCore<M, P, Tp, D>::run_steps(std::span<const SequenceStep> steps, LayerObserver<T> observe) {
  require(!steps.empty() && steps.size() <= static_cast<std::size_t>(options_.sequences), "a forward pass over ", steps.size(), " sequences was asked of an Engine made for ",
          options_.sequences, ": EngineOptions::sequences must be at least that");
  require(M::config.mask != Mask::bidirectional, "a forward pass over a cache was asked of a model with Mask::bidirectional, whose tokens see those that come later: run whole rows");
  batch_.tokens.clear(), batch_.positions.clear(), host_sequences_.clear(), host_last_.clear();
  for (const SequenceStep& s : steps) {
    const auto count = static_cast<std::int32_t>(s.tokens.size()), row = static_cast<std::int32_t>(batch_.tokens.size());
    require(count > 0, "a forward pass was asked for a sequence without a new token: give each at least one");
    require(s.first >= 0 && s.first + count <= options_.capacity, "a sequence would grow to ", s.first + count, " tokens in a cache of ", options_.capacity,
            ": give a shorter prompt, or a larger EngineOptions::capacity (the model's context is ", M::config.context, ")");
    require(s.prefix <= s.first + count, "a prefix of ", s.prefix, " tokens, which all of them see, was named for a sequence of ", s.first + count, ": give all of them in one pass");
    require(s.slot >= 0 && s.slot < options_.sequences, "slot ", s.slot, " was named in a cache of ", options_.sequences, " sequences");
    require(s.positions.size() == s.tokens.size(), "a sequence has ", s.tokens.size(), " new tokens and ", s.positions.size(), " positions: give as many of both");
    for (const CachedSequence& other : host_sequences_) require(other.slot != s.slot, "slot ", s.slot, " was named by two sequences of one forward pass: give each its own");
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t token = s.tokens[static_cast<std::size_t>(i)], position = s.positions[static_cast<std::size_t>(i)];
      require_token(token, M::config.vocab);
      require(position >= 0 && position < M::config.context, "position ", position, " is beyond the model's context of ", M::config.context);
      batch_.tokens.push_back(token), batch_.positions.push_back(position);
    }
    host_sequences_.push_back({.row = row, .count = count, .first = s.first, .prefix = M::config.mask == Mask::causal ? 0 : s.prefix, .slot = s.slot});
    host_last_.push_back(row + count - 1);
  }
  batch_.rows = 1, batch_.length = static_cast<int>(batch_.tokens.size());
  batch_.windows.clear(), batch_.first_window.assign(2, 0);
  rows_.upload(*device_, batch_, M::config);
  device_->copy_in(sequences_.data(), host_sequences_.data(), host_sequences_.size() * sizeof(CachedSequence));
  device_->copy_in(last_rows_.data(), host_last_.data(), host_last_.size() * sizeof(std::int32_t));

  const auto count = static_cast<std::int64_t>(steps.size());
  parts_.prepare(*device_, count);
  const View<A, 2> logits = logits_.view_at(0, count, M::config.vocab);
  const auto compute = [&] {
    const View<T, 2> output = transformer_->infer(tp_, weights_.tensors(), rows_.rows(rotary_.cos(), rotary_.sin()), keys_, values_,
                                                  View<const CachedSequence, 1>{sequences_.data(), count}, observe);
    const View<T, 2> hidden = last_hidden_.view_at(0, count, M::config.hidden);
    gather_rows(*device_, hidden, output, View<const std::int32_t, 1>{last_rows_.data(), count});
    compute_logits(logits, parts_, hidden);
  };
  if (observe || batch_.length > count) compute();  // observers are the host's business, and a prompt's length is its own
  else tp_.replay(*device_, one_token_, count, compute);
  return logits;
}

template <Model M, Precision P, int Tp, Device D>
void EngineCore<M, P, Tp, D>::compute_logits(View<A, 2> logits, const Parts& parts, View<T, 2> hidden) {
  constexpr std::int64_t vocab = M::config.vocab, part = vocab / Tp;
  const std::int64_t count = hidden.extent(0);
  const View<A, 1> all{Parts::is_needed(count) ? parts.logits.data() : logits.data, count * vocab}, own{all.data + tp_.rank() * count * part, count * part};  // of one row, parts follow each other as they should
  head_->logits(View<A, 2>{own.data, count, part}, hidden, weights_.tensors().embedding);
  if constexpr (Tp > 1) {
    tp_.ranks().all_gather(all, View<const A, 1>(own));
    if (count > 1) gather_rows(*device_, View<A, 2>{logits.data, count * Tp, part}, View<const A, 2>{all.data, Tp * count, part}, parts.order.view_at(0, count * Tp));
  }
}

template <Model M, Precision P, int Tp, Device D>
void EngineCore<M, P, Tp, D>::Parts::prepare(D& device, std::int64_t count) {
  if (!is_needed(count) || count == rows) return;
  std::vector<std::int32_t> places;
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t rank = 0; rank < Tp; ++rank) places.push_back(static_cast<std::int32_t>(rank * count + row));
  device.copy_in(order.data(), places.data(), places.size() * sizeof(std::int32_t));
  rows = count;
}

template <Model M, Precision P, int Tp, Device D>
View<const typename EngineCore<M, P, Tp, D>::A, 2> EngineCore<M, P, Tp, D>::collect_logits(std::vector<A>& host, View<A, 2> logits) {
  const auto elements = static_cast<std::size_t>(logits.size());
  if (host.size() < elements) host.resize(elements);
  device_->copy_out(host.data(), logits.data, elements * sizeof(A));
  return {host.data(), logits.extent(0), logits.extent(1)};
}

template <Model M, Precision P, int Tp, Device D>
std::span<const std::int32_t> EngineCore<M, P, Tp, D>::next_tokens(std::span<const SequenceStep> steps, std::span<const TokenDraw> draws, const AnswerRules& rules) {
  require(steps.size() == draws.size(), "tokens behind ", steps.size(), " sequences were to be drawn by ", draws.size(), " samplers: give each its own");
  const View<A, 2> logits = run_steps(steps, {});
  tokens_.resize(draws.size());
  const auto on_host = [&](auto rows) {
    for (std::size_t i = 0; i < draws.size(); ++i) tokens_[i] = draws[i].sampler->draw(rows.row(static_cast<std::int64_t>(i)), rows.extent(1), rules.banned(draws[i].made), draws[i].made);
  };
  if constexpr (D::host_memory) {
    on_host(logits);
  } else {
    if (std::any_of(draws.begin(), draws.end(), [](const TokenDraw& draw) { return draw.sampler->sampling().rules == SamplingRules::original; })) {  // its sums in fp16 go one by one
      on_host(collect_logits(host_logits_, logits));
      return tokens_;
    }
    const std::span<const std::int32_t> all = rules.all();
    if (!std::equal(host_banned_.begin(), host_banned_.end(), all.begin(), all.end())) {
      if (banned_.size() < static_cast<std::int64_t>(all.size())) banned_ = Buffer<std::int32_t, D>(*device_, static_cast<std::int64_t>(all.size()), "batch");
      device_->copy_in(banned_.data(), all.data(), all.size_bytes());
      host_banned_.assign(all.begin(), all.end());
    }
    for (std::size_t i = 0; i < draws.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      choose_token(*device_, chosen_.view_at(at, 1), View<A, 1>{logits.row(at), logits.extent(1)}, View<const std::int32_t, 1>{banned_.data(), static_cast<std::int64_t>(rules.banned(draws[i].made).size())},
                   draws[i].sampler->choice(draws[i].made));
    }
    host_chosen_.resize(draws.size());
    device_->copy_out(host_chosen_.data(), chosen_.data(), host_chosen_.size() * sizeof(ChosenToken));
    for (std::size_t i = 0; i < draws.size(); ++i) {
      draws[i].sampler->refuse(host_chosen_[i].status);
      tokens_[i] = host_chosen_[i].token;
    }
  }
  return tokens_;
}

template <Model M, Precision P, int Tp, Device D>
bool EngineCore<M, P, Tp, D>::agreed(bool says) {
  if constexpr (Tp > 1) {
    std::int32_t word = says;
    const View<std::int32_t, 1> shared = last_rows_.view_at(0, 1);  // every pass writes it anew
    device_->copy_in(shared.data, &word, sizeof word);
    tp_.ranks().broadcast(shared, 0);
    device_->copy_out(&word, shared.data, sizeof word);
    return word != 0;
  }
  return says;
}

template <Model M, Precision P, int Tp, Device D>
void EngineCore<M, P, Tp, D>::copy_sequence(std::int32_t from, std::int32_t to, std::int32_t first, std::int32_t count) {
  require(from >= 0 && from < options_.sequences && to >= 0 && to < options_.sequences && from != to, "slot ", from, " was to be copied to slot ", to, " in a cache of ",
          options_.sequences, " sequences: they must be two of them");
  require(first >= 0 && count >= 0 && first + count <= options_.capacity, "tokens ", first, " to ", first + count, " were to be copied in a cache of ", options_.capacity);
  for (auto* layers : {&keys_, &values_})
    for (View<T, 4>& layer : *layers) {  // (sequences, G/tp, capacity, D)
      const auto bytes = [&](std::int64_t tokens) { return static_cast<std::size_t>(tokens * layer.extent(3)) * sizeof(T); };
      device_->copy_pieces(&layer(to, 0, first, 0), &layer(from, 0, first, 0), bytes(count), bytes(layer.extent(2)), static_cast<std::size_t>(layer.extent(1)));
    }
}

template <Model M, Precision P, int Tp, Device D>
std::vector<std::int32_t> EngineCore<M, P, Tp, D>::generate(const Prompt& prompt, const Sampling& sampling, const SpecialTokens& special, function_ref<bool(std::int32_t)> on_token) {
  const auto length = static_cast<std::int32_t>(prompt.tokens.size());
  require_room(prompt, options_.capacity);
  Sampler sampler(sampling);
  const AnswerRules rules(sampling, special, M::config.vocab);
  const bool listens = agreed(static_cast<bool>(on_token));  // else no rank need hear of each token what rank 0 says
  std::vector<std::int32_t> generated;
  generated.reserve(static_cast<std::size_t>(std::max(0, std::min(sampling.max_tokens, options_.capacity - length))));
  std::int32_t token = 0, position = 0;
  SequenceStep next{.slot = 0, .first = 0, .prefix = prompt.prefix(), .tokens = prompt.tokens, .positions = prompt.positions};
  while (static_cast<int>(generated.size()) < sampling.max_tokens) {
    const TokenDraw draw{&sampler, generated.size()};
    token = next_tokens({&next, 1}, {&draw, 1}, rules)[0];
    if (rules.is_end(token)) break;
    generated.push_back(token);
    const bool goes_on = !on_token || on_token(token);
    if (listens && !agreed(goes_on)) break;
    const auto last = static_cast<std::int32_t>(generated.size()) - 1;
    if (!prompt.has_room(last, options_.capacity, M::config.context)) break;
    position = prompt.position(last);
    next = {.slot = 0, .first = length + last, .prefix = prompt.prefix(), .tokens = {&token, 1}, .positions = {&position, 1}};
  }
  return generated;
}

template <Model M, Precision P, int Tp, Device D>
View<typename EngineCore<M, P, Tp, D>::T, 2> EngineCore<M, P, Tp, D>::run_rows(const Batch& batch, LayerObserver<T> observe) {
  require(batch.rows <= options_.sequences && batch.length <= options_.capacity, "an Engine made for ", options_.sequences, " sequences of ", options_.capacity,
          " tokens was asked to evaluate ", batch.rows, " rows of ", batch.length);
  rows_.upload(*device_, batch, M::config);
  scoring_.upload(*device_, batch, 0, M::config.vocab);
  const Rows<A> rows = rows_.rows(rotary_.cos(), rotary_.sin());
  transformer_->begin(tp_, 0, rows.rows, rows.length);
  transformer_->forward(tp_, weights_.tensors(), rows, 0, {}, observe);
  return transformer_->normalize_output(tp_, weights_.tensors(), rows, 0);
}

template <Model M, Precision P, int Tp, Device D>
View<const typename EngineCore<M, P, Tp, D>::A, 2> EngineCore<M, P, Tp, D>::logits(const Batch& batch, LayerObserver<T> observe) {
  const View<T, 2> output = run_rows(batch, observe);
  const std::int64_t count = scoring_.count();
  const std::int64_t together = smaller(count, head_chunk(M::config));  // rows whose logits are on the device at once
  const Buffer<T, D> hidden(*device_, count * M::config.hidden, "head");
  const Buffer<A, D> chunk(*device_, together * M::config.vocab, "head");
  Parts parts(*device_, together);
  gather_rows(*device_, hidden.view_at(0, count, M::config.hidden), output, scoring_.scored().rows);
  batch_logits_.resize(static_cast<std::size_t>(count * M::config.vocab));
  for (std::int64_t first = 0; first < count; first += together) {
    const std::int64_t rows = smaller(together, count - first);
    const View<A, 2> logits = chunk.view_at(0, rows, M::config.vocab);
    parts.prepare(*device_, rows);
    compute_logits(logits, parts, hidden.view_at(first * M::config.hidden, rows, M::config.hidden));
    device_->copy_out(batch_logits_.data() + first * M::config.vocab, logits.data, static_cast<std::size_t>(logits.size()) * sizeof(A));
  }
  return {batch_logits_.data(), count, M::config.vocab};
}

template <Model M, Precision P, int Tp, Device D>
LossSummary EngineCore<M, P, Tp, D>::evaluate(const Batch& batch) {
  LossSummary losses;
  const View<T, 2> output = run_rows(batch, {});
  head_->forward(tp_, scoring_.losses(), output, weights_.tensors().embedding, scoring_.scored());
  scoring_.collect(*device_, losses);
  return losses;
}

}  // namespace golem
