// The model against its oracle: loss and every gradient, for each norm, feed-forward and mask, and with recomputation.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"
#include "oracle/transformer.hpp"
#include "train/models.hpp"

using golem::Ffn, golem::Mask, golem::Norm;

namespace {

template <class M>
using Trainer64 = golem::Trainer<M, golem::fp64>;

// Reads the trainer's weights into the oracle, and shakes those that begin at 0 or 1, so that every term counts.
struct Shake : golem::StateVisitor {
  oracle::Glm* model;
  std::uint64_t stream = 0;
  void integer(std::string_view, std::int64_t&) override {}
  void real(std::string_view, double&) override {}
  void text(std::string_view, std::string&) override {}
  void tensor(const golem::TensorState& tensor) override {
    if (tensor.name.starts_with("optimizer.")) return;
    auto* data = static_cast<double*>(tensor.data);
    const std::size_t count = tensor.bytes / sizeof(double);
    if (tensor.shape.size() == 1)
      for (std::size_t i = 0; i < count; ++i) data[i] += 0.3 * golem::Random{5, stream}.normal(i);
    ++stream;
    model->weights[tensor.name].assign(data, data + count);
  }
  bool loading() const override { return true; }
};

template <class M>
oracle::Glm shaken(Trainer64<M>& trainer) {
  oracle::Glm model{.config = M::config, .weights = {}};
  Shake shake;
  shake.model = &model;
  trainer.visit_state(shake);
  return model;
}

// Gradient of the trainer by tensor name.
template <class M>
std::map<std::string, std::vector<double>> gradients(const Trainer64<M>& trainer) {
  std::map<std::string, std::vector<double>> by_name;
  for (const golem::FlatTensor& tensor : trainer.state().layout().tensors()) {
    const double* data = trainer.gradients().data + tensor.offset;
    by_name[golem::full_name(tensor.parameter, tensor.layer)].assign(data, data + tensor.size);
  }
  return by_name;
}

}  // namespace

TEMPLATE_TEST_CASE("loss and gradients are the oracle's", "", (models::Small<Norm::deep>), (models::Small<Norm::post>), (models::Small<Norm::pre>),
                   (models::Small<Norm::deep, Ffn::gelu>), (models::Small<Norm::deep, Ffn::geglu, Mask::causal>),
                   (models::Small<Norm::deep, Ffn::geglu, Mask::bidirectional>), models::Grouped) {
  using M = TestType;
  golem::cpu::Device device({.threads = 2});
  Trainer64<M> trainer(device, {.batch = {.full = 2}, .micro_batch = 2});
  oracle::Glm model = shaken(trainer);
  const golem::Batch batch = models::random_batch(2, 13, M::config.vocab, 3);

  const double expected = model.loss(batch);
  CHECK(trainer.evaluate(batch).loss() == Approx(expected).epsilon(1e-12));

  golem::LossSummary losses;
  trainer.accumulate(batch, 2, losses);
  CHECK(losses.loss() == Approx(expected).epsilon(1e-12));
  double norm = 0;
  for (const auto& [name, gradient] : gradients(trainer))
    for (const double g : gradient) norm += g * g;
  norm = std::sqrt(norm);

  // A few elements of each tensor by central differences.
  for (const auto& [name, gradient] : gradients(trainer)) {
    const golem::Random random{11, golem::stream_of(name)};
    for (std::uint64_t k = 0; k < 4; ++k) {
      const std::size_t i = random.below(k, gradient.size());
      double& weight = model.weights[name][i];
      const double h = 1e-5, kept = weight;
      weight = kept + h;
      const double up = model.loss(batch);
      weight = kept - h;
      const double down = model.loss(batch);
      weight = kept;
      INFO(name << " [" << i << "]");
      CHECK(gradient[i] == Approx((up - down) / (2 * h)).epsilon(1e-5).margin(1e-8 * norm));
    }
  }
}

TEST_CASE("recomputing a block gives the same gradients, bit for bit") {
  using M = models::Small<Norm::deep>;
  golem::cpu::Device device({.threads = 2});
  Trainer64<M> keeps(device, {.batch = {.full = 2}, .micro_batch = 2}), recomputes(device, {.batch = {.full = 2}, .micro_batch = 2, .recompute = golem::Recompute::block});
  const golem::Batch batch = models::random_batch(2, 17, M::config.vocab, 4);
  golem::LossSummary losses;
  keeps.accumulate(batch, 2, losses);
  recomputes.accumulate(batch, 2, losses);
  for (std::int64_t i = 0; i < keeps.gradients().size(); ++i) REQUIRE(keeps.gradients().data[i] == recomputes.gradients().data[i]);
}

TEST_CASE("gradients accumulate over micro-batches to those of the whole step") {
  using M = models::Small<Norm::deep>;
  golem::cpu::Device device({.threads = 1});
  Trainer64<M> whole(device, {.batch = {.full = 4}, .micro_batch = 4}), pieces(device, {.batch = {.full = 4}, .micro_batch = 1});
  const golem::Batch batch = models::random_batch(4, 11, M::config.vocab, 9);
  golem::LossSummary losses;
  whole.accumulate(batch, 4, losses);
  for (int r = 0; r < 4; ++r) {
    golem::Batch row{.rows = 1, .length = batch.length};
    const auto begin = r * batch.length, end = begin + batch.length;
    row.tokens.assign(batch.tokens.begin() + begin, batch.tokens.begin() + end);
    row.positions.assign(batch.positions.begin() + begin, batch.positions.begin() + end);
    row.targets.assign(batch.targets.begin() + begin, batch.targets.begin() + end);
    row.windows.assign(batch.windows.begin() + batch.first_window[static_cast<std::size_t>(r)], batch.windows.begin() + batch.first_window[static_cast<std::size_t>(r) + 1]);
    row.first_window = {0, static_cast<std::int32_t>(row.windows.size())};
    row.tasks = {batch.tasks[static_cast<std::size_t>(r)]};
    pieces.accumulate(row, 4, losses);
  }
  for (std::int64_t i = 0; i < whole.gradients().size(); ++i) CHECK(whole.gradients().data[i] == Approx(pieces.gradients().data[i]).epsilon(1e-10).margin(1e-14));
}
