// An engine on several tensor ranks computes what one rank computes, plain and quantised, and its ranks stay together.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"
#include "infer/random_weights.hpp"
#include "train/models.hpp"
#include "worse.hpp"

using namespace golem;
using tests::QuantizedWeights, tests::RandomWeights, tests::special, tests::whole_row;

namespace {

struct shared {  // among ranks, and two of its heads share each key
  static constexpr ModelConfig config{.layers = 2, .hidden = 64, .heads = 8, .kv_heads = 4, .ffn = 128, .vocab = 44, .context = 24, .embedding_std = 0.5};
};

/// What an engine answers, by one rank or by all.
struct Answers {
  std::vector<std::vector<double>> logits;  // of each pass, all rows
  std::vector<std::int32_t> greedy, sampled;
  std::vector<std::vector<std::int32_t>> batch, beams;
  double loss = 0;
};

template <class EngineType>
Answers answers_of(EngineType& engine) {
  Answers out;
  const auto keep = [&](const auto& logits) { out.logits.emplace_back(logits.data, logits.data + logits.size()); };
  const Prompt a = make_prompt({1, 2, special.mask, 4}, special), b = make_prompt({5, 6, 7, 8, 9, 10, 11}, special);
  const SequenceStep steps[]{{.slot = 1, .first = 0, .prefix = a.prefix(), .tokens = a.tokens, .positions = a.positions},
                             {.slot = 0, .first = 0, .prefix = b.prefix(), .tokens = b.tokens, .positions = b.positions}};
  keep(engine.forward(steps));
  const std::int32_t token = 43, position = a.position(0);
  const SequenceStep next{.slot = 1, .first = static_cast<std::int32_t>(a.tokens.size()), .prefix = a.prefix(), .tokens = {&token, 1}, .positions = {&position, 1}};
  keep(engine.forward({&next, 1}));
  Sampling sampling = greedy;
  sampling.max_tokens = sampling.min_tokens = 8;
  out.greedy = engine.generate(a, sampling, special);
  sampling.top_k = 0, sampling.top_p = 0.9f;
  out.sampled = engine.generate(b, sampling, special);
  const Prompt both[]{a, b, a};
  out.batch = generate_batch(engine, std::span<const Prompt>(both), sampling, special);
  for (const Beam& beam : generate_beams(engine, b, {.beams = 2, .no_repeat_ngram = 2, .min_tokens = 4, .max_tokens = 8}, special)) out.beams.push_back(beam.tokens);
  out.loss = engine.evaluate(models::random_batch(2, 15, shared::config.vocab, 8)).loss();
  return out;
}

/// The answers of each of Tp ranks, threads.
template <class P, int Tp>
std::vector<Answers> on_ranks(const TensorSource& weights) {
  std::vector<Answers> answers(Tp);
  std::mutex mutex;
  run_world({.tp = Tp}, [&](World& world) {
    cpu::Device device({.threads = 1});
    Engine<shared, P, Layout{.tp = Tp}> engine(device, world, {.sequences = 2});
    engine.load_weights(weights);
    Answers mine = answers_of(engine);
    const std::lock_guard lock(mutex);
    answers[static_cast<std::size_t>(world.rank())] = std::move(mine);
  });
  return answers;
}

template <class P>
Answers on_one_rank(const TensorSource& weights) {
  cpu::Device device({.threads = 1});
  Engine<shared, P> engine(device, {.sequences = 2});
  engine.load_weights(weights);
  return answers_of(engine);
}

void check_near(const Answers& found, const Answers& expected, double tolerance) {
  REQUIRE(found.logits.size() == expected.logits.size());
  for (std::size_t pass = 0; pass < expected.logits.size(); ++pass) {
    REQUIRE(found.logits[pass].size() == expected.logits[pass].size());
    double largest = 0, error = 0;
    for (std::size_t i = 0; i < expected.logits[pass].size(); ++i) {
      largest = std::max(largest, std::abs(expected.logits[pass][i]));
      error = tests::worse(error, std::abs(found.logits[pass][i] - expected.logits[pass][i]));
    }
    CHECK(error <= tolerance * largest);
  }
  CHECK(found.loss == Approx(expected.loss).epsilon(tolerance));
  CHECK(found.greedy == expected.greedy);
  CHECK(found.sampled == expected.sampled);
  CHECK(found.batch == expected.batch);
  CHECK(found.beams.size() == 2);
  CHECK(found.beams == expected.beams);
}

/// All ranks have the same bits, and these are near one rank's.
void check_alike(const std::vector<Answers>& ranks, const Answers& one, double tolerance) {
  for (const Answers& rank : ranks) {
    CHECK(rank.logits == ranks[0].logits);
    check_near(rank, one, tolerance);
  }
}

}  // namespace

