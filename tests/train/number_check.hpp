// What TrainingConfig::check_numbers must find, on any engine: numbers that are none in weights, blocks and gradients, and nothing else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "golem/config/parameters.hpp"
#include "golem/train/trainer.hpp"
#include "train/models.hpp"

namespace number_check {

using Catch::Matchers::Contains;
using M = models::Small<golem::Norm::deep>;

constexpr golem::TrainingConfig checking{.batch = {.full = 4}, .micro_batch = 2, .check_numbers = true};

struct Series {
  int next = 0;
  golem::Batch batch;
  const golem::Batch& operator()(int rows) {
    batch = models::random_batch(rows, 11, M::config.vocab, static_cast<std::uint64_t>(next++));
    return batch;
  }
};

/// Makes elements [first, last) of a weight what one asks for.
template <class TrainerType>
void spoil(TrainerType& trainer, std::string_view name, std::int64_t first, std::int64_t last, float value) {
  for (const golem::FlatTensor& tensor : trainer.state().layout().tensors()) {
    if (golem::full_name(tensor.parameter, tensor.layer) != name) continue;
    const std::vector<float> values(static_cast<std::size_t>(last - first), value);
    trainer.device().copy_in(trainer.state().weights().data + tensor.offset + first, values.data(), values.size() * sizeof(float));
    return;
  }
  golem::fail("the model has no weight '", name, "'");
}

template <class D>
using Checked = golem::Trainer<M, golem::fp32, golem::Layout{}, D>;

template <class D>
void find_all(D& device) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  {
    Checked<D> plain(device, {.batch = {.full = 4}, .micro_batch = 2}), trainer(device, checking);
    Series a, b;
    for (int i = 0; i < 2; ++i) CHECK(trainer.step(a).loss == plain.step(b).loss);  // it changes nothing
    spoil(trainer, "transformer.layers.1.mlp.dense_4h_to_h.bias", 3, 4, nan);
    CHECK_THROWS_WITH(trainer.step(a), Contains("before step 3: weight 'transformer.layers.1.mlp.dense_4h_to_h.bias' has a NaN at element 3 of 24: go back"));
    spoil(plain, "transformer.layers.1.mlp.dense_4h_to_h.bias", 3, 4, nan);
    CHECK_NOTHROW(plain.step(b));  // off unless asked for
  }
  {
    Checked<D> trainer(device, checking);
    Series series;
    spoil(trainer, "transformer.layers.1.attention.dense.weight", 0, 24 * 24, 3e38f);  // finite, and so are its inputs; not its outputs
    CHECK_THROWS_WITH(trainer.step(series), Contains("in step 1, in forward of micro-batch 0: the output of block 1 has a") && Contains("lower the learning rate"));
    CHECK_THROWS_WITH(trainer.evaluate(series(2)), Contains("in evaluation: the output of block 1 has a"));
    spoil(trainer, "transformer.layers.0.attention.query_key_value.bias", 0, 72, 3e38f);  // turned by a rotation to 4e38, which is too large
    CHECK_THROWS_WITH(trainer.step(series), Contains("in forward of micro-batch 0: [q k v] of block 0 has a"));
  }
  {
    Checked<D> trainer(device, checking);
    Series series;
    int calls = 0;
    const auto loss = [&](golem::View<float, 2> logits, golem::View<const std::int32_t, 1>, golem::View<float, 1> losses) {  // the gradient takes the place of the logits
      device.clear(logits.data, static_cast<std::size_t>(logits.size()) * sizeof(float));
      device.clear(losses.data, static_cast<std::size_t>(losses.size()) * sizeof(float));
      if (++calls == 2) device.copy_in(logits.data + 5, &nan, sizeof nan);
    };
    trainer.set_own_loss(loss);
    CHECK_THROWS_WITH(trainer.step(series), Contains("in step 1, in backward of micro-batch 1: the gradient of the final norm's output has a NaN at element"));
  }
}

/// Under a loss scale an overflow of the gradients is no error until the scale can fall no further.
template <class D>
void leave_overflows_to_the_scaler(D& device) {
  golem::TrainingConfig config = checking;
  config.loss_scale = {.initial = 1e9, .min = 1, .window = 100, .hysteresis = 1};
  golem::Trainer<M, golem::fp16_mixed, golem::Layout{}, D> trainer(device, config);
  Series series;
  CHECK(trainer.step(series).skipped);
  config.loss_scale.min = 1e9;
  golem::Trainer<M, golem::fp16_mixed, golem::Layout{}, D> at_the_end(device, config);
  CHECK_THROWS_WITH(at_the_end.step(series), Contains("in step 1, in backward of micro-batch 0: the gradient of ") && Contains("a wider type"));
}

}  // namespace number_check
