// The engine against the trainer and the oracle: cached generation sees what whole rows see.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "golem/golem.hpp"
#include "infer/random_weights.hpp"
#include "train/memory_state.hpp"
#include "train/models.hpp"

using namespace golem;

namespace {

using tests::RandomWeights, tests::special, tests::whole_row;

/// One with random weights, on one thread.
struct SmallEngine {
  using M = models::Small<Norm::deep>;
  cpu::Device device = cpu::Device({.threads = 1});
  Engine<M, fp64> engine = Engine<M, fp64>(device);

  SmallEngine() { engine.load_weights(RandomWeights<M>()); }
};

}  // namespace

TEMPLATE_TEST_CASE("greedy generation takes the oracle's argmax at every step", "", (models::Small<Norm::deep>), (models::Small<Norm::pre>), (models::Small<Norm::deep, Ffn::geglu, Mask::causal>), models::Grouped) {
  using M = TestType;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp64> engine(device);
  engine.load_weights(weights);
  CHECK(device.memory().of("key-value cache") == plan_inference<M, fp64>().key_value_cache);
  for (const auto& text : {std::vector<std::int32_t>{3, 4, special.mask, 6, 7, 8}, std::vector<std::int32_t>{9, 2, 2, 5}}) {
    const Prompt prompt = make_prompt(text, special);
    Sampling sampling = greedy;
    sampling.max_tokens = 8;
    const std::vector<std::int32_t> generated = engine.generate(prompt, sampling, special);
    std::vector<std::int32_t> so_far;
    for (std::size_t i = 0; i <= generated.size() && i < 8; ++i) {
      const auto logits = weights.model.logits(weights.model.hidden(whole_row(prompt, so_far), 0).back());
      const auto best = static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (i == generated.size()) {
        CHECK((best == special.eop || best == special.eos));
        break;
      }
      REQUIRE(generated[i] == best);
      so_far.push_back(best);
    }
  }
}

TEST_CASE("several sequences in one pass get the logits that each gets alone") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp64> engine(device, {.sequences = 3});
  engine.load_weights(weights);
  const Prompt a = make_prompt({1, 2, special.mask, 4}, special), b = make_prompt({5, 6, 7, 8, 9, 10, 11}, special);
  const SequenceStep steps[]{{.slot = 2, .first = 0, .prefix = a.prefix(), .tokens = a.tokens, .positions = a.positions},
                             {.slot = 0, .first = 0, .prefix = b.prefix(), .tokens = b.tokens, .positions = b.positions}};
  const auto logits = engine.forward(steps);
  for (int s = 0; s < 2; ++s) {
    const auto expected = weights.model.logits(weights.model.hidden(whole_row(s ? b : a, {}), 0).back());
    for (std::size_t v = 0; v < expected.size(); ++v) CHECK(logits(s, v) == Approx(expected[v]).epsilon(1e-10).margin(1e-10));
  }
  const std::int32_t token = 7, position = a.position(0);
  const SequenceStep next{.slot = 2, .first = static_cast<std::int32_t>(a.tokens.size()), .prefix = a.prefix(), .tokens = {&token, 1}, .positions = {&position, 1}};
  const auto after = engine.forward({&next, 1});
  const auto expected = weights.model.logits(weights.model.hidden(whole_row(a, {token}), 0).back());
  for (std::size_t v = 0; v < expected.size(); ++v) CHECK(after(0, v) == Approx(expected[v]).epsilon(1e-10).margin(1e-10));
}

