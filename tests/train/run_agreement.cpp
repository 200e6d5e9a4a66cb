// Trainers that should not train together, and one whose data do not come: the run ends with one sentence, which says which rank, and what.
// SPDX-License-Identifier: Apache-2.0
#include "golem/train/run_agreement.hpp"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "catch.hpp"
#include "golem/comm/run_terms.hpp"
#include "golem/golem.hpp"
#include "train/models.hpp"

using namespace golem;
using Catch::Matchers::Contains;
using Catch::Matchers::StartsWith;

namespace {

using M = models::Small<Norm::deep>;
struct DroppingATenth {
  static constexpr ModelConfig config = M::config.with([](auto& c) { c.dropout = 0.1; });
};
struct Deeper {
  static constexpr ModelConfig config = M::config.with([](auto& c) { c.layers = 3; });
};

constexpr TrainingConfig training{.learning_rate = {.peak = 1e-2, .min = 1e-3, .warmup_samples = 8, .decay_samples = 60}, .batch = {.full = 4}, .micro_batch = 1};

template <class Body>
std::string error_of(int ranks, const Body& body, const RanksOptions& options = {}) {
  try {
    run_ranks(ranks, body, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// What a run of two ranks ends with, where rank 1 differs as told; no rank may come to a step.
template <class Model, class P>
std::string disagreement(const Layout& first, const Layout& other, const TrainingConfig& config = training) {
  std::atomic<int> made{0};
  const std::string why = error_of(2, [&](Group all) {
    const bool odd = all.rank() == 1;
    World world(std::move(all), odd ? other : first);
    cpu::Device device({.threads = 1});
    if (odd) TrainerCore<Model, P, 1, cpu::Device>(device, config, world), ++made;
    else TrainerCore<M, fp32, 1, cpu::Device>(device, training, world), ++made;
  });
  CHECK((why == "" ? made == 2 : made == 0));
  return why;
}

}  // namespace

TEST_CASE("ranks that differ in model, precision, layout or configuration are refused before the first step") {
  const Layout data{.dp = 2}, stages{.pp = 2};
  CHECK(disagreement<M, fp32>(data, data) == "");
  CHECK_THAT((disagreement<Deeper, fp32>(data, data)), StartsWith("rank 1 does not agree with rank 0 on the model: 'layers 2, hidden 24") && Contains("'layers 3, hidden 24"));
  CHECK_THAT((disagreement<DroppingATenth, fp32>(data, data)), StartsWith("rank 1 does not agree with rank 0 on the model: ") && Contains("dropout 0,") && Contains("dropout 0.1,"));
  CHECK((disagreement<M, bf16_mixed>(data, data)) == "rank 1 does not agree with rank 0 on the precision: 'fp32 (f32, master f32, gradients f32)' on rank 0, "
                                                     "'bf16_mixed (bf16, master f32, gradients f32)' on rank 1: start all ranks alike");
  CHECK((disagreement<M, fp32>(data, stages)) == "rank 1 does not agree with rank 0 on the layout: 'tp 1, pp 1, dp 2' on rank 0, 'tp 1, pp 2, dp 1' on rank 1: start all ranks alike");
  TrainingConfig seeded = training;
  seeded.seed = training.seed + 1;
  CHECK_THAT((disagreement<M, fp32>(data, data, seeded)), StartsWith("rank 1 does not agree with rank 0 on the training configuration: 'seed "));
}

TEST_CASE("sequence parallelism, low gradients and golem's version are part of what ranks agree on") {
  const auto differ = [](RunTerms one, RunTerms other) {
    return error_of(3, [&](Group all) {
      World world(all, {.dp = 3});
      agree(world, all.rank() == 2 ? other : one);
    });
  };
  const RunTerms terms = terms_of<M, fp16_mixed>({.tp = 2}, training);
  CHECK(terms.version == sentence(GOLEM_VERSION_MAJOR, '.', GOLEM_VERSION_MINOR, '.', GOLEM_VERSION_PATCH));
  RunTerms newer = terms;
  newer.version = "99.0.1";
  CHECK(differ(terms, terms) == "");
  CHECK(differ(terms, newer) == "rank 2 does not agree with rank 0 on golem's version: '" + terms.version + "' on rank 0, '99.0.1' on rank 2: start all ranks alike");
  CHECK_THAT(differ(terms, terms_of<M, fp16_mixed>({.tp = 2, .sequence_parallel = true}, training)), StartsWith("rank 2 does not agree with rank 0 on the layout: "));
  CHECK_THAT(differ(terms_of<M, low_gradients<fp16_mixed>>({.tp = 2}, training), terms_of<M, low_gradients<bf16_mixed>>({.tp = 2}, training)),
             StartsWith("rank 2 does not agree with rank 0 on the precision: "));
}

TEST_CASE("a loader that stands still ends the run within the deadline, and the sentence names its rank, its step and what it did") {
  const RanksOptions quick{.deadline = 0.8, .grace = 30, .when_stuck = {}};
  for (const Layout& layout : {Layout{.dp = 2}, Layout{.pp = 2, .dp = 2}}) {
    const double start = steady_seconds();
    constexpr int slow = 1;  // the reader of the second data rank
    const std::string why = error_of(
        layout.ranks(),
        [&](Group all) {
          World world(std::move(all), layout);
          cpu::Device device({.threads = 1});
          TrainerCore<M, fp32, 1, cpu::Device> trainer(device, training, world);
          Batch batch;
          int asked = 0;
          const auto source = [&](int rows) -> const Batch& {
            if (world.rank() == slow && ++asked == 4) std::this_thread::sleep_for(std::chrono::milliseconds(1800));  // in the second micro-batch of step 2
            batch = models::random_batch(rows, 11, M::config.vocab, static_cast<std::uint64_t>(asked));
            return batch;
          };
          for (int i = 0; i < 3; ++i) trainer.step(source);
        },
        quick);
    INFO(why);
    CHECK_THAT(why, StartsWith(sentence("rank ", slow, " of ", layout.ranks(), " failed in step 2, in reading rows: it has not been heard of for ")));
    CHECK_THAT(why, Contains("waited in "));
    CHECK(steady_seconds() - start < 10);
  }
}