TEST_CASE("two and four ranks compute one rank's logits, tokens and losses") {
  const RandomWeights<shared> weights;
  const Answers one = on_one_rank<fp64>(weights);
  check_alike(on_ranks<fp64, 2>(weights), one, 1e-12);
  check_alike(on_ranks<fp64, 4>(weights), one, 1e-12);
  const Answers single = on_one_rank<fp32>(weights);
  check_alike(on_ranks<fp32, 2>(weights), single, 1e-5);
  check_alike(on_ranks<fp32, 4>(weights), single, 1e-5);
}

TEST_CASE("stored INT8 and INT4 weights are cut among ranks as they are") {
  constexpr Quant int8{.bits = 8}, int4{.bits = 4}, groups{.bits = 4, .group = 32};
  const QuantizedWeights<shared, int8> weights8;
  check_alike(on_ranks<quantized<int8, fp64>, 2>(weights8), on_one_rank<quantized<int8, fp64>>(weights8), 1e-12);
  const QuantizedWeights<shared, int4> weights4;
  check_alike(on_ranks<quantized<int4>, 4>(weights4), on_one_rank<quantized<int4>>(weights4), 1e-5);
  const QuantizedWeights<shared, groups> grouped;
  check_alike(on_ranks<quantized<groups>, 2>(grouped), on_one_rank<quantized<groups>>(grouped), 1e-5);
  CHECK_THROWS_WITH((on_ranks<quantized<groups>, 4>(grouped)), Catch::Matchers::Contains("would begin within a group"));
}

TEST_CASE("weights quantised on the way are the same for any ranks, where no group crosses their border") {
  constexpr Quant groups{.bits = 4, .group = 32};
  const RandomWeights<shared> weights;
  check_alike(on_ranks<quantized<groups>, 2>(weights), on_one_rank<quantized<groups>>(weights), 1e-5);
}

TEST_CASE("rank 0's word ends an answer on all ranks") {
  const RandomWeights<shared> weights;
  run_world({.tp = 2}, [&](World& world) {
    cpu::Device device({.threads = 1});
    Engine<shared, fp64, Layout{.tp = 2}> engine(device, world);
    engine.load_weights(weights);
    const Sampling sampling{.max_tokens = 9, .min_tokens = 9};
    int seen = 0;
    const auto stop = [&](std::int32_t) { return ++seen < (world.rank() == 0 ? 3 : 1); };
    const std::size_t made = engine.generate(make_prompt({1, 2, 3}, special), sampling, special, stop).size();
    require(made == 3, "rank ", world.rank(), " made ", made, " tokens");
  });
}

TEST_CASE("an engine in another world is a sentence") {
  CHECK_THROWS_WITH(run_world({.tp = 2, .dp = 2},
                              [&](World& world) {
                                cpu::Device device({.threads = 1});
                                Engine<shared, fp64, Layout{.tp = 2}> engine(device, world);
                              }),
                    Catch::Matchers::Contains("make the World with the same Layout"));
}

TEST_CASE("ranks that make different engines are told apart before they compute anything") {
  const auto disagreement = [](auto other) {
    try {
      run_world({.tp = 2}, [&](World& world) {
        cpu::Device device({.threads = 1});
        if (world.rank() == 1) other(device, world);
        else Engine<shared, fp32, Layout{.tp = 2}>(device, world, {.sequences = 2});
      });
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(disagreement([](cpu::Device& device, World& world) { Engine<shared, fp32, Layout{.tp = 2}>(device, world, {.sequences = 2, .capacity = shared::config.context}); }) == "");
  CHECK(disagreement([](cpu::Device& device, World& world) { Engine<shared, fp32, Layout{.tp = 2}>(device, world, {.sequences = 3}); }) ==
        "rank 1 does not agree with rank 0 on the engine's options: 'sequences 2, capacity 24' on rank 0, 'sequences 3, capacity 24' on rank 1: start all ranks alike");
  CHECK_THAT(disagreement([](cpu::Device& device, World& world) { Engine<shared, quantized<Quant{.bits = 4, .group = 32}>, Layout{.tp = 2}>(device, world, {.sequences = 2}); }),
             Catch::Matchers::StartsWith("rank 1 does not agree with rank 0 on the precision: 'fp32 (f32)' on rank 0, 'int4 (f32), groups of 32' on rank 1"));
}