TEST_CASE("beams that take over each other's cache find what a search over whole rows finds") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp64> engine(device, {.sequences = 4});
  engine.load_weights(weights);
  const std::int32_t ends[]{special.eop, special.eos};
  for (const auto& text : {std::vector<std::int32_t>{3, 4, special.mask, 6, 7}, std::vector<std::int32_t>{9, 2, 5}}) {
    const Prompt prompt = make_prompt(text, special);
    const BeamSearchOptions options{.beams = 3, .no_repeat_ngram = 2, .min_tokens = 3, .max_tokens = 6, .choice = BeamSearchOptions::Choice::sampled};
    const std::vector<Beam> found = generate_beams(engine, prompt, options, special);
    BeamSearch search(options, prompt.tokens, ends);
    for (int step = 0; step < 6 && !search.done(); ++step) {
      std::vector<double> rows;
      for (const auto& beam : search.live()) {
        const std::vector<std::int32_t> generated(beam.tokens.begin() + static_cast<std::ptrdiff_t>(prompt.tokens.size()), beam.tokens.end());
        for (const double logit : weights.model.logits(weights.model.hidden(whole_row(prompt, generated), 0).back())) rows.push_back(logit);
      }
      search.advance(View<const double, 2>(rows.data(), static_cast<std::int64_t>(search.live().size()), M::config.vocab));
    }
    const std::vector<Beam> expected = search.finish();
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      CHECK(found[i].tokens == expected[i].tokens);
      CHECK(found[i].score == Approx(expected[i].score).epsilon(1e-9));
    }
  }
  CHECK_THROWS_WITH(engine.copy_sequence(1, 1, 0, 1), Catch::Matchers::Contains("two of them"));
  CHECK_THROWS_WITH(engine.copy_sequence(0, 1, 20, 5), Catch::Matchers::Contains("in a cache of 24"));
}

TEST_CASE("whole rows score the same in the engine, the oracle and the trainer") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp64> engine(device, {.sequences = 2});
  engine.load_weights(weights);
  const Batch batch = models::random_batch(2, 15, M::config.vocab, 8);
  CHECK(engine.evaluate(batch).loss() == Approx(weights.model.loss(batch)).epsilon(1e-11));
}

TEST_CASE("quantised engines stay near the exact one, 8 bits nearer than 4") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp32> exact(device, {.sequences = 2});
  Engine<M, quantized<Quant{.bits = 8}>> int8(device, {.sequences = 2});
  Engine<M, quantized<Quant{.bits = 4, .group = 32}>> int4(device, {.sequences = 2});
  exact.load_weights(weights), int8.load_weights(weights), int4.load_weights(weights);
  const Batch batch = models::random_batch(2, 15, M::config.vocab, 8);
  const double loss = exact.evaluate(batch).loss();
  const double error8 = std::abs(int8.evaluate(batch).loss() - loss), error4 = std::abs(int4.evaluate(batch).loss() - loss);
  CHECK(error8 > 0);
  CHECK(error8 < 0.02 * loss);
  CHECK(error4 > error8);
  CHECK(error4 < 0.3 * loss);
}

TEST_CASE_METHOD(SmallEngine, "a fixed number of blanks is filled from left to right, each seeing the answers before it") {
  Sampling sampling = greedy;
  sampling.max_tokens = 2, sampling.min_tokens = 1;
  const Filled filled = fill_blanks(engine, {1, special.mask, 2, 3, special.mask, 4, special.gmask}, sampling, special);
  REQUIRE(filled.answers.size() == 2);
  std::vector<std::int32_t> expected{1};
  expected.insert(expected.end(), filled.answers[0].begin(), filled.answers[0].end());
  expected.insert(expected.end(), {2, 3});
  std::vector<std::int32_t> second_prompt = expected;
  expected.insert(expected.end(), filled.answers[1].begin(), filled.answers[1].end());
  expected.insert(expected.end(), {4, special.gmask});
  CHECK(filled.text == expected);
  second_prompt.insert(second_prompt.end(), {special.mask, 4, special.gmask});
  CHECK(engine.generate(make_prompt(second_prompt, special), sampling, special) == filled.answers[1]);
}

TEST_CASE_METHOD(SmallEngine, "the stream of tokens is the answer, and may be ended from outside") {
  Sampling sampling{.max_tokens = 6, .min_tokens = 6};
  std::vector<std::int32_t> seen;
  const auto all = engine.generate(make_prompt({1, 2, 3}, special), sampling, special, [&](std::int32_t token) { return seen.push_back(token), true; });
  CHECK(seen == all);
  CHECK(all.size() == 6);
  CHECK(engine.generate(make_prompt({1, 2, 3}, special), sampling, special, [&](std::int32_t) { return false; }).size() == 1);
}

