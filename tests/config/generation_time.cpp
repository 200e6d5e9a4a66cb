// Times of generation against what can be counted by hand of GLM-130B: bytes a token, and the bounds that follow.
// SPDX-License-Identifier: Apache-2.0
#include "golem/config/generation_time.hpp"

#include "catch.hpp"
#include "golem/config/presets.hpp"

using namespace golem;

namespace {

constexpr ModelConfig engine_model = glm_130b::config;

template <int bits, int group = 0>
using weights = quantized<Quant{.bits = bits, .group = group}, fp16>;

constexpr Efficiency all{.products = 1, .attention = 1, .memory = 1, .links = 1};

/// A machine that only reads, at what a copy reaches on an H200.
constexpr Hardware reader() {
  Hardware h = h200;
  h.fp16 = 1e30, h.bandwidth = 4.3e12, h.inside = {1e30, 0};
  return h;
}

// Linear matrices, their scales, the embedding in fp16 (its head reads all of it), biases and norms.
static_assert(token_bytes<weights<8>>(engine_model, 1, 0) == 126'835'752'960.0 + 2 * 8'888'320 + 2 * (1'849'688'064.0 + 8'888'320 + 3'465'216));
static_assert(token_bytes<quantized<Quant{.bits = 8}, fp16_exact>>(engine_model, 1, 0) == 130'577'612'800.0 + 4 * 126'835'752'960.0);  // made fp16, written and read again
static_assert(weight_bytes<weights<8>>(engine_model) == 130'577'612'800);
static_assert(weight_bytes<weights<4>>(engine_model) == 67'159'736'320);
static_assert(weight_bytes<weights<4, 128>>(engine_model) == 69'123'768'320);
static_assert(weight_bytes<weights<4, 32>>(engine_model) == 75'069'194'240);
static_assert(key_value_bytes<fp16>(engine_model) == 3'440'640);
static_assert(key_value_bytes<fp16>(engine_model, 8) == 430'080);
static_assert(key_value_bytes<fp16>(engine_model.with([](auto& c) { c.kv_heads = 8; }), 8) == 430'080 * 8 / 96);

/// Tokens whose keys and values fit beside the weights, 2 GB kept free.
template <class P>
constexpr std::int64_t room() {
  return (h200.memory - 2'000'000'000 - weight_bytes<P>(engine_model)) / key_value_bytes<P>(engine_model);
}
static_assert(room<weights<8>>() == 5283 && room<weights<4>>() == 23715 && room<weights<4, 128>>() == 23144 && room<weights<4, 32>>() == 21416);

}  // namespace

TEST_CASE("a token takes what its weights and its cache take to read") {
  const auto ms = [](int sequences, int length) { return 1e3 * generation_times<weights<4, 128>>(engine_model, reader(), 1, sequences, length, all).token; };
  CHECK(ms(1, 256) == Approx(16.3).margin(0.05));
  CHECK(ms(1, 2048) == Approx(17.7).margin(0.05));
  CHECK(ms(32, 256) == Approx(22.6).margin(0.05));
  CHECK(ms(8, 2048) == Approx(29.2).margin(0.05));
  CHECK(generation_times<weights<4, 128>>(engine_model, reader(), 1, 8, 2048, all).tokens_per_second == Approx(274).margin(1));
  CHECK(1 / generation_times<weights<8>>(engine_model, reader(), 1, 1, 0, all).token == Approx(32.9).margin(0.05));
}

TEST_CASE("a prompt takes what its products take, and a large batch computes longer than it reads") {
  Hardware h = reader();
  h.fp16 = 790e12;
  const GenerationTimes t = generation_times<weights<4>>(engine_model, h, 1, 1, 2048, all);
  const double products = (2048.0 * 70 * (linear_flops(engine_model) + attention_flops(engine_model, 2048)) + head_flops(engine_model)) / 790e12;
  CHECK(products == Approx(0.676).epsilon(0.02));
  const double making = (67'159'736'320.0 + 2 * 126'835'752'960.0) / 4.3e12;  // elements of the weights are written first
  CHECK(t.prompt == Approx(products + making));
  const GenerationTimes few = generation_times<weights<4>>(engine_model, h, 1, 1, 127, all), many = generation_times<weights<4>>(engine_model, h, 1, 1, 128, all);
  CHECK(few.prompt == Approx((127.0 * 70 * (linear_flops(engine_model) + attention_flops(engine_model, 127)) + head_flops(engine_model)) / 790e12));
  CHECK(many.prompt == Approx(making + 2 * 126'835'752'960.0 / 4.3e12));  // which are read longer than 128 tokens are multiplied
  const double read = token_bytes<weights<4>>(engine_model, 1000, 1) / 4.3e12;
  CHECK(generation_times<weights<4>>(engine_model, h, 1, 10, 1, all).token == Approx(token_bytes<weights<4>>(engine_model, 10, 1) / 4.3e12));
  CHECK(generation_times<weights<4>>(engine_model, h, 1, 1000, 1, all).token > 2 * read);
}

TEST_CASE("ranks share the work, and wait for each other 141 times a pass and once for the logits") {
  Hardware h = reader();
  h.inside = {1e30, 1e-6};
  const GenerationTimes one = generation_times<weights<4>>(engine_model, h, 1, 1, 256, all), eight = generation_times<weights<4>>(engine_model, h, 8, 1, 256, all);
  CHECK(one.tensor_token == 0);
  CHECK(eight.tensor_token == Approx(141 * 14e-6 + 7e-6));
  CHECK(eight.token - eight.tensor_token == Approx(one.token / 8).epsilon(0.01));  // norms and some biases are on every rank
}