TEST_CASE("prompts that are answered together get the answers that each gets alone, in whatever slot and turn") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 2});
  Engine<M, fp64> one(device), two(device, {.sequences = 2, .capacity = 16}), many(device, {.sequences = 8});
  for (Engine<M, fp64>* engine : {&one, &two, &many}) engine->load_weights(weights);
  std::vector<Prompt> prompts;
  for (const auto& text : {std::vector<std::int32_t>{3, 4, special.mask, 6, 7, 8}, {9, 2, 2, 5}, {1}, {special.mask, 5}, {7, 7, 7, 7, 7, 7, 7, 7}, {2, special.gmask}}) prompts.push_back(make_prompt(text, special));
  const std::int32_t invalid[]{4, 5};
  for (const Sampling& sampling : {Sampling{.top_k = 1, .max_tokens = 7}, Sampling{.max_tokens = 5, .min_tokens = 2, .answer = 40, .invalid = invalid}, Sampling{.temperature = 3, .max_tokens = 100}}) {
    std::vector<std::vector<std::int32_t>> alone, streamed(prompts.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      Sampling own = sampling;
      own.answer += i;
      alone.push_back(one.generate(prompts[i], own, special));
    }
    const auto collect = [&](std::size_t prompt, std::int32_t token) { streamed[prompt].push_back(token); };
    CHECK(generate_batch(many, prompts, sampling, special, collect) == alone);
    CHECK(streamed == alone);
    std::vector<std::vector<std::int32_t>> short_of_room = generate_batch(two, prompts, sampling, special);
    for (std::size_t i = 0; i < prompts.size(); ++i) {  // the cache of 16 may end sooner
      REQUIRE(short_of_room[i].size() <= alone[i].size());
      alone[i].resize(std::min<std::size_t>(alone[i].size(), 16 - prompts[i].tokens.size() + 1));
      CHECK(short_of_room[i] == alone[i]);
    }
  }
  CHECK(generate_batch(two, {}, greedy, special).empty());
  CHECK(generate_batch(two, prompts, {.max_tokens = 0}, special) == std::vector<std::vector<std::int32_t>>(prompts.size()));
  int drawn = 0;
  const auto count = [&](std::size_t, std::int32_t) { ++drawn; };
  prompts.push_back(make_prompt({1, 99}, special));
  CHECK_THROWS_WITH(generate_batch(two, prompts, greedy, special, count), Catch::Matchers::Contains("token 99 is not in the model's vocabulary"));
  prompts.pop_back();
  SpecialTokens foreign = special;
  foreign.eop = 99;
  CHECK_THROWS_WITH(generate_batch(two, prompts, {.min_tokens = 1}, foreign, count), Catch::Matchers::Contains("token 99 is banned"));
  prompts.push_back(make_prompt(std::vector<std::int32_t>(15, 1), special));
  CHECK_THROWS_WITH(generate_batch(two, prompts, greedy, special, count), Catch::Matchers::Contains("a prompt of 17 tokens leaves no room"));
  CHECK(drawn == 0);
}

TEST_CASE_METHOD(SmallEngine, "one prompt twice: the same answer by the same number of the seed, another by another; greedy takes no notice") {
  const Prompt prompt = make_prompt({1, 2, 3}, special);
  const auto answer = [&](Sampling sampling, std::uint64_t number) {
    sampling.answer = number, sampling.max_tokens = sampling.min_tokens = 12;
    return engine.generate(prompt, sampling, special);
  };
  for (const SamplingRules rules : {SamplingRules::golem, SamplingRules::original}) {
    const auto first = answer({.rules = rules}, 0);
    CHECK(answer({.rules = rules}, 1) != first);
    CHECK(answer({.rules = rules}, 0) == first);
  }
  CHECK(answer(greedy, 1) == answer(greedy, 0));
}

TEST_CASE_METHOD(SmallEngine, "losses of tokens are those of the last evaluate, whatever was asked for since") {
  engine.evaluate(models::random_batch(1, 9, M::config.vocab, 3));
  const std::vector<double> losses = engine.token_losses();
  engine.logits(models::random_batch(1, 15, M::config.vocab, 4));
  CHECK(engine.token_losses() == losses);
}

TEST_CASE("the cache's end, prompts too long and foreign tokens are sentences or ends, never overruns") {
  using M = models::Small<Norm::deep>;
  const RandomWeights<M> weights;
  cpu::Device device({.threads = 1});
  Engine<M, fp64> engine(device, {.capacity = 10});
  engine.load_weights(weights);
  CHECK_THROWS_WITH(engine.generate(make_prompt(std::vector<std::int32_t>(9, 1), special), greedy, special), Catch::Matchers::Contains("shorten the text"));
  CHECK_THROWS_WITH(engine.generate(make_prompt({1, 99}, special), greedy, special), Catch::Matchers::Contains("another tokenizer"));
  Sampling sampling{.max_tokens = 100, .min_tokens = 100};
  CHECK(engine.generate(make_prompt({1, 2, 3, 4, 5}, special), sampling, special).size() == 4);  // 5 + [gMASK] + sop = 7 of 10
  CHECK_THROWS_WITH((Engine<M, fp64>(device, {.capacity = 25})), Catch::Matchers::Contains("the model's context"));
  static_assert(!std::is_move_constructible_v<Engine<M, fp64>>);

  Engine<M, fp64> two(device, {.sequences = 2});
  const std::vector<std::int32_t> tokens{1, 2, 3}, positions{0, 1, 2};
  const SequenceStep twice[]{{.slot = 1, .tokens = tokens, .positions = positions}, {.slot = 1, .tokens = tokens, .positions = positions}};
  CHECK_THROWS_WITH(two.forward(twice), Catch::Matchers::Contains("slot 1 was named by two sequences"));
  const SequenceStep short_of_positions{.tokens = tokens, .positions = std::span(positions).first(1)};
  CHECK_THROWS_WITH(two.forward({&short_of_positions, 1}), Catch::Matchers::Contains("3 new tokens and 1 positions"));
  const SequenceStep nothing{}, ahead{.prefix = 4, .tokens = tokens, .positions = positions};
  CHECK_THROWS_WITH(two.forward({&nothing, 1}), Catch::Matchers::Contains("without a new token"));
  CHECK_THROWS_WITH(two.forward({&ahead, 1}), Catch::Matchers::Contains("a prefix of 4 tokens, which all of them see, was named for a sequence of 3: give all of them in one pass"));
  Engine<models::Small<Norm::deep, Ffn::geglu, Mask::bidirectional>, fp64> whole_rows_only(device);
  CHECK_THROWS_WITH(whole_rows_only.generate(make_prompt({1, 2, 3}, special), greedy, special), Catch::Matchers::Contains("Mask::bidirectional"));
}

TEST_CASE("decoding allocates nothing, and buffers hold what the plan says, within 5%") {
  constexpr Quant q{.bits = 4, .group = 32};
  const RandomWeights<glm_tiny> weights;
  cpu::Device device({.threads = 1});
  Engine<glm_tiny, quantized<q>> engine(device);
  engine.load_weights(weights);
  const InferenceMemory plan = plan_inference<glm_tiny, quantized<q>>();
  CHECK(static_cast<double>(device.memory().of("weights")) == Approx(static_cast<double>(plan.weights)).epsilon(0.05));
  CHECK(static_cast<double>(device.memory().of("key-value cache")) == Approx(static_cast<double>(plan.key_value_cache)).epsilon(0.05));
  CHECK(static_cast<double>(device.memory().of("activations")) == Approx(static_cast<double>(plan.activations)).epsilon(0.05));
  Sampling sampling{.max_tokens = 8, .min_tokens = 8};
  std::vector<std::int64_t> allocations;
  engine.generate(make_prompt({1, 2, 3}, special), sampling, special, [&](std::int32_t) {
    allocations.push_back(device.memory().allocations());
    return true;
  });
  REQUIRE(allocations.size() == 8);
  for (std::size_t i = 2; i < 8; ++i) CHECK(allocations[i] == allocations[1]);  // the first passes over a prompt and over one token have made room
}
